import numpy as np
import pytest

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.layouts import Layout, background, everything, replaced
from pipelines.pixels.layouts.laying import lay, overlap, product_box, trimmed, warped


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_replacing_nothing_lets_nothing_change():
    nothing = np.zeros((4, 6), np.bool_)

    layout = replaced(noise(4, 6), nothing, nothing)

    assert not layout.allow.any()
    assert not (layout.allow & layout.inpaint_mask).any()
    np.testing.assert_array_equal(layout.canvas, noise(4, 6))


def test_denoising_may_reach_out_and_the_paste_does_not():
    allow, inpaint_mask = np.zeros((4, 6), np.bool_), np.zeros((4, 6), np.bool_)
    allow[1:3, 2:4] = True
    inpaint_mask[0:4, 1:5] = True

    layout = replaced(noise(4, 6), allow, inpaint_mask)

    np.testing.assert_array_equal(layout.inpaint_mask, inpaint_mask)
    np.testing.assert_array_equal((layout.allow & layout.inpaint_mask), allow)


def test_background_is_all_but_the_product():
    core = np.zeros((4, 6), np.bool_)
    core[1:3, 2:4] = True

    layout = background(noise(4, 6), core)

    np.testing.assert_array_equal(layout.allow, ~core)
    np.testing.assert_array_equal((layout.allow & layout.inpaint_mask), ~core)


def test_everything_may_change_when_a_picture_is_restyled():
    layout = everything(noise(4, 6))

    assert (layout.allow & layout.inpaint_mask).all()


def test_layout_of_two_sizes_is_refused():
    mask = np.zeros((4, 6), np.bool_)

    with pytest.raises(ValueError, match="expected one size"):
        Layout(noise(4, 6), noise(4, 6), mask, mask.T)


def test_transparent_cutout_has_no_product():
    empty = Cutout(noise(4, 6), np.zeros((4, 6), np.uint8))

    for ask in (product_box, trimmed):
        with pytest.raises(ValueError, match="6 x 4 pixels is transparent everywhere"):
            ask(empty)


def test_box_is_of_what_is_seen_and_trimming_keeps_what_is_faint():
    alpha = np.zeros((8, 9), np.uint8)
    alpha[1:7, 1:8] = 20
    alpha[2:5, 3:6] = 200

    cutout = Cutout(noise(8, 9), alpha)

    assert product_box(cutout) == (3, 2, 6, 5)
    assert trimmed(cutout).alpha.shape == (6, 7)
    assert product_box(Cutout(noise(8, 9), np.minimum(alpha, 20))) == (1, 1, 8, 7)


def test_scale_of_one_and_a_whole_turn_leave_the_cutout_as_it_is():
    cutout = Cutout(noise(8, 9), np.full((8, 9), 255, np.uint8))

    assert warped(cutout, 1, -360) is cutout
    with pytest.raises(ValueError, match=r"scaled by 0; expected more than 0"):
        warped(cutout, 0)


@pytest.mark.parametrize(("scale", "rotation_deg"), [(0.4, 0), (1, 30), (2.5, 0), (0.7, -100)])
def test_warping_draws_in_no_colour_from_behind_the_product(scale, rotation_deg):
    alpha = np.zeros((60, 60), np.uint8)
    alpha[20:40, 20:40] = 255
    rgb = np.where(alpha[..., None] > 0, np.uint8([200, 100, 40]), np.uint8([0, 0, 255]))

    turned = warped(Cutout(rgb, alpha), scale, rotation_deg)

    assert np.abs(turned.rgb[turned.alpha > 20].astype(int) - (200, 100, 40)).max() <= 2
    assert (turned.alpha == 255).any()


def test_turning_is_counter_clockwise_and_does_not_darken():
    rgb = np.linspace(60, 190, 40).astype(np.uint8)[None, :, None].repeat(40, 0).repeat(3, 2)

    quarter = warped(Cutout(rgb, np.full((40, 40), 255, np.uint8)), 1, 90)
    slanted = warped(Cutout(rgb, np.full((40, 40), 255, np.uint8)), 1, 25)

    middle = quarter.alpha == 255
    assert quarter.rgb[2, 20, 0] > quarter.rgb[-3, 20, 0]  # what was right is above
    assert abs(quarter.rgb[middle].mean() - rgb.mean()) < 2
    inside = slanted.rgb[slanted.alpha.shape[0] // 2, slanted.alpha.shape[1] // 2].mean()
    assert abs(inside - 125) < 3


def test_turned_straight_edge_is_soft():
    turned = warped(Cutout(noise(40, 40), np.full((40, 40), 255, np.uint8)), 1, 10)

    soft = (turned.alpha > 20) & (turned.alpha < 235)
    assert soft.sum() > 2 * 40


def test_laying_copies_opaque_pixels_blends_soft_ones_and_drops_what_is_outside():
    canvas = np.full((4, 4, 3), 100, np.uint8)
    alpha = np.array([[255, 255, 255], [255, 51, 0]], np.uint8)

    on, of = lay(canvas, Cutout(np.full((2, 3, 3), 200, np.uint8), alpha), -1, 2)

    assert (on, of) == ((slice(2, 4), slice(0, 2)), (slice(0, 2), slice(1, 3)))
    np.testing.assert_array_equal(canvas[2:, :, 0], [[200, 200, 100, 100], [120, 100, 100, 100]])
    assert (canvas[:2] == 100).all()


@pytest.mark.parametrize("corner", [(-9, 0), (0, -9), (9, 0), (0, 9), (4, 4), (-3, -2)])
def test_piece_outside_the_canvas_covers_nothing(corner):
    on, of = overlap((4, 4), (2, 3), *corner)

    assert np.zeros((4, 4))[on].shape == np.zeros((2, 3))[of].shape
    assert np.zeros((4, 4))[on].size == 0
