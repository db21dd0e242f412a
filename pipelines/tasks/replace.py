"""Repaint the product as the prompt says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.pixels.fills import Content
from pipelines.tasks.base import Edit, Given, Growth, LayoutSettings, Task
from pipelines.tasks.on_source import filled_start, paint_products


class ReplaceLayout(LayoutSettings):
    """The picture is painted on where it stands."""

    task: Literal["replace"] = "replace"
    fill: Content = Field(
        "original",
        description="What lies under the mask before noise is put on it; counts below `paint.strength` 1, where "
        "`blur` is filled in.",
    )


def edit(layout: ReplaceLayout, growth: Growth, given: Given) -> Edit:
    """Repaint each product, from the fill where less than full noise is put in."""
    return paint_products(growth, given, filled_start(given, layout.fill))


TASK = Task(
    name="replace",
    layout=ReplaceLayout,
    edit=edit,
    needs=("prompts.paint",),
    fill="blur",  # Krita AI Diffusion's choice
)
