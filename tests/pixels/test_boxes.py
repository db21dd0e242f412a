import subprocess
import sys

import numpy as np
import pytest

from pipelines.pixels.boxes import area_fraction, clip, nms, square_with_margin

NONE = np.zeros((0, 4), np.float32)


def boxes(*corners):
    return np.array(corners, np.float32)


def test_no_boxes_stay_no_boxes():
    assert clip(NONE, (10, 20)).shape == (0, 4)
    assert area_fraction(NONE, (10, 20)).shape == (0,)
    assert nms(NONE, np.zeros(0, np.float32), 0.5).tolist() == []


def test_box_outside_becomes_an_empty_one_on_the_border():
    np.testing.assert_array_equal(clip(boxes([-9, -9, -1, -1], [5, 5, 99, 99]), (10, 8)), [[0, 0, 0, 0], [5, 5, 10, 8]])


def test_area_counts_only_what_is_in_the_picture():
    np.testing.assert_allclose(area_fraction(boxes([0, 0, 5, 4], [5, 0, 15, 8], [3, 3, 3, 9]), (10, 8)), [0.25, 0.5, 0])


def test_area_of_a_picture_without_pixels_is_refused():
    with pytest.raises(ValueError, match="0 x 8 pixels has no area"):
        area_fraction(NONE, (0, 8))


def test_the_better_of_two_overlapping_boxes_stays_and_the_best_comes_first():
    overlapping = boxes([0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60])

    assert nms(overlapping, np.array([0.5, 0.6, 0.9], np.float32), 0.5).tolist() == [2, 1]
    assert nms(overlapping, np.array([0.5, 0.6, 0.9], np.float32), 0.9).tolist() == [2, 1, 0]


@pytest.mark.parametrize("wrong", [np.zeros(4), np.zeros((2, 3)), np.zeros((0,))])
def test_boxes_of_another_shape_are_refused(wrong):
    with pytest.raises(ValueError, match=r"expected \(N, 4\)"):
        clip(wrong, (10, 10))


def test_scores_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"1 boxes have scores of shape \(2,\)"):
        nms(boxes([0, 0, 1, 1]), np.zeros(2, np.float32), 0.5)


def test_importing_the_pixels_loads_neither_torch_nor_ray():
    modules = "boxes, colour, composite, images, masks"
    heavy = "{'torch', 'torchvision', 'ray'} & set(sys.modules)"
    code = f"import sys; from pipelines.pixels import {modules}; print({heavy})"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert shown.strip() == "set()"


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ([40, 40, 60, 50], 0.5, (30, 25, 70, 65)),
        ([0, 0, 10, 10], 0.5, (0, 0, 20, 20)),
        ([90, 70, 100, 80], 0.5, (80, 60, 100, 80)),
        ([0, 0, 100, 80], 1.0, (0, 0, 100, 80)),
        ([5, 5, 5, 5], 1.0, (4, 4, 5, 5)),
        ([100, 80, 100, 80], 1.0, (99, 79, 100, 80)),
    ],
)
def test_margin_round_a_box_stays_inside_the_picture(box, margin, expected):
    assert square_with_margin(np.array(box, np.float32), margin, (100, 80)) == expected
