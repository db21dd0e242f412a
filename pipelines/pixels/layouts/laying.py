"""Cut-outs as pieces of a collage: where their product is, how they are scaled and turned, how they are laid down."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Window, bounding_box

VISIBLE_ALPHA = 128


def product_box(cutout: Cutout) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what a viewer sees of the product (alpha of at least half), pixels of the cut-out.

    A product that is fainter everywhere is taken whole.

    Raises:
        ValueError: the cut-out is transparent everywhere.
    """
    if not cutout.alpha.any():
        height, width = cutout.alpha.shape
        raise ValueError(
            f"the cut-out of {width} x {height} pixels is transparent everywhere, so there is no product to lay out; "
            "reject an empty product mask before"
        )
    visible = cutout.alpha >= VISIBLE_ALPHA
    return bounding_box(visible if visible.any() else cutout.alpha > 0)


def trimmed(cutout: Cutout) -> Cutout:
    """The cut-out without the rows and columns round it that are transparent.

    Raises:
        ValueError: it is transparent everywhere.
    """
    product_box(cutout)
    left, top, right, bottom = bounding_box(cutout.alpha > 0)
    return Cutout(cutout.rgb[top:bottom, left:right], cutout.alpha[top:bottom, left:right])


def warped(cutout: Cutout, scale: float, rotation_deg: float = 0.0) -> Cutout:
    """The cut-out times a scale, turned counter-clockwise about its middle on as large a canvas as it needs.

    It is at least 1 x 1 pixel; Lanczos down, bicubic up and round; no old background is drawn in. A scale of 1 without
    a turn returns it untouched.

    Raises:
        ValueError: the scale is not above 0.
    """
    if not scale > 0:
        raise ValueError(f"a cut-out cannot be scaled by {scale!r}; expected more than 0")
    height, width = cutout.alpha.shape
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    if size_wh == (width, height) and rotation_deg % 360 == 0:
        return cutout
    # In floats: of 8-bit pictures Pillow's bicubic turn drops the fraction, which darkens by half a level, and Lanczos
    # overshoots at an outline, where a cut alpha leaves a bright rim. Channel by channel, since floats are heavy.
    alpha = _warped(cutout.alpha, size_wh, rotation_deg)
    levels = np.clip(np.rint(alpha), 0, 255).astype(np.uint8)
    per_alpha = np.divide(np.float32(1), alpha, out=np.zeros_like(alpha), where=levels > 0)
    rgb = np.empty((*alpha.shape, 3), np.uint8)
    for channel in range(3):
        weighted = _warped(cutout.rgb[..., channel] * cutout.alpha.astype(np.float32), size_wh, rotation_deg)
        weighted *= per_alpha
        rgb[..., channel] = np.clip(np.rint(weighted, out=weighted), 0, 255, out=weighted)
    return Cutout(rgb, levels)


def lay(canvas: Rgb, cutout: Cutout, left: int, top: int) -> tuple[Window, Window]:
    """Lay a cut-out over a canvas (H, W, 3), in place; what reaches beyond the canvas is dropped.

    Opaque pixels are copied, transparent ones leave the canvas as it is, between them the blend rounds.

    Args:
        canvas: changed.
        cutout: what is laid on it.
        left: where the cut-out's first column lies on the canvas, pixels; it may be negative.
        top: the same of its first row.

    Returns:
        Rows and columns of the canvas that were covered, and the same of the cut-out; of no size if it lies outside.
    """
    on, of = overlap(canvas.shape[:2], cutout.alpha.shape, left, top)
    below, above, alpha = canvas[on], cutout.rgb[of], cutout.alpha[of]
    np.copyto(below, above, where=(alpha == 255)[..., None])
    soft = (alpha > 0) & (alpha < 255)
    share = alpha[soft][:, None].astype(np.int32)
    below[soft] = (share * above[soft] + (255 - share) * below[soft] + 127) // 255
    return on, of


def overlap(canvas_hw: tuple[int, ...], piece_hw: tuple[int, ...], left: int, top: int) -> tuple[Window, Window]:
    """Rows and columns where a piece at (left, top) lies on a canvas, and the same of the piece; maybe of no size."""
    rows = _overlap(canvas_hw[0], piece_hw[0], top)
    columns = _overlap(canvas_hw[1], piece_hw[1], left)
    return (rows[0], columns[0]), (rows[1], columns[1])


def _overlap(canvas_px: int, piece_px: int, start: int) -> tuple[slice, slice]:
    first = min(max(start, 0), canvas_px)
    last = max(first, min(start + piece_px, canvas_px))
    return slice(first, last), slice(first - start, last - start)


def _warped(levels: NDArray[Any], size_wh: tuple[int, int], rotation_deg: float) -> NDArray[np.float32]:
    picture = Image.fromarray(np.asarray(levels, np.float32))
    if picture.size != size_wh:
        down = size_wh[0] < picture.width or size_wh[1] < picture.height
        picture = picture.resize(size_wh, Image.Resampling.LANCZOS if down else Image.Resampling.BICUBIC)
    if rotation_deg % 360:
        # Pillow softens no edge that is the picture's own border.
        picture = ImageOps.expand(picture, 2).rotate(rotation_deg, Image.Resampling.BICUBIC, expand=True)
    return np.array(picture, np.float32)
