import io

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from pipelines.errors import ConfigError
from pipelines.pixels.images import decode
from pipelines.pixels.recolour import colour_of, recoloured

RED, BLUE, YELLOW, GREEN = (200, 40, 40), (45, 80, 190), (235, 205, 60), (50, 150, 70)
BLACK, WHITE, GREY = (30, 30, 32), (240, 240, 238), (128, 128, 128)
BACKGROUND = (90, 140, 110)
HEIGHT, WIDTH = 60, 90
PRODUCT = np.zeros((HEIGHT, WIDTH), np.bool_)
PRODUCT[6:54, 9:81] = True
FOLDS = 1 + 0.08 * np.sin(np.arange(WIDTH) / 5)[None, :, None] + np.zeros((HEIGHT, 1, 1))
STRIPES = np.broadcast_to(np.arange(WIDTH) % 10 < 4, (HEIGHT, WIDTH))


def product(base, print_colour=None, where=STRIPES, shading=FOLDS):
    """A picture of a product in folds, with a print, stripes as a rule, if its colour is given."""
    material = np.broadcast_to(np.array(base, float), (HEIGHT, WIDTH, 3))
    if print_colour is not None:
        material = np.where(where[..., None], np.array(print_colour, float), material)
    shaded = np.clip(np.rint(material * shading), 0, 255)
    return np.where(PRODUCT[..., None], shaded, BACKGROUND).astype(np.uint8)


def lab(rgb):
    return rgb2lab(np.asarray(rgb, np.uint8) / 255)


def distance(rgb, colour, where):
    """CIELAB distance between the median of some pixels and a colour."""
    return np.linalg.norm(lab(np.median(rgb[where], axis=0).astype(np.uint8)) - lab(colour))


def test_product_that_is_nowhere_changes_nothing():
    picture = product(RED)

    changed = recoloured(picture, np.zeros_like(PRODUCT), BLUE)

    np.testing.assert_array_equal(changed, picture)
    assert not np.shares_memory(changed, picture)


def test_outside_the_mask_stays_bit_for_bit():
    picture = product(RED)
    picture[~PRODUCT] = np.random.default_rng(0).integers(0, 256, ((~PRODUCT).sum(), 3))

    changed = recoloured(picture, PRODUCT, BLUE)

    np.testing.assert_array_equal(changed[~PRODUCT], picture[~PRODUCT])


@pytest.mark.parametrize("base", [RED, BLUE, YELLOW, BLACK, WHITE, GREY])
@pytest.mark.parametrize("asked", [RED, BLUE, YELLOW, BLACK, WHITE, GREY])
def test_any_colour_becomes_any_other_and_keeps_its_folds(base, asked):
    picture = product(base)

    changed = recoloured(picture, PRODUCT, asked)

    assert distance(changed, asked, PRODUCT) < 6
    folds = np.corrcoef(lab(picture)[PRODUCT][:, 0], lab(changed)[PRODUCT][:, 0])[0, 1]
    assert folds > 0.95


def test_own_colour_changes_next_to_nothing():
    picture = product(GREEN, WHITE)
    own = tuple(np.median(picture[PRODUCT & ~STRIPES], axis=0).astype(int))

    assert np.abs(recoloured(picture, PRODUCT, own).astype(int) - picture)[PRODUCT].mean() < 2


@pytest.mark.parametrize(
    ("base", "print_colour", "asked"),
    [(RED, WHITE, BLUE), (WHITE, RED, BLUE), (WHITE, BLACK, YELLOW), (BLACK, WHITE, RED), (YELLOW, BLACK, GREEN),
     (RED, GREEN, BLUE), (GREY, YELLOW, BLACK)],
)  # fmt: skip
def test_base_changes_and_the_stripes_stay(base, print_colour, asked):
    picture = product(base, print_colour)

    changed = recoloured(picture, PRODUCT, asked)

    assert distance(changed, asked, PRODUCT & ~STRIPES) < 8
    assert distance(changed, print_colour, PRODUCT & STRIPES) < 8


@pytest.mark.parametrize(
    ("base", "print_colour", "asked"), [(RED, WHITE, WHITE), (YELLOW, BLACK, BLACK), (WHITE, BLACK, BLACK)]
)
def test_print_that_would_vanish_can_still_be_seen(base, print_colour, asked):
    changed = recoloured(product(base, print_colour), PRODUCT, asked)

    assert distance(changed, asked, PRODUCT & ~STRIPES) < 8
    assert 20 < distance(changed, asked, PRODUCT & STRIPES) < 40


def test_pale_checks_become_pale_in_the_new_hue():
    paler = tuple(0.4 * np.array(RED) + 0.6 * np.array(WHITE))
    checks = (np.indices((HEIGHT, WIDTH)) // 6).sum(axis=0) % 2 == 0

    changed = lab(recoloured(product(RED, paler, checks), PRODUCT, GREEN))

    hue = np.arctan2(changed[..., 2], changed[..., 1])
    green = np.arctan2(*lab(GREEN)[[2, 1]])
    assert abs(np.median(hue[PRODUCT & checks]) - green) < 0.35
    assert np.median(changed[PRODUCT & checks][:, 0]) > np.median(changed[PRODUCT & ~checks][:, 0]) + 10


def test_highlight_stays_white():
    picture = product(RED)
    picture[20:24, 30:34] = 252

    assert recoloured(picture, PRODUCT, BLUE)[22, 32].min() > 225


def test_broad_highlight_is_no_print():
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    glow = 0.8 * np.exp(-((x - 45) ** 2 + (y - 30) ** 2) / 200)[..., None]
    picture = np.rint(product(RED) * (1 - glow) + 255 * glow).astype(np.uint8)

    changed = lab(recoloured(picture, PRODUCT, WHITE))

    assert changed[30, 45, 0] > np.median(changed[PRODUCT][:, 0])


def test_colour_through_jpeg_still_reads_as_asked():
    file = io.BytesIO()
    Image.fromarray(product(RED, WHITE)).save(file, "JPEG", quality=80)

    changed = recoloured(decode(file.getvalue()).rgb, PRODUCT, BLUE)

    assert distance(changed, BLUE, PRODUCT & ~STRIPES) < 15
    assert distance(changed, WHITE, PRODUCT & STRIPES) < 15


def test_single_pixel_takes_the_colour():
    one = np.zeros_like(PRODUCT)
    one[0, 0] = True

    np.testing.assert_allclose(recoloured(product(RED), one, BLUE)[0, 0].astype(int), BLUE, atol=2)


def test_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\), \(H, W\)"):
        recoloured(product(RED), PRODUCT[1:], BLUE)


@pytest.mark.parametrize(
    ("text", "colour"),
    [("#c81e1e", (200, 30, 30)), ("C81E1E", (200, 30, 30)), ("#f00", (255, 0, 0)), (" Navy ", (0, 0, 128)),
     ("Dark Slate Gray", (47, 79, 79))],
)  # fmt: skip
def test_colours_are_read_as_people_write_them(text, colour):
    assert colour_of(text) == colour


@pytest.mark.parametrize("text", ["", "#12", "#c81e1e80", "rgb(1, 2, 3)", "None"])
def test_what_is_no_colour_is_refused(text):
    with pytest.raises(ConfigError, match="expected a CSS colour name or a hex colour in quotes"):
        colour_of(text)


def test_slip_of_typing_gets_the_nearest_names():
    with pytest.raises(ConfigError, match=r"the colour is 'turqoise'; .* did you mean 'turquoise'"):
        colour_of("turqoise")
