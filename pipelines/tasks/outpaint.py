"""Paint on beyond the picture's borders; the whole old picture stays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.pixels import layouts
from pipelines.tasks.base import Edit, EditError, Given, Growth, LayoutSettings, Task, one_region, ratio

Margin = Annotated[float, Field(ge=0, le=4)]
Share = Annotated[float, Field(ge=0, le=1)]


class OutpaintLayout(LayoutSettings):
    """The canvas grows and the scene goes on."""

    task: Literal["outpaint"] = "outpaint"
    aspect: str | None = Field(
        None,
        pattern=r"^[1-9]\d*:[1-9]\d*$",
        description="Width to height, as `4:5`; the canvas grows to it, never shrinks.",
    )
    margins: tuple[Margin, Margin, Margin, Margin] = Field(
        (0.0, 0.0, 0.0, 0.0), description="Growth above, right, below and left, before `aspect`. Shares of the picture."
    )
    anchor_xy: tuple[Share, Share] = Field(
        (0.5, 0.5), description="Where the old picture lies in the free room: 0 left or top, 1 right or bottom."
    )


def edit(layout: OutpaintLayout, growth: Growth, given: Given) -> Edit:
    """Grow the canvas and paint what is new of it.

    Raises:
        EditError: `nothing_to_grow`, where the picture has the asked shape already.
    """
    aspect = ratio(layout.aspect) if layout.aspect else None
    outpainted = layouts.outpainted(given.source, margins=layout.margins, aspect=aspect, anchor_xy=layout.anchor_xy)
    if not outpainted.allow.any():
        raise EditError("nothing_to_grow", f"margins {layout.margins}, aspect {layout.aspect}")
    return one_region(outpainted)


TASK = Task(
    name="outpaint",
    layout=OutpaintLayout,
    edit=edit,
    finds_product=False,
    moves_picture=True,
    own_canvas=True,
    defaults={"score": {"likeness": False}},
)
