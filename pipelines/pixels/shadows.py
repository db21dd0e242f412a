"""The soft shadow where a product meets the ground, itself a cut-out: black, and as opaque as it is dark."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.masks import bounding_box

SOFTNESS: Final = 0.08  # how far a shadow reaches beyond the outline at most, of the product's longer side
DRAWN_SIDE_PX: Final = 512  # a shadow is smooth: larger ones are drawn at this size and enlarged
VISIBLE_ALPHA: Final = 128
TIGHT: Final = 0.3  # of the reach: the half of the shadow that lies close to the product
FLATTENED: Final = 0.8  # of the reach to the sides: the ground is foreshortened, so a shadow spreads less downward
FADING_HEIGHT: Final = 0.5  # of the reach: so high above the ground an outline's shadow is down to 1 / e
BOX_BLURS: Final = 3  # nearly a Gaussian, but it ends, so that the ground beyond stays exactly its colour


@dataclass(frozen=True, eq=False)
class Shadow:
    """A black cut-out, and how far its top left lies from the product's, pixels (right and down are positive)."""

    cutout: Cutout
    left: int
    top: int


def contact_shadow(alpha: NDArray[np.uint8], opacity: float = 0.5) -> Shadow:
    """The shadow of a product that stands on level ground under even light.

    It comes from the product's lower outline: darkest where that touches the ground, its lowest row, and weaker the
    higher the outline lies above it. Half of it is tight and half wide, reaching 8 % of the product's longer side. Lay
    it down before the product, which covers most of it, so that no pixel of the product changes.

    Args:
        alpha: uint8 (H, W), how much of each pixel the product covers.
        opacity: how dark the darkest pixel is, 0..1; 0 gives a shadow that changes nothing.

    Returns:
        The shadow; of no size where the product is empty or the opacity 0.

    Raises:
        ValueError: the opacity is outside its range.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"a shadow's opacity is {opacity!r}; expected 0..1")
    visible = alpha >= VISIBLE_ALPHA
    if opacity == 0 or not visible.any():
        return Shadow(Cutout(np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.uint8)), 0, 0)
    left, top, right, bottom = bounding_box(visible)
    product = Image.fromarray(visible[top:bottom, left:right].astype(np.uint8) * 255)
    step = max(1, ceil(max(product.size) / DRAWN_SIDE_PX))
    small = np.asarray(product.reduce(step)) > 0
    reach_px = SOFTNESS * max(small.shape)
    padding_px = ceil(reach_px) + 1
    darkness = _darkness(np.pad(small, padding_px), reach_px)
    first_x, first_y, last_x, last_y = bounding_box(darkness > 0)
    levels = _enlarged(255 * opacity * darkness[first_y:last_y, first_x:last_x], step)
    return Shadow(
        Cutout(np.zeros((*levels.shape, 3), np.uint8), levels),
        left + (first_x - padding_px) * step,
        top + (first_y - padding_px) * step,
    )


def _darkness(product: NDArray[np.bool_], reach_px: float) -> NDArray[np.float32]:
    """0..1, 1 at its darkest; False lies round the product as far as the shadow reaches."""
    columns = np.flatnonzero(product.any(axis=0))
    lowest = product.shape[0] - 1 - np.argmax(product[::-1, columns], axis=0)
    touch = np.zeros(product.shape, np.float32)
    touch[lowest, columns] = np.exp((lowest - lowest.max()) / max(FADING_HEIGHT * reach_px, 1e-6))
    return np.asarray((_blurred(touch, reach_px) + _blurred(touch, TIGHT * reach_px)) / 2, np.float32)


def _blurred(touch: NDArray[np.float32], reach_px: float) -> NDArray[np.float32]:
    blurred = touch
    for axis, reach in ((0, FLATTENED * reach_px), (1, reach_px)):
        for _ in range(BOX_BLURS):
            blurred = ndimage.uniform_filter1d(blurred, 2 * int(reach / BOX_BLURS) + 1, axis, mode="constant")
    return np.asarray(blurred / blurred.max(), np.float32)


def _enlarged(levels: NDArray[np.float32], step: int) -> NDArray[np.uint8]:
    size_wh = levels.shape[1] * step, levels.shape[0] * step
    enlarged = np.asarray(Image.fromarray(levels).resize(size_wh, Image.Resampling.BILINEAR))
    return np.asarray(np.rint(enlarged), np.uint8)
