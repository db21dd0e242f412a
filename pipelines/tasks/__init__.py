"""What each task paints on: from the product's masks to a canvas, what may change of it, and what is denoised.

The geometry itself is in `pixels.layouts`; here settings meet it, one function a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ConfigError
from pipelines.models import RGB, Matting
from pipelines.pixels import layouts
from pipelines.pixels.cutouts import Cutout, core
from pipelines.pixels.fills import filled
from pipelines.pixels.layouts import Layout
from pipelines.pixels.masks import bounding_box, diagonal_px, grow, shrink, with_shadow_margin
from pipelines.pixels.recolour import colour_of, recoloured
from pipelines.recipe.settings import InScene, InStudio, MaskSettings, OnBackground, OnLargerCanvas, OnSource

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Given:
    """What a task works with besides the picture (H, W, 3).

    products: masks (H, W), none of them empty; none at all for a task on the whole picture. exact: the masks are a
    user's own, and allow what they say without growth. colour: the new one, by name or `#rrggbb`. scene: the picture to
    place in. front: (H, W) of the scene, what lies before the product. reference: the product to insert, cut out.
    """

    source: RGB
    products: Sequence[Mask] = ()
    exact: bool = False
    colour: str | None = None
    scene: RGB | None = None
    front: Mask | None = None
    reference: Cutout | None = None


@dataclass(frozen=True, eq=False)
class Work:
    """What there is to paint: a layout, what is denoised (a mask a region), and from which picture painting starts.

    start: (H, W, 3), None for the canvas itself. overlay: what is laid over the finished picture, or None. alpha: the
    base's transparency, uint8 (H, W), or None.
    """

    layout: Layout
    leaks: Sequence[Mask] = ()
    start: RGB | None = None
    overlay: Cutout | None = None
    alpha: NDArray[np.uint8] | None = None


class CannotBeLaidOut(ValueError):
    """This item does not allow the task; `reason` is a word of `rows.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def work(settings: MaskSettings, given: Given, matting: Matting) -> Work:
    """What the settings' task does to an item.

    Raises:
        CannotBeLaidOut: a colour without a meaning, no reference, a product wholly outside its scene, or a canvas that
            is too large.
    """
    try:
        return _work(settings, given, matting)
    except layouts.CanvasTooLarge as error:
        raise CannotBeLaidOut("canvas_too_large", str(error)) from error


def _work(settings: MaskSettings, given: Given, matting: Matting) -> Work:
    match settings.layout:
        case OnSource(task="restyle"):
            return _one_region(layouts.everything(given.source))
        case OnSource(task="insert"):
            return _insert(settings, given)
        case OnSource():
            return _on_source(settings, given)
        case OnBackground() as asked:
            return _on_background(asked, given, matting)
        case OnLargerCanvas() as asked:
            return _on_larger_canvas(asked, given)
        case InStudio() as asked:
            return _in_studio(asked, given, matting)
        case InScene() as asked:
            return _in_scene(asked, given, matting)


def _one_region(layout: Layout, overlay: Cutout | None = None) -> Work:
    return Work(layout, [layout.repaint] if layout.repaint.any() else [], overlay=overlay)


def _on_source(settings: MaskSettings, given: Given) -> Work:
    """replace, recolour, remove."""
    allowed = list(given.products) if given.exact else [_grown(settings, mask) for mask in given.products]
    if settings.band_px:
        allowed = [_band(mask, settings.band_px) for mask in allowed]
    leaks = [_leaked(settings, mask) for mask in allowed]
    layout = layouts.replaced(given.source, np.logical_or.reduce(allowed), np.logical_or.reduce(leaks))
    return Work(layout, leaks, _start(settings, given, layout.allow))


def _start(settings: MaskSettings, given: Given, allow: Mask) -> RGB | None:
    if given.colour is not None:
        return recoloured(given.source, np.logical_or.reduce(given.products), _colour(given.colour))
    fill = settings.layout.fill if isinstance(settings.layout, OnSource) else "original"
    return None if fill == "original" else filled(given.source, allow, fill)


def _insert(settings: MaskSettings, given: Given) -> Work:
    if given.reference is None:
        raise CannotBeLaidOut("reference_needed", "the row names no reference picture; `insert` needs one")
    products = np.logical_or.reduce(given.products)
    region = products if given.exact else _grown(settings, products)
    ground = filled(given.source, region, "telea")
    collage = layouts.inserted(given.reference, given.source, region, ground=ground).canvas
    leak = _leaked(settings, region)
    return Work(layouts.replaced(given.source, region, leak), [leak], start=collage)


def _on_background(asked: OnBackground, given: Given, matting: Matting) -> Work:
    cutout = _cutout(given, matting)
    return _one_region(layouts.background(given.source, core(cutout)), cutout if asked.edge == "matte" else None)


def _on_larger_canvas(asked: OnLargerCanvas, given: Given) -> Work:
    aspect = _ratio(asked.aspect) if asked.aspect else None
    layout = layouts.outpainted(given.source, margins=asked.margins, aspect=aspect, anchor_xy=asked.anchor_xy)
    if not layout.allow.any():
        raise CannotBeLaidOut("nothing_to_grow", f"margins {asked.margins}, aspect {asked.aspect}")
    return _one_region(layout)


def _in_studio(asked: InStudio, given: Given, matting: Matting) -> Work:
    cutout = _cutout(given, matting)
    framed = (
        layouts.in_own_frame
        if asked.frame == "source"
        else partial(
            layouts.in_studio,
            fill=asked.fill,
            margin=asked.margin,
            aspect=_ratio(asked.aspect),
            side_px=asked.side_px,
        )
    )
    if asked.show == "product":
        return Work(framed(cutout, colour_rgb=_colour(asked.colour), shadow_opacity=asked.shadow))
    # The transparency as if it were a picture, and the colours as they are unmixed, in the same frame.
    seen = np.where(cutout.alpha > 0, np.uint8(255), np.uint8(0))
    bare = partial(framed, colour_rgb=(0, 0, 0), shadow_opacity=0)
    opacity = bare(Cutout(np.repeat(cutout.alpha[..., None], 3, axis=2), seen))
    if asked.show == "cut_out":
        return Work(bare(Cutout(cutout.rgb, seen)), alpha=opacity.base[..., 0])
    grey = opacity.base if asked.show == "alpha" else 255 - opacity.base
    return Work(replace(opacity, base=grey, canvas=grey, kept=np.zeros_like(opacity.kept)))


def _in_scene(asked: InScene, given: Given, matting: Matting) -> Work:
    if given.scene is None:
        raise CannotBeLaidOut("scene_missing", "the row names no scene; `place` needs one")
    layout = layouts.placed_in_scene(
        _cutout(given, matting),
        given.scene,
        centre_xy=asked.centre_xy,
        height=asked.height,
        rotation_deg=asked.rotation_deg,
        in_front=given.front,
        shadow_opacity=asked.shadow,
        seam_px=asked.seam_px,
    )
    if not layout.allow.any():
        where = f"centre {asked.centre_xy}, height {asked.height} of the scene's"
        raise CannotBeLaidOut(
            "outside_the_scene", where + (", behind what lies in front" if given.front is not None else "")
        )
    return _one_region(layout)


def _cutout(given: Given, matting: Matting) -> Cutout:
    cutout = matting(given.source, np.logical_or.reduce(given.products))
    if not cutout.alpha.any():
        raise CannotBeLaidOut("empty_mask", "nothing of the product is left after matting")
    return cutout


def _grown(settings: MaskSettings, product: Mask) -> Mask:
    return with_shadow_margin(grow(product, round(settings.grow * diagonal_px(product))), settings.shadow_margin)


def _band(mask: Mask, width_px: int) -> Mask:
    return grow(mask, width_px // 2) & ~shrink(mask, width_px - width_px // 2)


def _leaked(settings: MaskSettings, allowed: Mask) -> Mask:
    leaked = grow(allowed, round(settings.denoise_grow * diagonal_px(allowed)))
    if settings.denoise_shape == "box":
        left, top, right, bottom = bounding_box(leaked)
        leaked[top:bottom, left:right] = True
    return leaked


def _colour(name: str) -> tuple[int, int, int]:
    try:
        return colour_of(name)
    except ConfigError as error:
        raise CannotBeLaidOut("bad_colour", str(error)) from error


def _ratio(aspect: str) -> float:
    width, _, height = aspect.partition(":")
    return int(width) / int(height)
