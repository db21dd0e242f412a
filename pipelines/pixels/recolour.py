"""Give a product another colour and keep its shading, its texture and its second colour.

Model of a pixel: light on a material. In CIELAB counted from black, (L + 16, a, b), all three numbers scale by one
factor where the same material is lighter or darker, since each goes with the cube root of the light (CIE 15:2004,
section 8.2). So a pixel of the base material is `shade * base`, and becomes `shade * target`. What is not the base
material - white stripes, dots, a print, a highlight - is a pixel with little of the base in it, and moves by as much
of the base as it holds.

Where a constant below names no source it is a choice of this file's; tests/pixels/test_recolour.py shows what for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor
from skimage.color import lab2rgb, rgb2lab
from skimage.filters import threshold_otsu

from pipelines.errors import ConfigError
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask

Lab = NDArray[np.float32]
Numbers = NDArray[np.float32]
Colour = tuple[int, int, int]

BLACK_OFFSET: Final = np.array((16, 0, 0), np.float32)
"""Added to L, a, b: L = 116 f(Y) - 16, so that counted from black L too goes with the cube root. `Lab` in this file has
it everywhere."""

# Which pixels have a hue, and which hue is the base's.
MIN_CHROMA: Final = 15.0  # of CIELAB; below it a hue angle is mostly noise
MIN_COLOURED_SHARE: Final = 0.45  # of the product; with less the base is white, grey or black
HUE_BINS: Final = 36  # of the hue histogram: 10 degrees each
SMOOTHED_BIN: Final = 2  # the weight of a bin beside its two neighbours' 1, so that a hue on a bin's edge is one peak
HUE_RAMP_DEGREES: Final = (20.0, 45.0)  # up to the first a pixel's hue is the base's, from the second on another's
STRONG_PERCENTILE: Final = 90.0  # the chroma of the base at its purest; the maximum would be an outlier's
STRONG_SHARE: Final = 0.6  # of that chroma; pixels below it are mixed with white, grey or black

# How pure a pixel is: the share of the base in it.
PURE_RAMP: Final = (0.85, 0.97)  # from the second on lightness alone measures the shade; between them both are blended
SMALLEST_DIVISOR: Final = 1e-3  # keeps the division by a black pixel's lightness or chroma finite

# When a product has a second colour, a print (Otsu's threshold, and a test that there are two modes).
MIN_PRINT_SHARE: Final = 0.08  # of the product's pixels
MIN_MODE_DISTANCE: Final = 20.0  # between the means of the two modes, of L or of per cent of base
MIN_EXPLAINED: Final = 0.8  # of the variance of L; an even spread reaches 0.75
MIN_SHARE_EXPLAINED: Final = 0.9  # of the variance of the share of base: a highlight makes it lopsided, too

# White, grey or black materials.
MID_GREYS: Final = (45.0, 90.0)  # of L + 16: neither black nor white
EVEN_SPLIT: Final = 0.1  # two modes whose shares are this near to a half cover about the same
DETAIL_CHROMA_RAMP: Final = (12.0, 24.0)  # this far from neutral a pixel begins to be a coloured detail, and is one
SPREAD_PERCENTILE: Final = 80.0  # of the base's distances from its median: how far its shading spreads
SPREAD_FACTOR: Final = 1.5
MOST_SPREAD: Final = 0.4  # of the distance to the print: less than half, so that there is a ramp between the two

# What must still be seen afterwards.
MIN_CONTRAST: Final = 25.0  # CIELAB distance between print and target; below it the pattern would vanish
WHITE_LIGHTNESS: Final = 115.0  # of L + 16; just below white at 116, which clips
MOST_DARKENED: Final = 0.96  # of the target: a bright one is darkened so that lighter parts stay below white
LIGHTEST_PERCENTILE: Final = 99.0  # what counts as the lightest part; the maximum would be an outlier's

SAMPLED_PIXELS: Final = 50_000  # enough for medians and percentiles, whatever the picture's size
PIXELS_AT_ONCE: Final = 1_000_000  # so that memory does not grow with the product


def colour_of(text: str) -> Colour:
    """The colour that a text names, as red, green and blue, 0..255; case and spaces do not matter.

    Args:
        text: a hex colour of three or six digits (`#c81e1e`, `#f00`; six need no `#`, which YAML takes for a comment
            outside quotes), or a CSS name (`red`, `Dark Slate Gray`).

    Raises:
        ConfigError: neither; with the nearest names.

    Source: CSS Color Module Level 4, section 6.1, as Pillow lists it.
    """
    name = re.sub(r"\s+", "", str(text)).lower()
    if re.fullmatch(r"#[0-9a-f]{3}|#?[0-9a-f]{6}", name):
        name = f"#{name.removeprefix('#')}"
    elif name not in ImageColor.colormap:
        near = difflib.get_close_matches(name, ImageColor.colormap, n=3)
        hint = f"did you mean {' or '.join(repr(one) for one in near)}?" if near else "for example 'navy' or '#1f3a5f'"
        raise ConfigError(f"the colour is {text!r}; expected a CSS colour name or a hex colour in quotes; {hint}")
    red, green, blue = ImageColor.getrgb(name)[:3]
    return red, green, blue


def recoloured(rgb: Rgb, product: Mask, colour: Colour) -> Rgb:
    """The product in another colour: its base material changes; its shading, folds and second colour stay.

    The base material is the product's most common hue, where at least 45 % of it has one (CIELAB chroma of 15): what
    differs in hue by more than 45 degrees stays, and what lies between the base and white, grey or black, such as the
    paler squares of a gingham, moves in part. Else the base is white, grey or black: where the lightness has two modes
    (Otsu's threshold and a bimodality test), the larger one is the base, the other the print, and coloured details
    stay. A print that would vanish in the target colour is made lighter or darker than it, so that the pattern can
    still be seen. Of a product with several large hues only one changes.

    Args:
        rgb: (H, W, 3).
        product: (H, W), True on the product; an empty one gives a copy. Skin and background within it would be taken
            for the material; outside it they stay bit for bit.
        colour: red, green and blue, 0..255: what the base material's median becomes, as a rule; a bright one may come
            out up to 4 % darker, so that the material's lighter parts stay below white.

    Raises:
        ValueError: shapes differ.
    """
    if rgb.shape != (*product.shape, 3):
        raise ValueError(f"a picture of shape {rgb.shape}, a mask of shape {product.shape}; expected (H, W, 3), (H, W)")
    changed = rgb.copy()
    inside = rgb[product]
    if not len(inside):
        return changed
    sample, target = _lab(inside[:: -(-len(inside) // SAMPLED_PIXELS)]), _lab(np.array([colour], np.uint8))[0]
    change = _colour_change(sample, target)
    for first in range(0, len(inside), PIXELS_AT_ONCE):
        some = slice(first, first + PIXELS_AT_ONCE)
        inside[some] = _rgb(_moved(_lab(inside[some]), change))
    changed[product] = inside
    return changed


@dataclass(frozen=True)
class _Material:
    """The base material's colour (3,), and whether it has a hue.

    One without a hue may carry a print: `print_lightness` is the print's, `base_limit` the lightness at which the
    base's own shading ends on the way to it.
    """

    base: Lab
    has_hue: bool
    print_lightness: float | None = None
    base_limit: float = 0.0


@dataclass(frozen=True)
class _ColourChange:
    """What turns a material into the target colour (3,).

    highlight_gain: how much of their contrast the material's lighter parts keep, 0..1, so that they stay below white.
    print_gain: what is added to the lightness of a print that would vanish; print_share: the share of base in it.
    """

    material: _Material
    target: Lab
    highlight_gain: float = 1.0
    print_gain: float = 0.0
    print_share: float = 0.0


def _moved(lab: Lab, change: _ColourChange) -> Lab:
    multiple, share = _base_in(lab, change.material)
    multiple = np.where(multiple > 1, 1 + (multiple - 1) * change.highlight_gain, multiple)
    moved = lab + multiple[:, None] * (change.target - change.material.base)
    moved[:, 0] += change.print_gain * (1 - _linear_ramp(share, change.print_share, PURE_RAMP[1]))
    return np.asarray(moved, np.float32)


def _base_in(lab: Lab, material: _Material) -> tuple[Numbers, Numbers]:
    """How many times the base is in each pixel (1 is the base as it is, less is darker or mixed), and its share, 0..1.

    A hue tells darker from mixed: white, grey and black have none, so that the chroma along it is the base's alone.
    """
    if not material.has_hue:
        return _neutral_base_in(lab, material)
    shade = lab[:, 0] / material.base[0]
    along = lab[:, 1:] @ material.base[1:] / _chroma(material.base)
    off_degrees = np.degrees(np.arccos(np.clip(along / np.maximum(_chroma(lab), SMALLEST_DIVISOR), -1, 1)))
    multiple = np.maximum(along, 0) / _chroma(material.base) * (1 - _linear_ramp(off_degrees, *HUE_RAMP_DEGREES))
    share = np.clip(multiple / np.maximum(shade, SMALLEST_DIVISOR), 0, 1)
    # Lightness is the cleaner measure of the two (JPEG blurs chroma), but only where nothing else is mixed in.
    return multiple + _linear_ramp(share, *PURE_RAMP) * (shade - multiple), share


def _neutral_base_in(lab: Lab, material: _Material) -> tuple[Numbers, Numbers]:
    lightness = lab[:, 0]
    share = np.ones_like(lightness)
    if material.print_lightness is not None:
        share = _linear_ramp(lightness, material.print_lightness, material.base_limit)
        within = np.maximum if material.print_lightness < material.base_limit else np.minimum
        lightness = within(lightness, material.base_limit)
    shade = lightness / material.base[0]
    off_neutral = _chroma(lab - shade[:, None] * material.base)
    share = share * (1 - _linear_ramp(off_neutral, *DETAIL_CHROMA_RAMP))
    return shade * share, share


def _colour_change(sample: Lab, colour: Lab) -> _ColourChange:
    """From a sample (N, 3) of the product and the asked colour (3,)."""
    material = _material_of(sample)
    multiple, share = _base_in(sample, material)
    pure = share > PURE_RAMP[1]
    lightest = max(1.0, float(np.percentile(multiple[pure], LIGHTEST_PERCENTILE))) if pure.any() else 1.0
    target = colour * np.clip(WHITE_LIGHTNESS / (colour[0] * lightest), MOST_DARKENED, 1)
    needed = float(target[0]) * (lightest - 1)
    highlight_gain = float(np.clip((WHITE_LIGHTNESS - target[0]) / needed, 0, 1)) if needed else 1.0
    change = _ColourChange(material, target, highlight_gain)
    is_base = _upper_mode(100 * share, MIN_SHARE_EXPLAINED)
    if is_base is None:
        return change
    printed = np.median(sample[~is_base], axis=0)
    print_share = float(np.median(share[~is_base]))
    return replace(change, print_gain=_print_gain(printed, change), print_share=print_share)


def _print_gain(printed: Lab, change: _ColourChange) -> float:
    """What a print's lightness (of its colour (3,)) must gain to be seen on the target; 0 where it is seen anyway."""
    shown = _moved(printed[None], change)[0]
    if np.linalg.norm(shown - change.target) >= MIN_CONTRAST:
        return 0.0
    step = MIN_CONTRAST if printed[0] > change.material.base[0] else -MIN_CONTRAST
    if not BLACK_OFFSET[0] < change.target[0] + step < WHITE_LIGHTNESS:
        step = -step
    return float(change.target[0] + step - shown[0])


def _material_of(sample: Lab) -> _Material:
    coloured = sample[_chroma(sample) >= MIN_CHROMA]
    if len(coloured) >= MIN_COLOURED_SHARE * len(sample):
        return _Material(_most_common_hue(coloured), True)
    return _neutral_material(sample[_chroma(sample) < MIN_CHROMA])


def _most_common_hue(coloured: Lab) -> Lab:
    """The median of the most common hue's strong pixels, so that neither print nor pale mixtures take part."""
    chroma, degrees = _chroma(coloured), np.degrees(np.arctan2(coloured[:, 2], coloured[:, 1]))
    histogram = np.histogram(degrees, HUE_BINS, (-180, 180), weights=chroma)[0]
    peak = int(np.argmax(np.roll(histogram, 1) + SMOOTHED_BIN * histogram + np.roll(histogram, -1)))
    peak_degrees = (peak + 0.5) * 360 / HUE_BINS - 180
    near = np.abs((degrees - peak_degrees + 180) % 360 - 180) < HUE_RAMP_DEGREES[1]
    strong = near & (chroma >= STRONG_SHARE * np.percentile(chroma[near], STRONG_PERCENTILE))
    return np.asarray(np.median(coloured[strong], axis=0), np.float32)


def _neutral_material(neutral: Lab) -> _Material:
    lightness = neutral[:, 0]
    light = _upper_mode(lightness, MIN_EXPLAINED)
    if light is None:
        return _Material(np.asarray(np.median(neutral, axis=0), np.float32), False)
    medians = [np.median(neutral[mode], axis=0) for mode in (~light, light)]
    is_light = _is_light_the_base(float(light.mean()), medians)
    base, printed = medians[is_light], medians[1 - is_light]
    own = lightness[light == is_light]
    spread = float(np.percentile(np.abs(own - base[0]), SPREAD_PERCENTILE)) * SPREAD_FACTOR
    toward = np.sign(printed[0] - base[0])
    base_limit = float(base[0] + toward * min(spread, MOST_SPREAD * abs(printed[0] - base[0])))
    return _Material(np.asarray(base, np.float32), False, float(printed[0]), base_limit)


def _is_light_the_base(light_share: float, medians: Sequence[Lab]) -> int:
    """1 if the lighter of two modes is the base material, 0 if the darker one is."""
    is_light = int(light_share > 0.5)
    middling = [MID_GREYS[0] < median[0] < MID_GREYS[1] for median in medians]
    # Two that cover about the same: a mid-grey beside a black or white is its checks, mixed with another colour.
    if abs(light_share - 0.5) < EVEN_SPLIT and middling[is_light] and not middling[1 - is_light]:
        return 1 - is_light
    return is_light


def _upper_mode(values: Numbers, min_explained: float) -> NDArray[np.bool_] | None:
    """Which of the values, 0 to about 100, are in the upper of two modes; None where they have one.

    Two modes are both large and far apart, and the split explains `min_explained` of the variance: shading and
    highlights spread instead.

    Source: Otsu 1979, whose criterion, the variance between the classes, is compared with the whole.
    """
    whole = np.rint(values).astype(np.uint8)  # on whole numbers Otsu's threshold falls between modes, not into one
    upper = np.asarray(whole > threshold_otsu(whole))  # type: ignore[no-untyped-call]  # scikit-image has no types
    share = float(upper.mean())
    if min(share, 1 - share) < MIN_PRINT_SHARE:
        return None
    distance = float(values[upper].mean() - values[~upper].mean())
    explained = share * (1 - share) * distance**2
    return upper if distance >= MIN_MODE_DISTANCE and explained >= min_explained * float(values.var()) else None


def _linear_ramp(values: Numbers, start: float, end: float) -> Numbers:
    """0 up to `start`, 1 from `end` on, linear between them; either may be the larger."""
    return np.asarray(np.clip((values - start) / (end - start), 0, 1), np.float32)


def _chroma(lab: Lab) -> Numbers:
    return np.asarray(np.hypot(lab[..., 1], lab[..., 2]))


def _lab(rgb: Rgb) -> Lab:
    return np.asarray(rgb2lab(rgb.astype(np.float32) / 255) + BLACK_OFFSET, np.float32)


def _rgb(lab: Lab) -> Rgb:
    # A bluer, darker colour than there is light for would make scikit-image warn; it clips it all the same.
    lab[:, 2] = np.minimum(lab[:, 2], lab[:, 0] * (200 / 116))
    return np.asarray(np.rint(np.clip(lab2rgb(lab - BLACK_OFFSET), 0, 1) * 255), np.uint8)
