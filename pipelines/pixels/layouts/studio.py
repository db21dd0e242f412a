"""A product alone on a flat colour: sized round the product, so that its own pixels are copied and not resampled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.layouts.laying import lay, product_box, trimmed, warped
from pipelines.pixels.layouts.layout import Layout, blank, nowhere
from pipelines.pixels.shadows import Shadow, contact_shadow

WHITE = (255, 255, 255)
Sides = tuple[bool, bool]


def in_studio(
    cutout: Cutout,
    *,
    colour_rgb: tuple[int, int, int] = WHITE,
    fill: float = 0.85,
    margin: float = 0.0,
    aspect: float | None = 1.0,
    side_px: int | None = None,
    shadow_opacity: float = 0.5,
) -> Layout:
    """Set a product on a flat colour, with a soft shadow where it stands; nothing is painted.

    The frame is made to fit the product. Sides on which the cut-out's picture ends within the product are cut off
    there and lie at the frame's edge, not in mid-air; a product whose underside is cut off throws no shadow.
    Far from the product every pixel is exactly the colour.

    Args:
        cutout: the product in the whole of its picture, as its border tells which sides are cut off.
        colour_rgb: 0..255 each.
        fill: the larger of the product's width in the frame's and its height in the frame's, in (0, 1]; a side that is
            cut off at both ends fills the frame where the aspect lets it, and is centred where it does not.
        margin: what stays free at every side, cut off or not, as a share of the frame, 0 to below 0.5.
        aspect: the frame's width over its height; None leaves the same free space round the product.
        side_px: the frame's longer side; the product is resampled to it, so nothing is a copy of the source any more.
            None keeps the product's own pixels.
        shadow_opacity: how dark the shadow is at most, 0..1; 0 for none.

    Returns:
        The layout: `allow` is all but the product's opaque pixels, `inpaint_mask` is empty.

    Raises:
        CanvasTooLarge: more than `layout.MAX_CANVAS_PIXELS`.
        ValueError: the cut-out is transparent everywhere, or a number is outside its range.

    Source: fill 0.85 is what Amazon asks of a main picture (Google 0.75 to 0.9), white its background. Cut-off sides
    at the frame, and a margin that they keep too, are the rules of Photoroom's API
    (`ignorePaddingAndSnapOnCroppedSides`).
    """
    _check(fill, margin, aspect, side_px)
    left, top, right, bottom = product_box(cutout)
    height, width = cutout.alpha.shape
    cut_x, cut_y = (left == 0, right == width), (top == 0, bottom == height)
    frame_wh = _frame((right - left, bottom - top), (cut_x, cut_y), min(fill, 1 - 2 * margin), margin, aspect)
    if side_px is not None:
        scale = side_px / max(frame_wh)
        frame_wh = max(1, round(frame_wh[0] * scale)), max(1, round(frame_wh[1] * scale))
        cutout = warped(trimmed(cutout), scale)
        left, top, right, bottom = product_box(cutout)
    x = _start(right - left, frame_wh[0], cut_x, margin) - left
    y = _start(bottom - top, frame_wh[1], cut_y, margin) - top
    shadow = None if cut_y[1] else contact_shadow(cutout.alpha, shadow_opacity)
    layout = _on_ground(cutout, frame_wh, (x, y), colour_rgb, shadow)
    return replace(layout, at_xy=None) if side_px else layout


def in_own_frame(
    cutout: Cutout,
    *,
    colour_rgb: tuple[int, int, int] = WHITE,
    shadow_opacity: float = 0.5,
) -> Layout:
    """As `in_studio`, but the product stays where it is in its own picture, whose frame is kept.

    Raises:
        ValueError: the cut-out is transparent everywhere.
    """
    *_, bottom = product_box(cutout)
    height, width = cutout.alpha.shape
    shadow = None if bottom == height else contact_shadow(cutout.alpha, shadow_opacity)
    return _on_ground(cutout, (width, height), (0, 0), colour_rgb, shadow)


def _on_ground(
    cutout: Cutout,
    frame_wh: tuple[int, int],
    at_xy: tuple[int, int],
    colour_rgb: tuple[int, int, int],
    shadow: Shadow | None,
) -> Layout:
    x, y = at_xy
    canvas = blank(*frame_wh)
    canvas[:] = colour_rgb
    if shadow:
        lay(canvas, shadow.cutout, x + shadow.left, y + shadow.top)
    on, of = lay(canvas, cutout, x, y)
    allow = np.ones(canvas.shape[:2], np.bool_)
    allow[on] = cutout.alpha[of] < 255
    return Layout(base=canvas, canvas=canvas, allow=allow, inpaint_mask=nowhere(canvas), at_xy=at_xy)


def _frame(
    product_wh: tuple[int, int], cut: tuple[Sides, Sides], fill: float, margin: float, aspect: float | None
) -> tuple[int, int]:
    """Width and height, rounded down, so that the product fills at least what was asked."""
    width, height = (
        side / (1 - 2 * margin) if all(ends) else side + (side if aspect else max(product_wh)) * (1 / fill - 1)
        for side, ends in zip(product_wh, cut, strict=True)
    )
    if aspect is not None:
        width, height = max(width, height * aspect), max(height, width / aspect)
    # A hair is added, since in floats 85 / 0.85 is a little less than 100.
    return max(product_wh[0], int(width + 1e-6)), max(product_wh[1], int(height + 1e-6))


def _start(product_px: int, frame_px: int, cut: Sides, margin: float) -> int:
    """Where the product begins along one axis of the frame."""
    if cut == (True, False):
        return round(margin * frame_px)
    if cut == (False, True):
        return frame_px - product_px - round(margin * frame_px)
    return (frame_px - product_px) // 2


def _check(fill: float, margin: float, aspect: float | None, side_px: int | None) -> None:
    if not 0 < fill <= 1:
        raise ValueError(f"`fill` is {fill!r}; expected the product's share of the frame, above 0 and at most 1")
    if not 0 <= margin < 0.5:
        raise ValueError(f"`margin` is {margin!r} of the frame; expected 0 to below 0.5")
    if aspect is not None and not aspect > 0:
        raise ValueError(f"`aspect` is {aspect!r}; expected a width over a height, above 0, or None")
    if side_px is not None and side_px < 1:
        raise ValueError(f"`side_px` is {side_px!r}; expected 1 or more, or None for the product's own pixels")
