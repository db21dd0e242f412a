import numpy as np
import pytest

from pipelines.pixels.overlap import boundary_iou, mask_iou, rim


def a_square(left, top, side, picture_px=200):
    mask = np.zeros((picture_px, picture_px), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_masks_share_what_both_cover():
    assert mask_iou(a_square(0, 0, 10), a_square(0, 0, 10)) == 1
    assert mask_iou(a_square(0, 0, 10), a_square(5, 0, 10)) == pytest.approx(1 / 3)
    assert mask_iou(a_square(0, 0, 10), a_square(50, 50, 10)) == 0
    assert mask_iou(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == 1


def test_rim_has_its_width_on_every_side_also_at_the_border_of_the_picture():
    assert rim(a_square(20, 20, 10), 2).sum() == 10 * 10 - 6 * 6
    assert rim(a_square(0, 0, 10), 2).sum() == 10 * 10 - 6 * 6
    assert rim(a_square(20, 20, 10), 5).sum() == 10 * 10


def test_boundary_iou_sees_an_outline_that_the_mask_iou_forgives():
    true, off = a_square(50, 50, 100), a_square(53, 50, 100)

    # Rims of 6 pixels, 2 % of the diagonal, share 97 columns of the level sides and 3 of the 6 of each upright one.
    shared, each = 2 * 6 * 97 + 2 * 3 * 88, 100 * 100 - 88 * 88
    by_hand = shared / (2 * each - shared)

    assert mask_iou(true, off) > 0.94
    assert boundary_iou(true, off) == pytest.approx(by_hand)
    assert boundary_iou(true, off) < 0.65
    assert boundary_iou(true, true) == 1
