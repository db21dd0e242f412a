"""Repaint the product as the prompt says."""

from __future__ import annotations

from typing import Literal

from pipelines.tasks.base import Task
from pipelines.tasks.on_source import FillUnderMask, edit_with_fill


class ReplaceLayout(FillUnderMask):
    """The picture is painted on where it stands."""

    task: Literal["replace"] = "replace"


TASK = Task(
    name="replace",
    layout=ReplaceLayout,
    edit=edit_with_fill,
    needs=("prompts.paint",),
    fill="blur",  # Krita AI Diffusion's choice
)
