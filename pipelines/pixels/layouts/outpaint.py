"""A canvas that grows round a picture; the picture itself is copied, never cropped or resampled."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import ndimage

from pipelines.pixels.images import Rgb
from pipelines.pixels.layouts.layout import Layout, blank

Margins = tuple[float, float, float, float]
OVERLAP_PX: Final = 16
BLUR_GROWTH: Final = 0.5  # pixels of blur for each pixel outward
MAX_BLUR: Final = 0.06  # of the source's shorter side: 65 pixels of 1024
BLURS: Final = 8  # steps from 1 pixel to the largest blur; between them rows are interpolated
DEPTH: Final = 0.25  # of the blur: how many rows of the source are averaged into the edge


def outpainted(
    source: Rgb,
    *,
    margins: Margins = (0.0, 0.0, 0.0, 0.0),
    aspect: float | None = None,
    anchor_xy: tuple[float, float] = (0.5, 0.5),
) -> Layout:
    """Grow the canvas by margins, then to an aspect, and fill the new area with a start for the painter.

    The start continues the picture's edge outward and blurs it, more so the further out: bands such as a floor or a
    horizon go on, single pixels do not become streaks.

    Args:
        source: (H, W, 3).
        margins: top, right, bottom, left, each a share of the source's height or width, 0 or more.
        aspect: width over height of the new canvas; the direction that is too short grows. None leaves it.
        anchor_xy: where the picture lies in what the aspect adds: 0 at the left or top, 1 at the right or bottom.

    Returns:
        The layout: `allow` is the new area, empty if nothing had to grow. `inpaint_mask` also reaches 16 pixels into
        the source from each side that grew, so that the painter meets it.

    Raises:
        CanvasTooLarge: more than `layout.MAX_CANVAS_PIXELS`.
        ValueError: the source has no pixels, or a number is outside its range.

    Source: edge pixels are repeated as Crop&Stitch does, the blur of some 65 pixels of 1024 is Krita AI Diffusion's.
    """
    _check(source, margins, aspect, anchor_xy)
    height, width = source.shape[:2]
    top, right, bottom, left = _growth_px(width, height, margins, aspect, anchor_xy)
    canvas = blank(left + width + right, top + height + bottom)
    within = np.s_[top : top + height, left : left + width]
    canvas[within] = source
    blur_px = MAX_BLUR * min(height, width)
    middle = canvas[:, left : left + width]
    _continue(middle[:top][::-1], source, blur_px)
    _continue(middle[top + height :], source[::-1], blur_px)
    # The sides continue columns that have grown already, and so fill the corners.
    columns, grown = canvas.swapaxes(0, 1), middle.swapaxes(0, 1)
    _continue(columns[:left][::-1], grown, blur_px)
    _continue(columns[left + width :], grown[::-1], blur_px)
    allow = np.ones(canvas.shape[:2], np.bool_)
    allow[within] = False
    inpaint_mask = np.ones(canvas.shape[:2], np.bool_)
    inpaint_mask[
        top + OVERLAP_PX * (top > 0) : max(0, top + height - OVERLAP_PX * (bottom > 0)),
        left + OVERLAP_PX * (left > 0) : max(0, left + width - OVERLAP_PX * (right > 0)),
    ] = False
    return Layout(base=canvas, canvas=canvas, allow=allow, inpaint_mask=inpaint_mask, at_xy=(left, top))


def _growth_px(
    width: int, height: int, margins: Margins, aspect: float | None, anchor_xy: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Top, right, bottom, left."""
    top, bottom = round(margins[0] * height), round(margins[2] * height)
    right, left = round(margins[1] * width), round(margins[3] * width)
    if aspect is not None:
        grown_width, grown_height = left + width + right, top + height + bottom
        more_x = max(0, round(grown_height * aspect) - grown_width)
        more_y = max(0, round(grown_width / aspect) - grown_height)
        before_x, before_y = round(more_x * anchor_xy[0]), round(more_y * anchor_xy[1])
        left, right = left + before_x, right + more_x - before_x
        top, bottom = top + before_y, bottom + more_y - before_y
    return top, right, bottom, left


def _continue(outward: Rgb, inward: Rgb, max_blur_px: float) -> None:
    """Fill rows (D, L, 3) in place from the rows that they continue; both begin at the edge between them."""
    blurs_px = np.geomspace(1, max(max_blur_px, 2), BLURS)
    # A little depth evens out a line along the edge; much of it would draw in a product that stands near.
    edges = (inward[: max(1, round(DEPTH * blur))].mean(axis=0, dtype=np.float32) for blur in blurs_px)
    blurred = [ndimage.gaussian_filter1d(edge, px, 0, mode="nearest") for edge, px in zip(edges, blurs_px, strict=True)]
    wanted_px = BLUR_GROWTH * np.arange(1, len(outward) + 1)
    for row, place in zip(outward, np.interp(wanted_px, blurs_px, np.arange(BLURS)), strict=True):
        nearer = min(int(place), BLURS - 2)
        row[:] = np.rint(blurred[nearer] + (place - nearer) * (blurred[nearer + 1] - blurred[nearer]))


def _check(source: Rgb, margins: Margins, aspect: float | None, anchor_xy: tuple[float, float]) -> None:
    if not source.size:
        raise ValueError(f"a picture of shape {source.shape} has no edge to go on from; expected at least 1 x 1 pixels")
    if len(margins) != 4 or min(margins) < 0:
        raise ValueError(f"`margins` are {margins!r}; expected four shares (top, right, bottom, left), each 0 or more")
    if aspect is not None and not aspect > 0:
        raise ValueError(f"`aspect` is {aspect!r}; expected a width over a height, above 0, or None")
    if not all(0 <= share <= 1 for share in anchor_xy):
        raise ValueError(f"`anchor_xy` is {anchor_xy!r}; expected two shares of 0 (left, top) to 1 (right, bottom)")
