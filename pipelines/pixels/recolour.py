"""Give a product another colour and keep its shading, its texture and its second colour.

A pixel is taken as light on cloth: CIELAB's three numbers, counted from black as (L + 16, a, b), all scale by one
factor where the same cloth is lighter or darker (they go with the cube root of the light). So a pixel of the base
cloth is `shade * base`, and becomes `shade * asked`. What is not base cloth - white stripes, dots, a print, a
highlight - is a pixel with little of the base in it, and moves by as much of the base as it holds.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor
from skimage.color import lab2rgb, rgb2lab
from skimage.filters import threshold_otsu

from pipelines.errors import ConfigError
from pipelines.pixels.masks import Mask

Rgb = NDArray[np.uint8]
Lab = NDArray[np.float32]
Numbers = NDArray[np.float32]
Colour = tuple[int, int, int]

FROM_BLACK: Final = np.array((16, 0, 0), np.float32)
"""Added to L, a, b, it makes the three of one cloth go in proportion; Lab is so counted everywhere in this file."""
MIN_CHROMA: Final = 15.0
MIN_COLOURED: Final = 0.45
HUES: Final = 36
ALIKE: Final = 20.0, 45.0
"""Up to the first, degrees of hue, a pixel is the base's; from the second on it is another's."""
PURE: Final = 0.85, 0.97
"""A pixel with more of the base than the second is base all through; between the two the measures are blended."""
MIN_INK: Final = 0.08
MIN_INK_STEP: Final = 20.0
MIN_SPLIT: Final = 0.8
MIN_SHARE_SPLIT: Final = 0.9
"""A second colour has at least these: share of the product, distance from the base, part of the variance explained
(an even spread has 0.75; of the share of base in a pixel more is asked, since a highlight is lopsided too)."""
MID_GREYS: Final = 45.0, 90.0
DETAIL_CHROMA: Final = 12.0, 24.0
"""On white, grey or black cloth, this far from neutral a pixel begins to be a detail in colour, and is one."""
MIN_CONTRAST: Final = 25.0
WHITEST: Final = 115.0
DARKENED: Final = 0.96
SAMPLED: Final = 50_000
PIXELS_AT_ONCE: Final = 1_000_000


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
    """The product in another colour: its base cloth moves, its shading, folds and second colour stay.

    The base cloth is the product's most common hue, where at least 45 % of it has one (CIELAB chroma of 15): what
    differs in hue by more than 45 degrees stays, and what lies between the base and white, grey or black, such as the
    paler squares of a gingham, moves in part. Else the base is white, grey or black: the lightness is split in two
    (Otsu) where it has two separate heaps, the larger is the base, the other the ink, and details in colour stay. An
    ink that would vanish in the asked colour is made lighter or darker than it, so that the pattern can still be seen.
    A product of several large hues changes one of them.

    Args:
        rgb: (H, W, 3).
        product: (H, W), True on the product; an empty one gives a copy. Skin and background within it would be taken
            for cloth, outside it they stay bit for bit.
        colour: red, green and blue, 0..255, the median of the base cloth as a rule; a bright one may come out up to 4 %
            darker, to leave room for the cloth's lighter parts.

    Raises:
        ValueError: shapes differ.
    """
    if rgb.shape != (*product.shape, 3):
        raise ValueError(f"a picture of shape {rgb.shape}, a mask of shape {product.shape}; expected (H, W, 3), (H, W)")
    changed = rgb.copy()
    inside = rgb[product]
    if not len(inside):
        return changed
    dye = _dye(_lab(inside[:: -(-len(inside) // SAMPLED)]), _lab(np.array([colour], np.uint8))[0])
    for first in range(0, len(inside), PIXELS_AT_ONCE):
        some = slice(first, first + PIXELS_AT_ONCE)
        inside[some] = _rgb(_dyed(_lab(inside[some]), dye))
    changed[product] = inside
    return changed


@dataclass(frozen=True)
class _Cloth:
    """The base cloth (3,). One without a hue may have an ink: its lightness, and that at which the base ends."""

    base: Lab
    hued: bool
    ink: float | None = None
    ends: float = 0.0


@dataclass(frozen=True)
class _Dye:
    """What turns a cloth into the asked colour (3,).

    `lighter` is by how much the cloth's lighter parts are flattened, so that they stay below white; `ink_lift` is what
    an ink that would vanish is lightened by, `ink_share` the share of base in it.
    """

    cloth: _Cloth
    asked: Lab
    lighter: float = 1.0
    ink_lift: float = 0.0
    ink_share: float = 0.0


def _dyed(lab: Lab, dye: _Dye) -> Lab:
    amount, share = _base_in(lab, dye.cloth)
    amount = np.where(amount > 1, 1 + (amount - 1) * dye.lighter, amount)
    moved = lab + amount[:, None] * (dye.asked - dye.cloth.base)
    moved[:, 0] += dye.ink_lift * (1 - _from_to(share, dye.ink_share, PURE[1]))
    return np.asarray(moved, np.float32)


def _base_in(lab: Lab, cloth: _Cloth) -> tuple[Numbers, Numbers]:
    """How many times the base is in each pixel (1 is the base as it is, less is darker or mixed), and its share, 0..1.

    A hue tells both apart: white, grey and black have none, so that the chroma along it is the base's alone.
    """
    shade = lab[:, 0] / cloth.base[0]
    if not cloth.hued:
        return _neutral_base_in(lab, cloth)
    along = lab[:, 1:] @ cloth.base[1:] / _chroma(cloth.base)
    off_degrees = np.degrees(np.arccos(np.clip(along / np.maximum(_chroma(lab), 1e-3), -1, 1)))
    amount = np.maximum(along, 0) / _chroma(cloth.base) * (1 - _from_to(off_degrees, *ALIKE))
    share = np.clip(amount / np.maximum(shade, 1e-3), 0, 1)
    # Lightness is the cleaner measure of the two (JPEG blurs chroma), but only where nothing else is mixed in.
    return amount + _from_to(share, *PURE) * (shade - amount), share


def _neutral_base_in(lab: Lab, cloth: _Cloth) -> tuple[Numbers, Numbers]:
    lightness = lab[:, 0]
    share = np.ones_like(lightness)
    if cloth.ink is not None:
        share = _from_to(lightness, cloth.ink, cloth.ends)
        lightness = (np.maximum if cloth.ink < cloth.ends else np.minimum)(lightness, cloth.ends)
    shade = lightness / cloth.base[0]
    share = share * (1 - _from_to(_chroma(lab - shade[:, None] * cloth.base), *DETAIL_CHROMA))
    return shade * share, share


def _dye(sample: Lab, colour: Lab) -> _Dye:
    """From a sample (N, 3) of the product and the asked colour (3,)."""
    cloth = _cloth_of(sample)
    amount, share = _base_in(sample, cloth)
    pure = share > PURE[1]
    lightest = max(1.0, float(np.percentile(amount[pure], 99))) if pure.any() else 1.0
    asked = colour * np.clip(WHITEST / (colour[0] * lightest), DARKENED, 1)
    needed = float(asked[0]) * (lightest - 1)
    lighter = float(np.clip((WHITEST - asked[0]) / needed, 0, 1)) if needed else 1.0
    dye = _Dye(cloth, asked, lighter)
    base = _upper_heap(100 * share, MIN_SHARE_SPLIT)
    if base is None:
        return dye
    ink = np.median(sample[~base], axis=0)
    return replace(dye, ink_lift=_lift(ink, dye), ink_share=float(np.median(share[~base])))


def _lift(ink: Lab, dye: _Dye) -> float:
    """By how much an ink (3,) is to be lightened, or darkened, to be seen on the asked colour; 0 where it is anyway."""
    shown = _dyed(ink[None], dye)[0]
    if np.linalg.norm(shown - dye.asked) >= MIN_CONTRAST:
        return 0.0
    step = MIN_CONTRAST if ink[0] > dye.cloth.base[0] else -MIN_CONTRAST
    if not FROM_BLACK[0] < dye.asked[0] + step < WHITEST:
        step = -step
    return float(dye.asked[0] + step - shown[0])


def _cloth_of(sample: Lab) -> _Cloth:
    coloured = sample[_chroma(sample) >= MIN_CHROMA]
    if len(coloured) >= MIN_COLOURED * len(sample):
        return _Cloth(_hued_base(coloured), True)
    return _neutral_cloth(sample[_chroma(sample) < MIN_CHROMA])


def _hued_base(coloured: Lab) -> Lab:
    """The median of the most common hue's strong pixels, so that neither ink nor pale mixtures take part."""
    chroma, degrees = _chroma(coloured), np.degrees(np.arctan2(coloured[:, 2], coloured[:, 1]))
    heaps = np.histogram(degrees, HUES, (-180, 180), weights=chroma)[0]
    peak = int(np.argmax(np.roll(heaps, 1) + 2 * heaps + np.roll(heaps, -1)))
    peak_degrees = (peak + 0.5) * 360 / HUES - 180
    own = np.abs((degrees - peak_degrees + 180) % 360 - 180) < ALIKE[1]
    strong = own & (chroma >= 0.6 * np.percentile(chroma[own], 90))
    return np.asarray(np.median(coloured[strong], axis=0), np.float32)


