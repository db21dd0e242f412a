import io

import numpy as np
import pytest
from PIL import Image

from pipelines.pixels.cutouts import (
    SURE_INSIDE,
    SURE_OUTSIDE,
    UNKNOWN,
    Cutout,
    core,
    from_png,
    hard_cutout,
    on_colour,
    to_png,
    trimap,
)


def a_mask(*boxes_xyxy, size_wh=(60, 50)):
    mask = np.zeros(size_wh[::-1], bool)
    for left, top, right, bottom in boxes_xyxy:
        mask[top:bottom, left:right] = True
    return mask


def a_cutout(alpha_row, rgb=(200, 100, 50)):
    alpha = np.array([alpha_row], np.uint8)
    return Cutout(np.full((*alpha.shape, 3), rgb, np.uint8), alpha)


def test_an_empty_mask_is_sure_outside_and_a_full_one_sure_inside():
    empty, full = np.zeros((7, 9), bool), np.ones((7, 9), bool)

    assert (trimap(empty, 3) == SURE_OUTSIDE).all()
    assert (trimap(full, 3) == SURE_INSIDE).all()
    assert trimap(np.zeros((0, 5), bool), 3).shape == (0, 5)


def test_the_band_reaches_as_far_to_both_sides_of_the_outline():
    parts = trimap(a_mask((20, 10, 50, 40)), 4)

    assert parts.dtype == np.uint8
    assert list(parts[25, 14:26]) == [0, 0] + [128] * 8 + [255, 255]


def test_a_band_of_nothing_leaves_nothing_unknown():
    mask = a_mask((20, 10, 50, 40))

    np.testing.assert_array_equal(trimap(mask, 0), np.where(mask, 255, 0))


def test_a_negative_band_is_refused():
    with pytest.raises(ValueError, match="a band of -1 pixels; expected 0 or more"):
        trimap(a_mask((20, 10, 50, 40)), -1)


@pytest.mark.parametrize("width_px", [1, 2, 5, 8])
def test_a_strap_narrower_than_the_band_keeps_a_sure_middle_all_along(width_px):
    strap = a_mask((0, 30, 60, 50), (28, 0, 28 + width_px, 30))

    sure = trimap(strap, 4) == SURE_INSIDE

    assert (sure & strap)[:22, 28 : 28 + width_px].any(axis=1).all()
    assert not (sure & ~strap).any()


@pytest.mark.parametrize("width_px", [1, 2, 5, 8])
def test_a_gap_narrower_than_the_band_keeps_a_sure_middle_all_along(width_px):
    gap = ~a_mask((0, 30, 60, 50), (28, 0, 28 + width_px, 30))

    sure = trimap(gap, 4) == SURE_OUTSIDE

    assert (sure & ~gap)[:22, 28 : 28 + width_px].any(axis=1).all()
    assert not (sure & gap).any()


def test_a_mask_of_one_pixel_is_sure_of_that_pixel():
    parts = trimap(a_mask((30, 20, 31, 21)), 3)

    assert np.argwhere(parts == SURE_INSIDE).tolist() == [[20, 30]]
    assert (parts == UNKNOWN).sum() == 28  # the other pixels within 3 of it


def test_the_picture_s_border_is_no_outline():
    parts = trimap(a_mask((0, 0, 30, 50)), 3)

    assert (parts[:, :27] == SURE_INSIDE).all()
    assert (parts[:, 27:33] == UNKNOWN).all()
    assert (parts[:, 33:] == SURE_OUTSIDE).all()


def test_a_hard_cutout_is_the_source_inside_and_nothing_outside():
    rgb = np.random.default_rng(0).integers(1, 256, (50, 60, 3), np.uint8)
    mask = a_mask((20, 10, 50, 40))

    cutout = hard_cutout(rgb, mask)

    np.testing.assert_array_equal(cutout.rgb[mask], rgb[mask])
    assert not cutout.rgb[~mask].any()
    np.testing.assert_array_equal(core(cutout), mask)


def test_shapes_and_types_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"rgb has shape \(4, 5, 3\) and its alpha \(5, 4\)"):
        Cutout(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8))
    with pytest.raises(ValueError, match="a cut-out of uint8 and float64; expected uint8"):
        Cutout(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"a picture of \(4, 5\) and a mask of \(5, 4\)"):
        hard_cutout(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), bool))


def test_on_a_colour_opaque_pixels_are_their_own_and_the_rest_is_the_colour():
    shown = on_colour(a_cutout([0, 255]), (255, 254, 3))

    assert shown.tolist() == [[[255, 254, 3], [200, 100, 50]]]


def test_a_blend_with_the_same_colour_changes_nothing_at_any_alpha():
    cutout = a_cutout(range(256), rgb=(201, 100, 1))

    assert (on_colour(cutout, (201, 100, 1)) == (201, 100, 1)).all()


def test_a_blend_rounds_to_the_nearest_level():
    shown = on_colour(a_cutout(range(256), rgb=(201, 100, 1)), (255, 255, 255))

    share = np.arange(256)[:, None] / 255
    np.testing.assert_array_equal(shown[0], np.rint(share * (201, 100, 1) + (1 - share) * 255))


def test_a_png_file_gives_back_the_same_cutout():
    rng = np.random.default_rng(1)
    cutout = Cutout(rng.integers(0, 256, (6, 7, 3), np.uint8), rng.integers(0, 256, (6, 7), np.uint8))

    encoded = to_png(cutout)

    back = from_png(encoded)
    np.testing.assert_array_equal(back.rgb, cutout.rgb)
    np.testing.assert_array_equal(back.alpha, cutout.alpha)
    assert Image.open(io.BytesIO(encoded)).mode == "RGBA"


def test_a_file_without_transparency_is_opaque():
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (9, 8, 7)).save(file, "PNG")

    assert (from_png(file.getvalue()).alpha == 255).all()
