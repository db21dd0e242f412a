import numpy as np

from pipelines.models import Candidates
from pipelines.pixels.images import encode
from pipelines.pixels.masks import from_rle
from pipelines.recipe import SegmentSettings
from pipelines.stages.segment import Segment

SETTINGS = SegmentSettings(checkpoint="embedded:segmenter")
IMAGE = encode(np.zeros((20, 30, 3), np.uint8), "png")


def half(left):
    mask = np.zeros((20, 30), bool)
    mask[:, :15] = left
    mask[:, 15:] = not left
    return mask


class TwoReadings:
    """Answers the left half with a low, the right half with a high predicted IoU."""

    def __call__(self, images, boxes_xyxy):
        for boxes in boxes_xyxy:
            yield [Candidates(np.stack([half(True), half(False)]), np.array([0.3, 0.8], np.float32)) for _ in boxes]


def test_row_without_boxes_passes_by():
    assert Segment(SETTINGS, TwoReadings())([{"image_bytes": IMAGE, "boxes_xyxy": []}, {"image_bytes": IMAGE}]) == [
        {},
        {},
    ]


def test_reading_with_the_highest_predicted_iou_is_taken_and_none_is_united():
    (update,) = Segment(SETTINGS, TwoReadings())([{"image_bytes": IMAGE, "boxes_xyxy": [[0, 0, 5, 5], [1, 1, 9, 9]]}])

    for rle in update["object_masks_rle"]:
        np.testing.assert_array_equal(from_rle(rle), half(False))
    np.testing.assert_allclose(update["mask_scores"], [0.8, 0.8], rtol=1e-6)
