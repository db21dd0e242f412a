"""The soft shadow where a product meets the ground, itself a cut-out: black, and as opaque as it is dark."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.masks import bounding_box

WORK_SIDE_PX = 512
VISIBLE_ALPHA = 128
TIGHT = 0.3
FLATTENED = 0.8
LIFT = 0.5
BOXES = 3


@dataclass(frozen=True, eq=False)
class Shadow:
    """A black cut-out, and how far its top left lies from the product's, pixels (right and down are positive)."""

    cutout: Cutout
    left: int
    top: int


def contact_shadow(alpha: NDArray[np.uint8], opacity: float = 0.5, softness: float = 0.08) -> Shadow:
    """The shadow of a product that stands on level ground under even light.

    It comes from the product's lower outline: darkest where that touches the ground, its lowest row, and weaker the
    higher the outline lies above it. Half of it is tight and half wide. It is meant to be laid down before the product,
    which covers most of it, so no pixel of the product changes.

    Args:
        alpha: uint8 (H, W), how much of each pixel the product covers.
        opacity: how dark the darkest pixel is, 0..1; 0 gives a shadow that changes nothing.
        softness: how far it reaches beyond the outline at most, as a share of the product's longer side, 0..0.5.

    Returns:
        The shadow; of no size where the product is empty or the opacity 0.

    Raises:
        ValueError: opacity or softness is outside its range.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"a shadow's opacity is {opacity!r}; expected 0..1")
    if not 0 <= softness <= 0.5:
        raise ValueError(f"a shadow's softness is {softness!r} of the product's longer side; expected 0..0.5")
    visible = alpha >= VISIBLE_ALPHA
    if opacity == 0 or not visible.any():
        return Shadow(Cutout(np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.uint8)), 0, 0)
    left, top, right, bottom = bounding_box(visible)
    product = Image.fromarray(visible[top:bottom, left:right].astype(np.uint8) * 255)
    # A shadow is smooth: it is drawn small and enlarged, whatever the picture's size.
    step = max(1, ceil(max(product.size) / WORK_SIDE_PX))
    small = np.asarray(product.reduce(step)) > 0
    reach_px = softness * max(small.shape)
    room_px = ceil(reach_px) + 1
    darkness = _darkness(np.pad(small, room_px), reach_px)
    first_x, first_y, last_x, last_y = bounding_box(darkness > 0)
    levels = _enlarged(255 * opacity * darkness[first_y:last_y, first_x:last_x], step)
    return Shadow(
        Cutout(np.zeros((*levels.shape, 3), np.uint8), levels),
        left + (first_x - room_px) * step,
        top + (first_y - room_px) * step,
    )


def _darkness(product: NDArray[np.bool_], reach_px: float) -> NDArray[np.float32]:
    """0..1, 1 at its darkest; False lies round the product as far as the shadow reaches."""
    columns = np.flatnonzero(product.any(axis=0))
    lowest = product.shape[0] - 1 - np.argmax(product[::-1, columns], axis=0)
    touch = np.zeros(product.shape, np.float32)
    touch[lowest, columns] = np.exp((lowest - lowest.max()) / max(LIFT * reach_px, 1e-6))
    return np.asarray((_blurred(touch, reach_px) + _blurred(touch, TIGHT * reach_px)) / 2, np.float32)


def _blurred(touch: NDArray[np.float32], reach_px: float) -> NDArray[np.float32]:
    blurred = touch
    # Seen from the front the ground is foreshortened: a shadow spreads further to the sides than downward.
    for axis, reach in ((0, FLATTENED * reach_px), (1, reach_px)):
        for _ in range(BOXES):  # nearly a Gaussian, but it ends, so that the ground beyond stays exactly its colour
            blurred = ndimage.uniform_filter1d(blurred, 2 * int(reach / BOXES) + 1, axis, mode="constant")
    return np.asarray(blurred / blurred.max(), np.float32)


def _enlarged(levels: NDArray[np.float32], step: int) -> NDArray[np.uint8]:
    size_wh = levels.shape[1] * step, levels.shape[0] * step
    enlarged = np.asarray(Image.fromarray(levels).resize(size_wh, Image.Resampling.BILINEAR))
    return np.asarray(np.rint(enlarged), np.uint8)
