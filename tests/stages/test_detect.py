import numpy as np
import pytest

from pipelines.models import Found
from pipelines.pixels.images import encode
from pipelines.recipe.settings import DetectSettings
from pipelines.stages.detect import Detect

IMAGE = encode(np.zeros((100, 200, 3), np.uint8), "png")


class Answers:
    """Finds what it was told to."""

    def __init__(self, *boxes_and_scores):
        self.boxes = np.array([box for box, _ in boxes_and_scores], np.float32).reshape(-1, 4)
        self.scores = np.array([score for _, score in boxes_and_scores], np.float32)
        self.asked = []

    def __call__(self, images, prompts):
        self.asked += prompts
        return [Found(self.boxes, self.scores, ("a cup",) * len(self.scores))] * len(images)


def a_row(prompt, **given):
    row = {"image_bytes": IMAGE, "given_mask_rle": None, "given_boxes_xyxy": None, "given_points": None}
    return {**row, "find_prompt": prompt, **given}


def detect(answers, **settings):
    stage = Detect(DetectSettings(checkpoint="embedded:detector", **settings), answers)
    (update,) = stage(
        [
            {
                "image_bytes": IMAGE,
                "given_mask_rle": None,
                "given_boxes_xyxy": None,
                "given_points": None,
                "find_prompt": "a cup",
            }
        ]
    )
    return update


def test_image_without_a_match_is_rejected_and_says_so():
    update = detect(Answers())

    assert update == {
        "boxes_xyxy": [],
        "box_scores": [],
        "box_labels": [],
        "ambiguous": False,
        "reason": "nothing_found",
    }


def test_boxes_come_best_first_without_doubles():
    update = detect(Answers(([0, 0, 10, 10], 0.5), ([50, 0, 60, 10], 0.9), ([0, 0, 10, 9], 0.6)))

    np.testing.assert_allclose(update["boxes_xyxy"], [[50, 0, 60, 10], [0, 0, 10, 9]])
    np.testing.assert_allclose(update["box_scores"], [0.9, 0.6], rtol=1e-6)
    assert "reason" not in update


def test_box_below_the_threshold_is_not_found():
    assert detect(Answers(([0, 0, 10, 10], 0.3)))["reason"] == "nothing_found"
    assert "reason" not in detect(Answers(([0, 0, 10, 10], 0.3)), min_score=0.2)


def test_box_over_nearly_everything_is_refused_but_shown():
    update = detect(Answers(([0, 0, 200, 98], 0.9)))

    assert update["reason"] == "box_too_large"
    assert len(update["boxes_xyxy"]) == 1


@pytest.mark.parametrize("score", [0.9, 0.4])
def test_small_box_wins_over_one_that_is_too_large(score):
    update = detect(Answers(([0, 0, 200, 98], 0.95), ([5, 5, 25, 25], score)))

    np.testing.assert_allclose(update["boxes_xyxy"], [[5, 5, 25, 25]])


def test_row_with_a_given_mask_passes_by_and_the_detector_is_not_asked():
    answers = Answers(([0, 0, 10, 10], 0.9))
    stage = Detect(DetectSettings(checkpoint="embedded:detector"), answers)
    rle = {"size": [100, 200], "counts": ""}

    updates = stage(
        [
            {
                "image_bytes": IMAGE,
                "given_mask_rle": rle,
                "given_boxes_xyxy": None,
                "given_points": None,
                "find_prompt": "a",
            },
            {
                "image_bytes": IMAGE,
                "given_mask_rle": None,
                "given_boxes_xyxy": None,
                "given_points": None,
                "find_prompt": "b",
            },
        ]
    )

    assert updates[0] == {}
    assert answers.asked == ["b"]
