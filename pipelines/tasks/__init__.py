"""What Packshot does to a product picture, one task a file: its settings, what it needs, and its edit of one item.

A new task is a file here, its module in `TASKS`, a ready recipe and a row in the README; nothing else names tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field

from pipelines.tasks import background, insert, outpaint, place, recolour, remove, replace, restyle, studio
from pipelines.tasks.base import Edit, EditError, Given, Growth, LayoutSettings, Task

__all__ = ["DEFAULT", "TASKS", "AnyLayout", "Edit", "EditError", "Given", "Growth", "Task", "TaskName", "task_of"]

TASKS: dict[str, Task] = {
    module.TASK.name: module.TASK
    for module in (replace, recolour, remove, background, studio, outpaint, place, insert, restyle)
}
DEFAULT = replace.TASK


def task_of(name: Any) -> Task:
    """The task of this name; `DEFAULT` for null, and for what names no task."""
    return TASKS.get(name, DEFAULT) if isinstance(name, str) else DEFAULT


def _any_of(schema: dict[str, Any]) -> None:
    schema["anyOf"] = schema.pop("oneOf")  # a recipe leaves `task` out, so that more than one may fit


if TYPE_CHECKING:
    TaskName = str
    AnyLayout = LayoutSettings
else:
    TaskName = Literal[tuple(TASKS)]
    AnyLayout = Annotated[
        Union[tuple(task.layout for task in TASKS.values())],  # noqa: UP007  # of a list that is made
        Field(discriminator="task", json_schema_extra=_any_of),
    ]
