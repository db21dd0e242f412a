import numpy as np
import pytest

from pipelines.pixels.shadows import contact_shadow


def box_of_alpha(height, width, top, bottom, left, right):
    alpha = np.zeros((height, width), np.uint8)
    alpha[top:bottom, left:right] = 255
    return alpha


def placed(shadow, height, width):
    """The shadow's levels in the product's own picture."""
    levels = np.zeros((height, width), np.uint8)
    for row, column in np.argwhere(shadow.cutout.alpha):
        y, x = row + shadow.top, column + shadow.left
        if 0 <= y < height and 0 <= x < width:
            levels[y, x] = shadow.cutout.alpha[row, column]
    return levels


def test_no_product_and_no_opacity_throw_no_shadow():
    nothing = contact_shadow(np.zeros((8, 8), np.uint8))
    faint = contact_shadow(np.full((8, 8), 20, np.uint8))
    unseen = contact_shadow(np.full((8, 8), 255, np.uint8), opacity=0)

    assert nothing.cutout.alpha.size == faint.cutout.alpha.size == unseen.cutout.alpha.size == 0


def test_product_of_one_pixel_has_a_shadow_of_one_pixel():
    shadow = contact_shadow(box_of_alpha(5, 5, 2, 3, 3, 4), opacity=1)

    np.testing.assert_array_equal(shadow.cutout.alpha, [[255]])
    assert (shadow.left, shadow.top) == (3, 2)


def test_shadow_is_darkest_where_the_product_stands_and_as_dark_as_asked():
    alpha = box_of_alpha(200, 200, 40, 140, 60, 140)

    levels = placed(contact_shadow(alpha, opacity=0.5), 200, 200)

    assert levels.max() == 128
    assert abs(int(np.argmax(levels[:, 100])) - 139) <= 1
    below = levels[140:160, 100].astype(int)
    assert (np.diff(below) <= 0).all()
    assert 0 < below[4] < below[0]
    np.testing.assert_allclose(levels, levels[:, ::-1], atol=1)


def test_shadow_ends_8_per_cent_of_the_product_beyond_it():
    alpha = box_of_alpha(200, 200, 40, 140, 60, 140)

    levels = placed(contact_shadow(alpha), 200, 200)

    assert not levels[:, : 60 - 8].any()
    assert not levels[:, 140 + 8 :].any()
    assert not levels[140 + 8 :].any()
    assert not levels[: 139 - 8].any()
    assert levels[139, 140 + 5] > 0


def test_what_hangs_above_the_ground_throws_less():
    alpha = box_of_alpha(200, 200, 40, 140, 40, 80)
    alpha[40:125, 120:160] = 255  # 15 pixels higher than the other leg

    levels = placed(contact_shadow(alpha), 200, 200)

    assert 0 < levels[120:, 130:150].max() < levels[:, 50:70].max() / 2


def test_shadow_of_a_large_product_is_that_of_a_small_one_enlarged():
    small = contact_shadow(box_of_alpha(400, 400, 50, 350, 100, 300))
    large = contact_shadow(box_of_alpha(1600, 1600, 200, 1400, 400, 1200))

    assert abs(large.left - 4 * small.left) <= 8
    assert abs(large.top - 4 * small.top) <= 8
    height, width = small.cutout.alpha.shape
    assert abs(large.cutout.alpha.shape[0] - 4 * height) <= 16
    assert abs(large.cutout.alpha.shape[1] - 4 * width) <= 16


def test_opacity_outside_its_range_is_refused():
    alpha = np.full((4, 4), 255, np.uint8)

    with pytest.raises(ValueError, match=r"opacity is 1\.5; expected 0\.\.1"):
        contact_shadow(alpha, opacity=1.5)
