"""Image to image on the whole picture, as the prompt says."""

from __future__ import annotations

from typing import Literal

from pipelines.pixels import layouts
from pipelines.tasks.base import Edit, Given, Growth, Task, one_region
from pipelines.tasks.on_source import OriginalUnderMask


class RestyleLayout(OriginalUnderMask):
    """The whole picture is painted on where it stands."""

    task: Literal["restyle"] = "restyle"


def edit(layout: RestyleLayout, growth: Growth, given: Given) -> Edit:
    """Repaint everything."""
    return one_region(layouts.everything(given.source))


TASK = Task(
    name="restyle",
    layout=RestyleLayout,
    edit=edit,
    finds_product=False,
    needs=("prompts.paint",),
    defaults={"paint": {"strength": 0.5}, "score": {"likeness": False}},
)
