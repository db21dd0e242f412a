import numpy as np

from pipelines.models import Candidates
from pipelines.pixels.images import encode
from pipelines.pixels.masks import from_rle
from pipelines.settings import SegmentSettings
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


class Looking:
    """Cuts what is red inside the box; remembers the sizes of what it was shown."""

    def __init__(self):
        self.sizes = []

    def __call__(self, images, prompts):
        for image, some in zip(images, prompts, strict=True):
            self.sizes.append(image.shape[:2])
            masks = []
            for left, top, right, bottom in np.asarray(some).astype(int):
                inside = np.zeros(image.shape[:2], bool)
                inside[top:bottom, left:right] = True
                masks.append(inside & (image[..., 0] > 100))
            yield [Candidates(mask[None], np.array([0.9], np.float32)) for mask in masks]


def test_with_room_each_box_is_looked_at_by_itself_and_its_mask_lies_where_it_was():
    picture, looking = np.zeros((200, 300, 3), np.uint8), Looking()
    picture[20:40, 30:60] = picture[150:170, 270:299] = (200, 0, 0)
    row = {**ROW, "image_bytes": encode(picture, "png"), "boxes_xyxy": [[30, 20, 60, 40], [265, 150, 299, 171]]}

    (update,) = Segment(SETTINGS.model_copy(update={"room": 0.5}), looking)([row])

    first, second = (from_rle(rle) for rle in update["object_masks_rle"])
    assert looking.sizes == [(60, 60), (68, 68)]
    assert first.sum() == 20 * 30
    assert first[20:40, 30:60].all()
    assert second.sum() == 20 * 29
    assert second[150:170, 270:299].all()


def test_without_room_or_with_points_the_whole_picture_is_looked_at_once():
    looking = Looking()
    boxes = {**ROW, "boxes_xyxy": [[0, 0, 5, 5], [1, 1, 9, 9]]}

    Segment(SETTINGS, looking)([boxes])

    assert looking.sizes == [(20, 30)]
