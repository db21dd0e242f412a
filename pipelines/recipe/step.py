"""One step of a recipe, and whether it can do its task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from pipelines.recipe.filling import FINDING
from pipelines.recipe.settings import (
    CatalogueSettings,
    ComposeSettings,
    DetectSettings,
    FindSettings,
    MaskSettings,
    PaintSettings,
    PromptSettings,
    SegmentSettings,
)
from pipelines.recipe.templates import template_columns
from pipelines.strict import Settings
from pipelines.tasks import TASKS, Task


class StepSettings(Settings):
    """What one step does: where the product is, where to paint, what and how; all other sections are the recipe's."""

    prompts: PromptSettings
    detect: DetectSettings | None = Field(
        None, description="What counts as found; none in a task on the whole picture."
    )
    segment: SegmentSettings | None = Field(None, description="How a box becomes a mask; none where nothing is found.")
    find: FindSettings | None = Field(
        None, description="Finding among all that can be cut out, by text or reference; then no `detect` or `segment`."
    )
    mask: MaskSettings
    paint: PaintSettings
    compose: ComposeSettings = ComposeSettings()

    def find_template(self) -> str:
        """What is looked for, as a template; nothing, in a task on the whole picture or by reference."""
        by_reference = self.find is not None and self.find.by == "reference"
        return "" if by_reference or not TASKS[self.paint.task].finds_product else self.prompts.find

    def named_columns(self) -> Iterator[tuple[str, str]]:
        """Every setting here that names a column of the table, with the column."""
        for setting, template in [
            ("prompts.find", self.find_template()),
            *(("prompts.paint", template) for template in self.prompts.paint),
            ("prompts.negative", self.prompts.negative),
            *([("prompts.colour", self.prompts.colour)] if self.prompts.colour else []),
        ]:
            yield from ((setting, column) for column in template_columns(template))
        if self.paint.seed_by:
            yield "paint.seed_by", self.paint.seed_by


STEP_SECTIONS = tuple(StepSettings.model_fields)
"""The sections that a step may have for itself."""


def why_not(step: StepSettings, catalogue: CatalogueSettings) -> str | None:
    """Why a step cannot do its task, in a sentence; None if it can."""
    task = TASKS[step.paint.task]
    if step.mask.layout.task != task.name:
        return f"`mask.layout.task` is {step.mask.layout.task!r} and `paint.task` {task.name!r}; leave it out"
    if not task.paints and step.paint.variants != 1:
        return f"the task {task.name!r} leaves nothing to chance; set `paint.variants` to 1"
    return _why_not_found(step, task, catalogue) or _why_not_told(step, task, catalogue)


def _why_not_found(step: StepSettings, task: Task, catalogue: CatalogueSettings) -> str | None:
    said = [name for name in FINDING if getattr(step, name) is not None]
    if not task.finds_product and said:
        return f"the task {task.name!r} looks for no product; take `{said[0]}` out"
    if task.finds_product and said not in (["detect", "segment"], ["find"]):
        return f"the task {task.name!r} looks for a product, by `detect` and `segment` or by `find`; here are {said}"
    if step.find and step.mask.instances != "highest_score":
        return (
            "what `find` stores are rival readings, of which the first counts; `mask.instances` can only be "
            f"`highest_score`, and is `{step.mask.instances}`"
        )
    if step.find and step.find.by == "reference" and catalogue.references is None:
        return "`find.by: reference` needs `catalogue.references`, the column with the product's pictures"
    return None


def _why_not_told(step: StepSettings, task: Task, catalogue: CatalogueSettings) -> str | None:
    """Why what the task needs to be told is not there, or what it is told belongs to another one."""
    sections: dict[str, Settings] = {"prompts": step.prompts, "catalogue": catalogue}
    for need in task.needs:
        section, _, name = need.partition(".")
        if not _says_something(getattr(sections[section], name)):
            description = type(sections[section]).model_fields[name].description
            return f"`{need}` says nothing, and the task {task.name!r} needs it: {description}"
    for name, field in type(step.prompts).model_fields.items():
        need = f"prompts.{name}"
        if field.default is None and getattr(step.prompts, name) is not None and need not in task.needs:
            owners = " or ".join(f"`{one.name}`" for one in TASKS.values() if need in one.needs)
            return f"`{need}` belongs to the task {owners}; this one is {task.name!r}"
    return None


def _says_something(said: Any) -> bool:
    words = (said,) if isinstance(said, str) else said or ()
    return any(word.strip() for word in words)
