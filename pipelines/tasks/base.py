"""What a task is: how it lays out its picture, what it needs from a recipe, and its edit of one item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import ConfigError
from pipelines.pixels import layouts
from pipelines.pixels.cutouts import Cutout, Matting
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask
from pipelines.pixels.recolour import colour_of
from pipelines.strict import Settings


class LayoutSettings(Settings):
    """What a task's picture looks like: the section `mask.layout`. Each task has a class of its own."""

    task: str


class Growth(Protocol):
    """The settings of the section `mask` about what lies round a product's mask; they are described there."""

    @property
    def grow(self) -> float: ...  # noqa: D102
    @property
    def shadow_margin(self) -> float: ...  # noqa: D102
    @property
    def band_px(self) -> int: ...  # noqa: D102
    @property
    def denoise_grow(self) -> float: ...  # noqa: D102
    @property
    def denoise_shape(self) -> Literal["outline", "box"]: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class Given:
    """One item, as a task gets it.

    source: the picture (H, W, 3). matting: cuts a product out with a soft edge. products: masks (H, W), none of them
    empty; no masks at all for a task that finds no product. exact: the masks are a user's own, and what they allow is
    not grown. colour: the new one, by name or `#rrggbb`. scene: the picture to place in. front: (H, W) of the scene,
    True on what lies before the product. reference: the product to insert, cut out. What the task does not read, or the
    row does not have, is None.
    """

    source: Rgb
    matting: Matting
    products: Sequence[Mask] = ()
    exact: bool = False
    colour: str | None = None
    scene: Rgb | None = None
    front: Mask | None = None
    reference: Cutout | None = None

    def product(self) -> Mask:
        """All products in one mask (H, W)."""
        return np.asarray(np.logical_or.reduce(self.products))

    def cutout(self) -> Cutout:
        """The products, cut out with a soft edge.

        Raises:
            EditError: `empty_mask`, where matting leaves nothing opaque.
        """
        cutout = self.matting(self.source, self.product())
        if not cutout.alpha.any():
            raise EditError("empty_mask", "nothing of the product is left after matting")
        return cutout


@dataclass(frozen=True, eq=False)
class Edit:
    """What a task does to one item.

    layout: what the finished picture is outside of what may change, and the canvas to paint on. inpaint_masks: what
    is denoised, one mask (H, W) a region; none where nothing is painted. start: (H, W, 3), the picture that noise is
    put on; None is the canvas. overlay: what is laid over the finished picture, or None. alpha: the base's
    transparency, uint8 (H, W), or None.
    """

    layout: layouts.Layout
    inpaint_masks: Sequence[Mask] = ()
    start: Rgb | None = None
    overlay: Cutout | None = None
    alpha: NDArray[np.uint8] | None = None


class EditError(ValueError):
    """This item does not allow the task; `reason` is a word of `rows.REASONS`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Task:
    """One thing that Packshot does to a product picture.

    Attributes:
        name: the value of `paint.task`, and the name of the ready recipe.
        layout: the settings class of `mask.layout`.
        edit: from the layout's settings, the growth settings and the item to what is done.
        finds_product: it looks for a product; else it works on the whole picture.
        paints: it calls the painter; else nothing is left to chance and one variant is made.
        keeps_product: the product itself is shown, so that white in a given mask is what lies round it.
        moves_picture: afterwards a pixel of the source lies elsewhere, or nowhere.
        own_canvas: it makes a base, a canvas or an overlay of its own, which nobody stores; without one, and without
            other steps, an item can be judged again from its stored crops.
        measures_expansion: what is painted may make the product look larger, so `score` measures that with the
            segmenter that cut it.
        needs: settings of a recipe without which it can do nothing, as `prompts.paint` or `catalogue.scene`. A setting
            of `prompts` that is null by default is refused with tasks that do not need it.
        reads: columns of the row that `mask` reads for this task alone.
        defaults: settings of other sections that it fills in where recipe and model set are silent.
        fill: `mask.layout.fill` where painting starts from less than full noise; None for tasks without one.
    """

    name: str
    layout: type[LayoutSettings]
    edit: Callable[[Any, Growth, Given], Edit]
    finds_product: bool = True
    paints: bool = True
    keeps_product: bool = False
    moves_picture: bool = False
    own_canvas: bool = False
    measures_expansion: bool = False
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fill: str | None = None


def one_region(layout: layouts.Layout, overlay: Cutout | None = None) -> Edit:
    """The edit that paints all of the layout's inpaint mask as one region; nothing where that mask is empty."""
    return Edit(layout, [layout.inpaint_mask] if layout.inpaint_mask.any() else [], overlay=overlay)


def colour_rgb(name: str) -> tuple[int, int, int]:
    """The colour of a name or `#rrggbb`, 0..255 each.

    Raises:
        EditError: `bad_colour`, where nobody knows the name.
    """
    try:
        return colour_of(name)
    except ConfigError as error:
        raise EditError("bad_colour", str(error)) from error


def ratio(aspect: str) -> float:
    """Width by height of an aspect such as `4:5`."""
    width, _, height = aspect.partition(":")
    return int(width) / int(height)
