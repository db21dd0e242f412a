import numpy as np
import pytest

from pipelines.models.closed_form import band_px, closed_form_matting
from pipelines.pixels.cutouts import core, hard_cutout, on_colour

SIZE = 60, 72
BACK = np.array((40, 160, 60), float)
FRONT = np.array((220, 60, 40), float)


def a_disc(radius_px, softness_px=3.0, back=BACK):
    """A disc of one colour on another with a soft edge: the picture, and its exact alpha."""
    rows, columns = np.indices(SIZE)
    alpha = np.clip(0.5 + (radius_px - np.hypot(rows - 30, columns - 36)) / softness_px, 0, 1)
    mixed = alpha[..., None] * FRONT + (1 - alpha[..., None]) * back
    return np.rint(mixed).astype(np.uint8), alpha


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)


def test_an_empty_mask_gives_a_transparent_cutout():
    cutout = closed_form_matting(noise(), np.zeros(SIZE, bool))

    assert not cutout.alpha.any()
    assert not cutout.rgb.any()


def test_a_mask_of_everything_gives_the_picture():
    rgb = noise()

    cutout = closed_form_matting(rgb, np.ones(SIZE, bool))

    assert core(cutout).all()
    np.testing.assert_array_equal(cutout.rgb, rgb)


def test_a_soft_edge_is_found_from_a_hard_mask():
    rgb, alpha = a_disc(20)

    cutout = closed_form_matting(rgb, alpha >= 0.5)

    by_matting = np.abs(cutout.alpha / 255 - alpha)[(alpha > 0) & (alpha < 1)].mean()
    by_mask = np.abs((alpha >= 0.5) - alpha)[(alpha > 0) & (alpha < 1)].mean()
    assert by_mask > 0.2
    assert by_matting < 0.06


def test_the_old_background_does_not_glow_at_the_edge():
    rgb, alpha = a_disc(20)

    cutout = closed_form_matting(rgb, alpha >= 0.5)

    seen = cutout.alpha > 25
    assert np.abs(cutout.rgb[seen] - FRONT).max() < 30
    on_white = on_colour(cutout, (255, 255, 255)).astype(float)
    truth = alpha[..., None] * FRONT + (1 - alpha[..., None]) * 255
    halo = np.abs(on_white - truth)[(alpha > 0) & (alpha < 1)].mean()
    left = np.abs(on_colour(hard_cutout(rgb, alpha >= 0.5), (255, 255, 255)) - truth)[(alpha > 0) & (alpha < 1)].mean()
    assert halo < left / 3


def test_opaque_pixels_are_the_source_s_bit_for_bit_and_far_ones_are_empty():
    rgb = noise()
    product = np.zeros(SIZE, bool)
    product[10:50, 10:60] = True

    cutout = closed_form_matting(rgb, product)

    assert core(cutout)[15:45, 15:55].all()
    np.testing.assert_array_equal(cutout.rgb[core(cutout)], rgb[core(cutout)])
    assert not cutout.alpha[:5].any()
    assert not cutout.rgb[:5].any()


def test_the_same_picture_gives_the_same_cutout_bit_for_bit():
    rgb, alpha = a_disc(20)

    first, second = closed_form_matting(rgb, alpha >= 0.5), closed_form_matting(rgb.copy(), alpha >= 0.5)

    np.testing.assert_array_equal(first.alpha, second.alpha)
    np.testing.assert_array_equal(first.rgb, second.rgb)


def test_tiles_leave_no_seam():
    rgb, alpha = a_disc(20)

    whole = closed_form_matting(rgb, alpha >= 0.5)
    tiled = closed_form_matting(rgb, alpha >= 0.5, tile_px=16)

    assert np.abs(whole.alpha.astype(int) - tiled.alpha).max() <= 8
    difference = on_colour(whole, (255, 255, 255)).astype(int) - on_colour(tiled, (255, 255, 255))
    assert np.abs(difference).max() <= 12


def test_a_product_in_the_colour_of_its_background_keeps_the_mask_s_edge():
    grain = np.random.default_rng(0).normal(0, 1.3, (*SIZE, 1))
    rgb = np.rint(np.repeat(235 + grain, 3, axis=2)).astype(np.uint8)
    product = a_disc(20)[1] >= 0.5

    cutout = closed_form_matting(rgb, product)

    assert ((cutout.alpha >= 128) != product).mean() < 0.005
    assert np.abs(cutout.alpha / 255 - product).sum() < 0.5 * np.pi * 40  # less than half a pixel along the outline


@pytest.mark.parametrize(
    "window",
    [np.s_[30:31, 40:41], np.s_[0:1, 0:1], np.s_[0:60, 0:30], np.s_[0:60, 0:71], np.s_[20:22, :], np.s_[1:59, 1:71]],
    ids=["one pixel", "a corner", "half", "no sure background", "a line", "all but the rim"],
)
def test_odd_masks_give_a_sane_cutout(window):
    rgb, product = noise(), np.zeros(SIZE, bool)
    product[window] = True

    cutout = closed_form_matting(rgb, product)

    np.testing.assert_array_equal(cutout.rgb[core(cutout)], rgb[core(cutout)])
    assert cutout.alpha[product].mean() > 140
    assert cutout.alpha[~product].mean() < 100


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 40)])
def test_pictures_of_a_few_pixels_are_cut_too(size):
    product = np.zeros(size, bool)
    product[0, 0] = True

    assert closed_form_matting(np.full((*size, 3), 77, np.uint8), product).alpha[0, 0] == 255


def test_the_band_grows_with_the_product_within_its_limits():
    assert band_px(np.ones((30, 40), bool)) == 5
    assert band_px(np.ones((300, 400), bool)) == 15
    assert band_px(np.ones((1200, 1600), bool)) == 32


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"a picture of \(60, 72\) and a mask of \(72, 60\)"):
        closed_form_matting(noise(), np.zeros(SIZE[::-1], bool))
