import numpy as np
import pytest

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.layouts import in_studio


def cutout_of(height, width, top, bottom, left, right, edge=0):
    """A noisy product; `edge` is the alpha of the ring of one pixel round it."""
    alpha = np.zeros((height, width), np.uint8)
    alpha[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = edge
    alpha[top:bottom, left:right] = 255
    return Cutout(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8), alpha)


def corner_of(layout):
    product = ~layout.allow
    return int(np.argmax(product.any(axis=0))), int(np.argmax(product.any(axis=1)))


def test_transparent_cutout_is_refused():
    with pytest.raises(ValueError, match=r"transparent everywhere.*reject an empty product mask"):
        in_studio(cutout_of(9, 9, 4, 4, 4, 4))


def test_product_fills_what_was_asked_and_is_copied_bit_for_bit():
    cutout = cutout_of(200, 200, 20, 190, 60, 145, edge=90)

    layout = in_studio(cutout)

    assert layout.canvas.shape == (200, 200, 3)
    x, y = corner_of(layout)
    assert (x, y) == ((200 - 85) // 2, 15)
    np.testing.assert_array_equal(layout.canvas[y : y + 170, x : x + 85], cutout.rgb[20:190, 60:145])
    assert (~layout.allow).sum() == 170 * 85
    assert not layout.inpaint_mask.any()
    assert layout.at_xy == (x - 60, y - 20)
    assert in_studio(cutout, side_px=200).at_xy is None


@pytest.mark.parametrize("colour", [(255, 255, 255), (236, 12, 99)])
def test_far_background_is_exactly_the_colour_and_the_shadow_lies_below(colour):
    layout = in_studio(cutout_of(220, 220, 20, 200, 60, 150), colour_rgb=colour)

    x, y = corner_of(layout)
    changed = (layout.canvas != colour).any(axis=-1) & layout.allow
    assert changed[y + 180 : y + 184, x + 20 : x + 70].all()
    for border in (changed[0], changed[-1], changed[:, 0], changed[:, -1]):
        assert not border.any()
    assert not changed[: y + 150].any()


def test_no_shadow_leaves_the_bare_colour():
    layout = in_studio(cutout_of(100, 100, 20, 80, 20, 80), shadow_opacity=0)

    assert (layout.canvas[layout.allow] == 255).all()


def test_shadow_changes_no_pixel_of_the_product():
    cutout = cutout_of(100, 100, 20, 80, 20, 80, edge=128)

    dark, bare = in_studio(cutout, shadow_opacity=1), in_studio(cutout, shadow_opacity=0)

    np.testing.assert_array_equal(dark.canvas[~dark.allow], bare.canvas[~bare.allow])
    assert (dark.canvas != bare.canvas).any()


def test_free_aspect_leaves_the_same_space_on_all_sides():
    layout = in_studio(cutout_of(300, 300, 50, 250, 50, 150), aspect=None, fill=0.8)

    assert layout.canvas.shape == (250, 150, 3)
    assert corner_of(layout) == (25, 25)


def test_aspect_is_met_by_more_room_never_by_less():
    layout = in_studio(cutout_of(300, 300, 50, 250, 50, 150), aspect=1.5, fill=0.8)

    assert layout.canvas.shape == (250, 375, 3)


@pytest.mark.parametrize(
    ("box", "corner"),
    [
        ((0, 80, 20, 80), (7, 0)),  # cut off above
        ((20, 100, 20, 80), (7, 14)),  # below
        ((20, 80, 0, 80), (0, 7)),  # on the left
        ((20, 80, 20, 100), (14, 7)),  # on the right
    ],
)
def test_side_that_is_cut_off_lies_at_the_frame(box, corner):
    top, bottom, left, right = box

    layout = in_studio(cutout_of(100, 100, top, bottom, left, right), aspect=None)

    assert corner_of(layout) == corner


def test_product_cut_off_below_throws_no_shadow():
    layout = in_studio(cutout_of(100, 100, 20, 100, 20, 80))

    assert (layout.canvas[layout.allow] == 255).all()


def test_margin_is_kept_by_cut_off_sides_too():
    layout = in_studio(cutout_of(100, 100, 20, 100, 20, 80), margin=0.1, fill=0.8)

    assert layout.canvas.shape == (100, 100, 3)
    assert corner_of(layout) == (20, 10)
    assert layout.allow[90:].all()


def test_product_cut_off_on_both_sides_fills_the_frame_where_the_aspect_lets_it():
    band = cutout_of(100, 100, 30, 70, 0, 100)

    wide, tall = in_studio(band, aspect=1.0), in_studio(band, aspect=4.0)

    assert wide.canvas.shape == (100, 100, 3)
    assert corner_of(wide) == (0, 30)
    assert tall.canvas.shape[0] == 47
    assert corner_of(tall)[0] == (tall.canvas.shape[1] - 100) // 2


def test_picture_that_is_opaque_everywhere_is_its_own_frame():
    cutout = cutout_of(40, 60, 0, 40, 0, 60)

    layout = in_studio(cutout, aspect=None)

    np.testing.assert_array_equal(layout.canvas, cutout.rgb)
    assert not layout.allow.any()
    assert in_studio(cutout, aspect=1.0).canvas.shape == (60, 60, 3)


def test_product_of_one_pixel_is_its_own_frame():
    cutout = cutout_of(5, 5, 2, 3, 2, 3)

    layout = in_studio(cutout, fill=1.0)

    np.testing.assert_array_equal(layout.canvas, cutout.rgb[2:3, 2:3])


@pytest.mark.parametrize(("side_px", "aspect"), [(64, 1.0), (400, 0.8), (1000, None)])
def test_side_resamples_to_the_size_asked_for_and_fills_as_much(side_px, aspect):
    layout = in_studio(cutout_of(200, 200, 20, 190, 60, 145), side_px=side_px, aspect=aspect)

    assert max(layout.canvas.shape) == side_px
    product = ~layout.allow
    rows, columns = product.any(axis=1).sum(), product.any(axis=0).sum()
    shares = rows / layout.canvas.shape[0], columns / layout.canvas.shape[1]
    assert 0.83 <= max(shares) <= 0.87


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fill": 0}, r"`fill` is 0; expected the product's share"),
        ({"margin": 0.5}, r"`margin` is 0\.5 of the frame; expected 0 to below 0\.5"),
        ({"aspect": -1}, r"`aspect` is -1; expected a width over a height"),
        ({"side_px": 0}, r"`side_px` is 0; expected 1 or more"),
    ],
)
def test_numbers_outside_their_range_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        in_studio(cutout_of(20, 20, 5, 15, 5, 15), **wrong)
