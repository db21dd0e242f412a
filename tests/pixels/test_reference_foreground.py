import numpy as np
import pytest

from pipelines.pixels.crops import GREY
from pipelines.pixels.images import encode
from pipelines.pixels.reference_foreground import foreground, reference_crop, reference_cutout

RED, BLACK = (200, 30, 40), (15, 15, 15)


def a_background(side=120):
    """Lighter at the top than at the bottom, as in a studio."""
    levels = np.linspace(245, 215, side).round().astype(np.uint8)
    return np.broadcast_to(levels[:, None, None], (side, side, 3)).copy()


def test_product_is_what_stands_on_a_backbackground_that_grows_darker():
    picture, product = a_background(), np.zeros((120, 120), bool)
    product[30:90, 40:80] = True
    picture[product] = RED

    np.testing.assert_array_equal(foreground(picture), product)


@pytest.mark.parametrize("colour", [RED, BLACK, (120, 120, 120)])
def test_soft_shadow_is_background_and_a_product_of_its_colour_is_not(colour):
    picture, product = a_background().astype(float), np.zeros((120, 120), bool)
    y, x = np.mgrid[:120, :120]
    picture -= 60 * np.exp(-(((x - 60) / 25) ** 2) - ((y - 92) / 6) ** 2)[..., None]
    product[30:90, 40:80] = True
    picture[product] = colour

    found = foreground(picture.round().astype(np.uint8))

    assert (found & product).sum() / (found | product).sum() > 0.95


def test_gap_between_two_legs_is_background_and_a_white_spot_is_not():
    picture = a_background()
    picture[20:100, 30:90] = RED
    picture[50:90, 50:70] = a_background()[50:90, 50:70]
    picture[30:33, 40:43] = a_background()[30:33, 40:43]

    found = foreground(picture)

    assert not found[50:90, 50:70].any()
    assert found[30:33, 40:43].all()


def test_picture_without_a_background_is_taken_whole():
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)

    assert foreground(noise).mean() > 0.9
    assert foreground(np.full((60, 60, 3), 200, np.uint8)).all()


def test_transparency_says_where_the_product_is_unless_it_says_nothing():
    picture, alpha = a_background(), np.zeros((120, 120), np.uint8)
    picture[30:90, 40:80] = RED
    alpha[30:60, 40:80] = 255

    by_alpha, by_background = (
        reference_cutout(encode(picture, "png", alpha=one)) for one in (alpha, np.full_like(alpha, 255))
    )

    np.testing.assert_array_equal(by_alpha.alpha, alpha)
    assert (by_background.alpha > 0)[30:90, 40:80].all()
    assert not (by_background.alpha > 0)[:20].any()


def test_large_reference_is_cut_out_at_its_own_size():
    picture = a_background(1500)
    picture[300:1200, 500:1000] = RED

    cutout = reference_cutout(encode(picture, "png"))

    product = np.zeros((1500, 1500), bool)
    product[300:1200, 500:1000] = True
    assert cutout.alpha.shape == (1500, 1500)
    assert ((cutout.alpha >= 128) == product).mean() > 0.995


def test_crop_shows_the_product_alone_on_grey():
    picture = a_background()
    picture[30:90, 40:80] = RED

    crop = reference_crop(encode(picture, "png"), 64)

    assert crop.shape == (64, 64, 3)
    assert (crop[0, 0] == GREY).all()
    assert np.abs(crop[32, 32].astype(int) - RED).max() <= 1
