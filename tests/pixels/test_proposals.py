import numpy as np
import pytest

from pipelines.pixels.crops import neutral_crop
from pipelines.pixels.masks import from_rle, to_rle
from pipelines.pixels.proposals import (
    enlarged,
    product_crop,
    united,
    within_shares,
    without_doubles,
)


def a_mask(left, top, right, bottom, size_hw=(20, 40)):
    mask = np.zeros(size_hw, bool)
    mask[top:bottom, left:right] = True
    return mask


def rles(*boxes):
    return [to_rle(a_mask(*box)) for box in boxes]


def disc(side, radius):
    y, x = np.mgrid[:side, :side] + 0.5
    return (x - side / 2) ** 2 + (y - side / 2) ** 2 <= (radius * side) ** 2


def test_no_masks_stay_no_masks():
    assert within_shares([], 0, 1).tolist() == []
    assert without_doubles([], np.zeros(0, np.float32), 0.5).tolist() == []


def test_masks_that_are_too_small_or_too_large_go_and_the_limits_stay():
    masks = rles((0, 0, 1, 1), (0, 0, 4, 4), (0, 0, 40, 10), (0, 0, 40, 20))

    assert within_shares(masks, 16 / 800, 0.5).tolist() == [1, 2]


def test_of_two_masks_that_overlap_the_better_one_stays_and_the_best_comes_first():
    masks = rles((0, 0, 10, 10), (0, 0, 10, 9), (20, 0, 30, 10))

    assert without_doubles(masks, np.array([0.5, 0.6, 0.9], np.float32), 0.8).tolist() == [2, 1]
    assert without_doubles(masks, np.array([0.5, 0.6, 0.9], np.float32), 0.95).tolist() == [2, 1, 0]


def test_of_equal_scores_the_earlier_mask_stays():
    assert without_doubles(rles((0, 0, 9, 9), (0, 0, 9, 9)), np.array([0.5, 0.5], np.float32), 0.8).tolist() == [0]


def test_masks_with_one_box_are_no_doubles():
    frame = a_mask(0, 0, 20, 20) & ~a_mask(2, 2, 18, 18)

    kept = without_doubles([to_rle(a_mask(0, 0, 20, 20)), to_rle(frame)], np.array([0.9, 0.8], np.float32), 0.8)

    assert kept.tolist() == [0, 1]


def test_every_mask_needs_a_score():
    with pytest.raises(ValueError, match="2 masks have 1 scores; expected one each"):
        without_doubles(rles((0, 0, 1, 1), (0, 0, 2, 2)), np.array([0.5], np.float32), 0.8)


def test_union_is_true_wherever_one_mask_is():
    whole = united(rles((0, 0, 10, 10), (5, 5, 30, 15)))

    np.testing.assert_array_equal(from_rle(whole), a_mask(0, 0, 10, 10) | a_mask(5, 5, 30, 15))
    assert whole == to_rle(from_rle(whole))


def test_union_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no masks to unite; expected at least one"):
        united([])


def test_mask_of_the_picture_s_own_size_and_an_empty_one_are_not_touched():
    mask = a_mask(3, 4, 9, 8)

    np.testing.assert_array_equal(enlarged(mask, (20, 40)), mask)
    assert not enlarged(np.zeros((4, 4), bool), (9, 9)).any()


def test_enlarged_mask_has_the_outline_of_the_large_one_without_steps():
    small, large = disc(64, 0.3), disc(1024, 0.3)

    off = enlarged(small, (1024, 1024)) ^ large
    stepped = np.kron(small, np.ones((16, 16), bool)) ^ large

    assert off.mean() < 0.006
    assert off.sum() < stepped.sum()


def test_mask_at_the_border_is_enlarged_to_the_border():
    full = enlarged(a_mask(0, 0, 10, 20), (61, 117))

    assert full[:, 0].all()
    assert abs(int(full.any(0).sum()) - 10 * 117 / 40) <= 1


def test_hair_s_width_survives_enlargement():
    mask = a_mask(7, 0, 8, 20)

    for size_hw in [(23, 47), (31, 59), (200, 400)]:
        assert enlarged(mask, size_hw).any(1).all()


def test_crop_of_a_mask_at_full_size_is_the_neutral_crop():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    mask = a_mask(10, 3, 22, 15)

    np.testing.assert_array_equal(product_crop(rgb, mask, 16), neutral_crop(rgb, mask, 16))


def test_crop_of_a_smaller_copy_s_mask_shows_the_picture_s_own_pixels():
    rgb = np.full((200, 400, 3), 255, np.uint8)
    rgb[50:100, 100:160] = (200, 0, 0)

    crop = product_crop(rgb, a_mask(10, 5, 16, 10), 64)

    assert crop.shape == (64, 64, 3)
    assert tuple(crop[32, 32]) == (200, 0, 0)
    assert tuple(crop[0, 0]) == (128, 128, 128)
    assert (crop == 255).all(2).mean() < 0.06


def test_crop_of_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="the mask is empty"):
        product_crop(np.zeros((20, 40, 3), np.uint8), np.zeros((20, 40), bool), 8)
