import numpy as np
import pytest

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.layouts import inserted, placed_in_scene

MIDDLE = {"centre_xy": (0.5, 0.5), "height": 0.5}  # of 60 rows the product's own 30


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def cutout_of(height, width, top, bottom, left, right, edge=0):
    alpha = np.zeros((height, width), np.uint8)
    alpha[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = edge
    alpha[top:bottom, left:right] = 255
    return Cutout(noise(height, width, 1), alpha)


PRODUCT = cutout_of(50, 50, 10, 40, 15, 35, edge=120)


def unchanged_outside(layout):
    return (layout.canvas == layout.base).all(axis=-1)[~layout.allow].all()


def test_transparent_cutout_is_refused():
    with pytest.raises(ValueError, match="transparent everywhere"):
        placed_in_scene(cutout_of(9, 9, 4, 4, 4, 4), noise(20, 20), **MIDDLE)


@pytest.mark.parametrize("centre_xy", [(2.0, 0.5), (-1.0, 0.5), (0.5, 3.0), (0.5, -2.0)])
def test_product_outside_the_scene_lets_nothing_change(centre_xy):
    layout = placed_in_scene(PRODUCT, noise(60, 80), centre_xy=centre_xy, height=0.5)

    np.testing.assert_array_equal(layout.canvas, noise(60, 80))
    assert not layout.allow.any()
    assert not layout.inpaint_mask.any()


def test_product_wholly_behind_the_scene_lets_nothing_change():
    layout = placed_in_scene(PRODUCT, noise(60, 80), in_front=np.ones((60, 80), np.bool_), **MIDDLE)

    np.testing.assert_array_equal(layout.canvas, noise(60, 80))
    assert not layout.allow.any()


def test_at_its_own_height_the_product_is_copied_bit_for_bit():
    layout = placed_in_scene(PRODUCT, noise(60, 80), seam_px=3, **MIDDLE)

    np.testing.assert_array_equal(layout.canvas[15:45, 30:50], PRODUCT.rgb[10:40, 15:35])


def test_only_the_seam_is_painted_and_never_the_middle_of_the_product():
    layout = placed_in_scene(PRODUCT, noise(60, 80), seam_px=3, **MIDDLE)

    assert (layout.allow >= layout.inpaint_mask).all()
    assert layout.inpaint_mask[15:45, 27:33].all()
    assert not layout.inpaint_mask[18:42, 33:47].any()
    assert not layout.inpaint_mask[:, :27].any()


def test_seam_of_zero_leaves_the_collage_as_it_is():
    layout = placed_in_scene(PRODUCT, noise(60, 80), seam_px=0, **MIDDLE)

    assert not layout.inpaint_mask.any()
    np.testing.assert_array_equal(layout.canvas[15:45, 30:50], PRODUCT.rgb[10:40, 15:35])


@pytest.mark.parametrize("centre_xy", [(0.5, 0.5), (0.0, 0.2), (1.0, 1.0), (0.4, -0.1)])
@pytest.mark.parametrize("warp", [{"height": 0.5}, {"height": 0.4, "rotation_deg": 33}, {"height": 1.8}])
@pytest.mark.parametrize("behind", [False, True])
def test_scene_stays_outside_what_is_allowed(centre_xy, warp, behind):
    scene = noise(60, 80)
    in_front = np.zeros((60, 80), np.bool_)
    in_front[:, 38:44] = behind

    layout = placed_in_scene(PRODUCT, scene, centre_xy=centre_xy, in_front=in_front, **warp)

    assert layout.base is scene
    np.testing.assert_array_equal(scene, noise(60, 80))
    assert unchanged_outside(layout)
    assert not (layout.allow & in_front).any()
    assert (layout.allow >= layout.inpaint_mask).all()
    assert layout.allow.any()


def test_what_is_in_front_hides_the_product_and_has_a_seam_of_its_own():
    arm = np.zeros((60, 80), np.bool_)
    arm[28:32] = True

    layout = placed_in_scene(PRODUCT, noise(60, 80), in_front=arm, seam_px=2, shadow_opacity=0, **MIDDLE)

    np.testing.assert_array_equal(layout.canvas[28:32], noise(60, 80)[28:32])
    np.testing.assert_array_equal(layout.canvas[15:28, 30:50], PRODUCT.rgb[10:23, 15:35])
    assert layout.inpaint_mask[26:28, 30:50].all()
    assert not layout.inpaint_mask[28:32].any()


def test_height_is_a_share_of_the_scene_before_turning():
    layout = placed_in_scene(
        cutout_of(50, 50, 5, 45, 20, 30),
        noise(200, 200),
        centre_xy=(0.5, 0.5),
        height=0.5,
        rotation_deg=90,
        shadow_opacity=0,
        seam_px=0,
    )

    rows, columns = np.flatnonzero(layout.allow.any(axis=1)), np.flatnonzero(layout.allow.any(axis=0))
    assert abs(len(columns) - 100) <= 3
    assert abs(len(rows) - 25) <= 3
    assert abs(columns.mean() - 100) <= 1.5
    assert abs(rows.mean() - 100) <= 1.5


def test_cutout_larger_than_the_scene_covers_it():
    large = cutout_of(90, 120, 0, 90, 0, 120)

    layout = placed_in_scene(large, noise(60, 80), centre_xy=(0.5, 0.5), height=1.5)

    np.testing.assert_array_equal(layout.canvas, large.rgb[15:75, 20:100])
    assert layout.allow.all()
    assert not layout.inpaint_mask.any()


def test_product_of_one_pixel_is_placed():
    layout = placed_in_scene(
        cutout_of(5, 5, 2, 3, 2, 3), noise(9, 9), centre_xy=(0.5, 0.5), height=1 / 9, seam_px=0, shadow_opacity=0
    )

    assert layout.allow.sum() == 1


def test_shadow_darkens_the_ground_and_not_the_product():
    grey, large = np.full((240, 320, 3), 128, np.uint8), cutout_of(200, 200, 40, 160, 60, 140)

    dark = placed_in_scene(large, grey, shadow_opacity=0.8, seam_px=0, **MIDDLE)
    bare = placed_in_scene(large, grey, shadow_opacity=0, seam_px=0, **MIDDLE)

    np.testing.assert_array_equal(dark.canvas[60:180, 120:200], bare.canvas[60:180, 120:200])
    assert (dark.canvas[182, 140:180] < 128).all()
    assert (dark.canvas <= bare.canvas).all()
    assert dark.allow.sum() > bare.allow.sum()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"height": 0.0}, r"`height` is 0\.0 of the scene's; expected more than 0"),
        ({"height": -1.0}, r"`height` is -1\.0 of the scene's; expected more than 0"),
        ({"seam_px": -1}, r"`seam_px` is -1; expected 0 or more"),
        ({"in_front": np.zeros((2, 2), np.bool_)}, r"`in_front` has shape \(2, 2\), the scene \(9, 9\)"),
    ],
)
def test_numbers_outside_their_range_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        placed_in_scene(PRODUCT, noise(9, 9), **{"centre_xy": (0.5, 0.5), "height": 0.5, **wrong})


