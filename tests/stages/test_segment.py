import numpy as np

from pipelines.models import Candidates
from pipelines.models.per_box import PerBoxSegmenter
from pipelines.pixels.images import encode
from pipelines.pixels.masks import from_rle
from pipelines.recipe.settings import SegmentSettings
from pipelines.stages.segment import Segment

SETTINGS = SegmentSettings(checkpoint="embedded:segmenter")
IMAGE = encode(np.zeros((20, 30, 3), np.uint8), "png")
ROW = {"image_bytes": IMAGE, "given_mask_rle": None, "given_points": None}


def half(left):
    mask = np.zeros((20, 30), bool)
    mask[:, :15] = left
    mask[:, 15:] = not left
    return mask


class TwoReadings:
    """Answers the left half with a low, the right half with a high predicted IoU."""

    def __call__(self, images, prompts):
        for some in prompts:
            yield [Candidates(np.stack([half(True), half(False)]), np.array([0.3, 0.8], np.float32)) for _ in some]


def test_row_without_boxes_or_points_passes_by():
    assert Segment(SETTINGS, TwoReadings())([{**ROW, "boxes_xyxy": []}, ROW]) == [
        {},
        {},
    ]


def test_reading_with_the_highest_predicted_iou_is_taken_and_none_is_united():
    (update,) = Segment(SETTINGS, TwoReadings())([{**ROW, "boxes_xyxy": [[0, 0, 5, 5], [1, 1, 9, 9]]}])

    for rle in update["object_masks_rle"]:
        np.testing.assert_array_equal(from_rle(rle), half(False))
    np.testing.assert_allclose(update["mask_scores"], [0.8, 0.8], rtol=1e-6)


def test_points_are_one_prompt_and_give_way_to_a_given_mask():
    points = [[3.0, 4.0, 1.0], [20.0, 5.0, 0.0]]

    found, passed_by = Segment(SETTINGS, TwoReadings())(
        [{**ROW, "given_points": points}, {**ROW, "given_points": points, "given_mask_rle": {"size": [20, 30]}}]
    )

    assert len(found["object_masks_rle"]) == 1
    assert passed_by == {}


def test_with_a_crop_margin_each_box_is_segmented_in_a_crop_of_its_own():
    segment = Segment(SETTINGS.model_copy(update={"crop_margin": 0.5}), TwoReadings())

    assert isinstance(segment.segmenter, PerBoxSegmenter)
    assert segment.segmenter.crop_margin == 0.5
