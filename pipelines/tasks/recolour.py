"""Give the product another colour; shading and texture stay."""

from __future__ import annotations

from typing import Literal

from pipelines.pixels.recolour import recoloured
from pipelines.tasks.base import Edit, EditError, Given, Growth, Task, colour_rgb
from pipelines.tasks.on_source import OriginalUnderMask, paint_products


class RecolourLayout(OriginalUnderMask):
    """The picture is painted on where it stands."""

    task: Literal["recolour"] = "recolour"


def edit(layout: RecolourLayout, growth: Growth, given: Given) -> Edit:
    """Repaint each product a little, from its own picture in the new colour.

    Raises:
        EditError: `bad_colour`, where nobody knows the colour.
    """
    if given.colour is None:
        raise EditError("bad_colour", "the row names no colour; `recolour` needs one")
    rgb = colour_rgb(given.colour)
    return paint_products(growth, given, lambda allow: recoloured(given.source, given.product(), rgb))


TASK = Task(
    name="recolour",
    layout=RecolourLayout,
    edit=edit,
    needs=("prompts.colour",),
    reads=("paint_colour",),
    defaults={"paint": {"strength": 0.25}},
)
