import numpy as np
import pytest

from pipelines.pixels.seams import expansion, seam_gradient

GRAIN = np.random.default_rng(0).integers(118, 139, (64, 80, 3)).astype(np.uint8)
SQUARE = np.zeros((64, 80), np.bool_)
SQUARE[20:44, 24:56] = True
EVERYTHING = np.ones_like(SQUARE)


def test_no_outline_no_seam():
    assert seam_gradient(GRAIN, GRAIN, ~EVERYTHING) is None
    assert seam_gradient(GRAIN, GRAIN, EVERYTHING) is None


def test_untouched_picture_has_ratio_one():
    seam = seam_gradient(GRAIN, GRAIN, SQUARE)

    assert seam.picture == seam.source > 0
    assert seam.ratio == 1


def test_step_at_the_outline_is_a_seam_and_counts_in_full_by_hand():
    flat = np.full((64, 80, 3), 100, np.uint8)
    half = np.zeros_like(SQUARE)
    half[:, :40] = True
    stepped = np.where(half[..., None], np.uint8(140), flat)

    seam = seam_gradient(stepped, flat, half, ring_px=8)

    # 40 levels over two pixels are seen by one column on either side: 2 of 8 columns with 20 levels a pixel.
    assert seam.picture == pytest.approx(5)
    assert seam.source == 0
    assert seam.ratio == pytest.approx(10)


def test_seam_of_hue_alone_counts():
    grey, tinted = np.full((64, 80, 3), 128, np.uint8), np.full((64, 80, 3), (168, 108, 128), np.uint8)

    assert seam_gradient(np.where(SQUARE[..., None], tinted, grey), grey, SQUARE).ratio > 2


def test_smoothed_ring_is_below_one():
    assert seam_gradient(np.full_like(GRAIN, 128), GRAIN, SQUARE).ratio < 0.2


def test_one_level_on_pure_white_is_no_seam():
    white = np.full((64, 80, 3), 255, np.uint8)

    assert seam_gradient(np.where(SQUARE[..., None], np.uint8(254), white), white, SQUARE).ratio == 1


def test_what_happens_beyond_the_ring_does_not_count():
    far = GRAIN.copy()
    far[:8], far[30:34, 38:42] = 0, 255

    assert seam_gradient(far, GRAIN, SQUARE).ratio == 1


def test_border_of_the_picture_is_no_outline():
    flat = np.full((64, 80, 3), 100, np.uint8)
    left = np.zeros_like(SQUARE)
    left[:, :40] = True
    bright_edge = flat.copy()
    bright_edge[:, :20] = 200

    assert seam_gradient(bright_edge, flat, left).ratio == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_thinnest_pictures_have_an_answer(shape):
    mask = np.zeros(shape, np.bool_)
    mask.flat[0] = True
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)

    seam = seam_gradient(picture, picture, mask)

    assert (seam is None) == (shape == (1, 1))
    assert seam is None or seam.ratio == 1


def test_ring_is_even_and_pictures_are_of_one_size():
    with pytest.raises(ValueError, match="a ring of 3 pixels; expected an even number"):
        seam_gradient(GRAIN, GRAIN, SQUARE, ring_px=3)
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) and \(H, W\)"):
        seam_gradient(GRAIN[1:], GRAIN, SQUARE)


def test_product_that_grew_by_a_tenth():
    after = SQUARE.copy()
    after[19, 24:56], after[44, 24:56] = True, True
    after[18, 24:36] = True

    assert expansion(SQUARE, SQUARE) == 0
    assert expansion(SQUARE, after) == pytest.approx((32 + 32 + 12) / (24 * 32))


def test_product_that_shrank_or_was_not_found_has_not_expanded():
    smaller = SQUARE.copy()
    smaller[20:30] = False

    assert expansion(SQUARE, smaller) == 0
    assert expansion(SQUARE, ~EVERYTHING) == 0


def test_product_that_moved_has_expanded_by_what_it_newly_covers():
    assert expansion(SQUARE, np.roll(SQUARE, 8, axis=1)) == 8 / 32


def test_expansion_of_nothing_or_of_another_picture_is_refused():
    with pytest.raises(ValueError, match="the mask before is empty"):
        expansion(~EVERYTHING, SQUARE)
    with pytest.raises(ValueError, match="expected the same picture's"):
        expansion(SQUARE, SQUARE[1:])
