"""Paint a new background round the product, whose opaque pixels stay."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.pixels import layouts
from pipelines.pixels.cutouts import core
from pipelines.tasks.base import Edit, Given, Growth, LayoutSettings, Task, one_region


class BackgroundLayout(LayoutSettings):
    """The product stays and all else is painted."""

    task: Literal["background"] = "background"
    edge: Literal["matte", "hard"] = Field(
        "matte",
        description="`matte`: half-transparent pixels of the edge are unmixed, so that no old background glows.",
    )


def edit(layout: BackgroundLayout, growth: Growth, given: Given) -> Edit:
    """Repaint all but the product's opaque pixels, and lay its soft edge over what was painted."""
    cutout = given.cutout()
    return one_region(layouts.background(given.source, core(cutout)), cutout if layout.edge == "matte" else None)


TASK = Task(
    name="background",
    layout=BackgroundLayout,
    edit=edit,
    keeps_product=True,
    own_canvas=True,
    measures_expansion=True,
    needs=("prompts.paint",),
    defaults={"score": {"likeness": False}},
)
