"""What models look at: letterboxes, context regions and neutral crops."""

import numpy as np
import pytest

from pipelines.pixels.crops import context_region, cut, cut_mask, letterbox, neutral_crop


def a_mask(height, width, left, top, right, bottom):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_letterbox_keeps_the_picture_top_left_and_pads_with_grey():
    square, scale = letterbox(np.full((100, 200, 3), 7, np.uint8), 64)

    assert scale == 0.32
    assert (square[:32] == 7).all()
    assert (square[32:] == 128).all()


def test_letterbox_of_a_thin_picture_keeps_at_least_one_row():
    square, _ = letterbox(np.zeros((1, 900, 3), np.uint8), 64)

    assert (square[0] == 0).all()
    assert (square[1:] == 128).all()


def test_letterbox_of_nothing_says_what_it_needs():
    with pytest.raises(ValueError, match="expected at least 1 x 1"):
        letterbox(np.zeros((0, 10, 3), np.uint8), 64)


def test_context_region_of_an_empty_mask_is_an_error():
    with pytest.raises(ValueError, match="the mask is empty"):
        context_region(np.zeros((50, 50), bool), 32)


def test_context_region_is_a_square_round_the_mask_with_krita_s_padding():
    left, top, right, bottom = context_region(a_mask(1000, 1000, 400, 400, 600, 600), 64)

    assert (left, top, right, bottom) == (
        300,
        300,
        700,
        700,
    )  # half of the mean side is 100, 1/16 of the longest is 62.5


def test_context_region_of_a_small_mask_is_padded_by_a_sixteenth_and_a_multiple_of_8():
    left, top, right, bottom = context_region(a_mask(1600, 1600, 800, 800, 804, 804), 16)

    assert right - left == bottom - top == 208  # 4 + 2 * 100, rounded up
    assert left <= 800
    assert right >= 804


def test_context_region_is_shifted_inside_the_picture():
    assert context_region(a_mask(900, 900, 0, 880, 20, 900), 256) == (0, 644, 256, 900)


def test_context_region_reaches_beyond_a_narrow_picture_on_both_sides():
    left, top, right, bottom = context_region(a_mask(600, 100, 20, 300, 80, 360), 256)

    assert (left, right) == (-78, 178)
    assert 0 <= top < bottom <= 600


def test_context_region_is_no_larger_than_the_picture_needs():
    region = context_region(np.ones((500, 300), bool), 64)

    assert region == (-102, -2, 402, 502)  # 504 is the multiple of 8 that holds the longest side


@pytest.mark.parametrize("seed", range(20))
def test_context_region_always_holds_the_mask(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(60, 700, 2)
    left, top = rng.integers(0, width - 20), rng.integers(0, height - 20)
    mask = a_mask(height, width, left, top, left + rng.integers(1, 20), top + rng.integers(1, 20))

    x0, y0, x1, y1 = context_region(mask, 64)

    assert x1 - x0 == y1 - y0
    assert (x1 - x0) % 8 == 0
    assert cut_mask(mask, (x0, y0, x1, y1), x1 - x0).sum() == mask.sum()


def test_cut_at_its_own_size_gives_the_same_pixels():
    rgb = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)

    np.testing.assert_array_equal(cut(rgb, (10, 20, 42, 52), 32), rgb[20:52, 10:42])


def test_cut_repeats_the_edge_beyond_the_picture():
    rgb = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)

    region = cut(rgb, (-4, 0, 12, 16), 16)

    np.testing.assert_array_equal(region[:8, :5], np.repeat(rgb[:, :1], 5, 1))
    np.testing.assert_array_equal(region[8:, 4:12], np.repeat(rgb[-1:], 8, 0))


def test_cut_mask_is_false_beyond_the_picture():
    region = cut_mask(np.ones((8, 8), bool), (-4, -4, 12, 12), 16)

    np.testing.assert_array_equal(region, a_mask(16, 16, 4, 4, 12, 12))


@pytest.mark.parametrize("side_px", [10, 16, 50, 64, 100, 177])
def test_cut_mask_never_loses_a_single_pixel(side_px):
    for at in range(0, 100, 7):
        mask = a_mask(100, 100, at, 0, at + 1, 100)

        assert cut_mask(mask, (0, 0, 100, 100), side_px).any(1).all()


def test_cut_mask_of_an_empty_mask_is_empty():
    assert not cut_mask(np.zeros((30, 30), bool), (0, 0, 24, 24), 16).any()


def test_neutral_crop_shows_the_product_alone_in_the_middle_of_grey():
    rgb = np.zeros((100, 100, 3), np.uint8)
    mask = a_mask(100, 100, 30, 10, 50, 90)
    rgb[mask] = (200, 10, 10)

    crop = neutral_crop(rgb, mask, 92)

    assert (crop[46, 46] == (200, 10, 10)).all()
    assert (crop[:4] == 128).all()
    assert (crop[:, :30] == 128).all()
    assert not (crop == 0).any()


def test_neutral_crop_of_an_empty_mask_is_an_error():
    with pytest.raises(ValueError, match="the mask is empty"):
        neutral_crop(np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10), bool), 16)