def _neutral_cloth(neutral: Lab) -> _Cloth:
    lightness = neutral[:, 0]
    light = _upper_heap(lightness, MIN_SPLIT)
    if light is None:
        return _Cloth(np.asarray(np.median(neutral, axis=0), np.float32), False)
    share = float(light.mean())
    medians = [np.median(neutral[part], axis=0) for part in (~light, light)]
    is_light = int(share > 0.5)
    middling = [MID_GREYS[0] < median[0] < MID_GREYS[1] for median in medians]
    # Two that cover about the same: a mid-grey beside a black or white is its checks, mixed with another colour.
    if abs(share - 0.5) < 0.1 and middling[is_light] and not middling[1 - is_light]:
        is_light = 1 - is_light
    base, ink = medians[is_light], medians[1 - is_light]
    own = lightness[light == is_light]
    spread = float(np.percentile(np.abs(own - base[0]), 80)) * 1.5
    ends = float(base[0] + np.sign(ink[0] - base[0]) * min(spread, 0.4 * abs(ink[0] - base[0])))
    return _Cloth(np.asarray(base, np.float32), False, float(ink[0]), ends)


def _upper_heap(values: Numbers, min_split: float) -> NDArray[np.bool_] | None:
    """Which of the values, 0 to about 100, are in the upper of two heaps; None where they are not in two.

    Two heaps are both large and far apart, and explain `min_split` of the variance: shading and highlights spread.
    """
    whole = np.rint(values).astype(np.uint8)  # on whole numbers Otsu's threshold falls between heaps, not into one
    upper = np.asarray(whole > threshold_otsu(whole))  # type: ignore[no-untyped-call]  # scikit-image has no types
    share = float(upper.mean())
    if min(share, 1 - share) < MIN_INK:
        return None
    step = float(values[upper].mean() - values[~upper].mean())
    explained = share * (1 - share) * step**2
    return upper if step >= MIN_INK_STEP and explained >= min_split * float(values.var()) else None


def _from_to(values: Numbers, zero: float, one: float) -> Numbers:
    """0 at `zero` and before, 1 at `one` and after, a straight line between; either may be the larger."""
    return np.asarray(np.clip((values - zero) / (one - zero), 0, 1), np.float32)


def _chroma(lab: Lab) -> Numbers:
    return np.asarray(np.hypot(lab[..., 1], lab[..., 2]))


def _lab(rgb: Rgb) -> Lab:
    return np.asarray(rgb2lab(rgb.astype(np.float32) / 255) + FROM_BLACK, np.float32)


def _rgb(lab: Lab) -> Rgb:
    # A bluer, darker colour than there is light for would make scikit-image warn; it clips it all the same.
    lab[:, 2] = np.minimum(lab[:, 2], lab[:, 0] * (200 / 116))
    return np.asarray(np.rint(np.clip(lab2rgb(lab - FROM_BLACK), 0, 1) * 255), np.uint8)
