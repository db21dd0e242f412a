"""Put the reference's product in the place of the one that is found."""

from __future__ import annotations

from typing import Literal

from pipelines.pixels import layouts
from pipelines.pixels.fills import filled
from pipelines.tasks.base import Edit, EditError, Given, Growth, Task
from pipelines.tasks.on_source import OriginalUnderMask, grown, inpaint_mask


class InsertLayout(OriginalUnderMask):
    """The picture is painted on where it stands."""

    task: Literal["insert"] = "insert"


def edit(layout: InsertLayout, growth: Growth, given: Given) -> Edit:
    """Repaint the products' place as one region, from a collage of the reference on the surroundings.

    Raises:
        EditError: `reference_needed`, where the row names no reference.
    """
    if given.reference is None:
        raise EditError("reference_needed", "the row names no reference picture; `insert` needs one")
    region = given.product() if given.exact else grown(growth, given.product())
    ground = filled(given.source, region, "telea")
    collage = layouts.inserted(given.reference, given.source, region, ground=ground).canvas
    denoised = inpaint_mask(growth, region)
    return Edit(layouts.replaced(given.source, region, denoised), [denoised], start=collage)


TASK = Task(
    name="insert",
    layout=InsertLayout,
    edit=edit,
    needs=("catalogue.references",),
    reads=("reference_bytes",),
    defaults={"paint": {"strength": 0.5}},
)
