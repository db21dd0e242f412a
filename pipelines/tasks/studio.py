"""Show the product alone, on one colour or on none; nothing is generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field

from pipelines.pixels import layouts
from pipelines.pixels.cutouts import Cutout
from pipelines.tasks.base import Edit, Given, Growth, LayoutSettings, Task, colour_rgb, ratio


class StudioLayout(LayoutSettings):
    """The product cut out, on one colour, with its shadow; nothing is generated."""

    task: Literal["studio"] = "studio"
    show: Literal["product", "cut_out", "alpha", "mask"] = Field(
        "product",
        description="The product on its ground, or without one (a transparent PNG or WebP); its opacity as grey; or a "
        "mask for editors: the product black, which is preserved, and white what is filled.",
    )
    colour: str = Field("white", description="Of the ground: a name or `#rrggbb`.")
    frame: Literal["product", "source"] = Field(
        "product",
        description="Made to fit round the product by `fill`, `margin`, `aspect` and `side_px`; or the source's own, "
        "so that alpha and mask lie over it.",
    )
    fill: float = Field(0.85, gt=0.05, le=1, description="The product's larger side by the frame's; Amazon asks 0.85.")
    margin: float = Field(0.0, ge=0, lt=0.5, description="What stays free at every side. Share of the frame.")
    aspect: str = Field("1:1", pattern=r"^[1-9]\d*:[1-9]\d*$", description="Width to height of the picture.")
    shadow: float = Field(0.5, ge=0, le=1, description="Darkness of the contact shadow; 0 is none.")
    side_px: int | None = Field(
        None, ge=64, le=10_000, description="Longest side; null keeps the product's own pixels, bit for bit."
    )


def edit(layout: StudioLayout, growth: Growth, given: Given) -> Edit:
    """Cut the product out and frame it; show it, its cut-out, its alpha or its mask."""
    cutout, framed = given.cutout(), _frame(layout)
    if layout.show == "product":
        return Edit(framed(cutout, colour_rgb=colour_rgb(layout.colour), shadow_opacity=layout.shadow))
    # The transparency as if it were a picture, and the colours as they are unmixed, in the same frame.
    opaque = np.where(cutout.alpha > 0, np.uint8(255), np.uint8(0))
    bare = partial(framed, colour_rgb=(0, 0, 0), shadow_opacity=0)
    alpha = bare(Cutout(np.repeat(cutout.alpha[..., None], 3, axis=2), opaque))
    if layout.show == "cut_out":
        return Edit(bare(Cutout(cutout.rgb, opaque)), alpha=alpha.base[..., 0])
    grey = alpha.base if layout.show == "alpha" else 255 - alpha.base
    return Edit(replace(alpha, base=grey, canvas=grey))


def _frame(layout: StudioLayout) -> Callable[..., layouts.Layout]:
    if layout.frame == "source":
        return layouts.in_own_frame
    return partial(
        layouts.in_studio,
        fill=layout.fill,
        margin=layout.margin,
        aspect=ratio(layout.aspect),
        side_px=layout.side_px,
    )


TASK = Task(
    name="studio",
    layout=StudioLayout,
    edit=edit,
    paints=False,
    keeps_product=True,
    moves_picture=True,
    own_canvas=True,
    defaults={"paint": {"variants": 1}, "score": {"likeness": False}},
)
