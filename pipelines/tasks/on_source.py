"""What tasks share that paint on the source where it stands: what may change, and what is denoised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import Field

from pipelines.pixels import layouts
from pipelines.pixels.fills import Content, filled
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask, bounding_box, diagonal_px, grow, shrink, with_shadow_margin
from pipelines.tasks.base import Edit, Given, Growth, LayoutSettings


class OriginalUnderMask(LayoutSettings):
    """The picture itself lies under the mask before noise is put on it."""

    # In the key, beside the tasks that have a choice.
    fill: Literal["original"] = "original"


class FillUnderMask(LayoutSettings):
    """The picture is painted on where it stands, with a choice of what lies under the mask before."""

    fill: Content = Field(
        "original",
        description="What lies under the mask before noise is put on it; counts below `paint.strength` 1, where the "
        "task's own choice is filled in.",
    )


def edit_with_fill(layout: FillUnderMask, growth: Growth, given: Given) -> Edit:
    """Repaint each product, from the fill where less than full noise is put in."""

    def start(allow: Mask) -> Rgb | None:
        return None if layout.fill == "original" else filled(given.source, allow, layout.fill)

    return paint_products(growth, given, start)


def paint_products(growth: Growth, given: Given, start: Callable[[Mask], Rgb | None]) -> Edit:
    """The edit that repaints each product mask as a region of its own.

    `start` makes the picture that noise is put on, from where pixels may change (H, W); None is the source itself.
    """
    allowed = list(given.products) if given.exact else [grown(growth, product) for product in given.products]
    if growth.band_px:
        allowed = [_outline_band(mask, growth.band_px) for mask in allowed]
    inpaint_masks = [inpaint_mask(growth, mask) for mask in allowed]
    layout = layouts.replaced(given.source, np.logical_or.reduce(allowed), np.logical_or.reduce(inpaint_masks))
    return Edit(layout, inpaint_masks, start(layout.allow))


def grown(growth: Growth, product: Mask) -> Mask:
    """Where pixels may change (H, W): the product's mask, grown, with the margin for its shadow."""
    return with_shadow_margin(grow(product, round(growth.grow * diagonal_px(product))), growth.shadow_margin)


def inpaint_mask(growth: Growth, allowed: Mask) -> Mask:
    """What is denoised (H, W): what may change, dilated further, or the box round that."""
    dilated = grow(allowed, round(growth.denoise_grow * diagonal_px(allowed)))
    if growth.denoise_shape == "box":
        left, top, right, bottom = bounding_box(dilated)
        dilated[top:bottom, left:right] = True
    return dilated


def _outline_band(mask: Mask, width_px: int) -> Mask:
    return grow(mask, width_px // 2) & ~shrink(mask, width_px - width_px // 2)