def test_inserting_into_an_empty_region_lets_nothing_change():
    layout = inserted(PRODUCT, noise(60, 80), np.zeros((60, 80), np.bool_))

    np.testing.assert_array_equal(layout.canvas, noise(60, 80))
    assert not layout.allow.any()


def test_inserted_product_fits_the_box_in_its_middle_and_stays_inside_the_region():
    region = np.zeros((60, 80), np.bool_)
    region[10:50, 5:75] = True

    layout = inserted(cutout_of(50, 50, 10, 30, 15, 35), noise(60, 80), region)

    changed = (layout.canvas != layout.base).any(axis=-1)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (rows[0], rows[-1]) == (10, 49)  # 44 rows, cut off at the region
    assert (columns[0], columns[-1]) == (18, 61)  # a square product, 1.1 times the region's 40 rows
    np.testing.assert_array_equal(layout.allow, region)
    np.testing.assert_array_equal(layout.inpaint_mask, region)


def test_what_lies_beyond_the_region_is_cut_off_and_all_of_it_is_covered():
    region = np.zeros((60, 80), np.bool_)
    region[20:40, 30:50] = True

    layout = inserted(cutout_of(50, 50, 10, 30, 15, 35), noise(60, 80), region)

    assert unchanged_outside(layout)
    assert (layout.canvas != layout.base).any(axis=-1)[region].mean() > 0.95


def test_ground_shows_round_the_inserted_product_in_the_region_only():
    region = np.zeros((60, 80), np.bool_)
    region[10:50, 5:75] = True
    ground = np.full((60, 80, 3), 9, np.uint8)

    layout = inserted(cutout_of(50, 50, 10, 30, 15, 35), noise(60, 80), region, ground=ground)

    assert (layout.canvas[12:48, 5:15] == 9).all()
    assert unchanged_outside(layout)


def test_region_of_another_size_is_refused():
    with pytest.raises(ValueError, match="expected one size"):
        inserted(PRODUCT, noise(60, 80), np.ones((9, 9), np.bool_))
