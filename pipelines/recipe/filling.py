"""What a recipe does not say: filled in before it is checked.

| what says a setting | wins over |
|---|---|
| the step | all below |
| the recipe | its task and its models |
| the task, `tasks.TASKS[...].defaults` | the models |
| the models, `MODEL_SETS` | the default of the section |

A step finds its product as it says itself: where it says `detect` or `segment`, a `find` of the recipe does not hold
for it, nor the other way round, and a task that finds no product takes none of them. Every step but the last paints one
variant where it does not say another number. Three settings follow from others: `segment.on` is `detect.on`,
`mask.layout.task` is `paint.task`, and `score.segmenter` is `segment.checkpoint` where the task measures expansion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pipelines.tasks import Task, task_of

Unchecked = Mapping[str, Any]
"""A recipe, or one section, as it was read: nothing in it has been checked."""

MODEL_SETS: dict[str, dict[str, dict[str, Any]]] = {
    "embedded": {
        "detect": {"checkpoint": "embedded:detector", "min_score": 0.38},
        "segment": {"checkpoint": "embedded:segmenter", "crop_margin": 0.75},
        "find": {
            "checkpoint": "embedded:segmenter",
            "encoder": "embedded:encoder",
            "points_per_side": 24,
            "min_predicted_iou": 0.2,  # this small SAM is modest about masks that it cut from a point
            "min_stability": 0.2,
            "box_nms_iou": 0.85,
            "box_rounds": 1,
            "crop_margin": 0.75,
            "min_text_score": 0.4,  # on 40 scenes of other seeds 1 of 20 absent products is answered
            "min_reference_score": 0.65,
        },
        "mask": {"crop_px": 256},
        "paint": {"checkpoint": "embedded:painter", "sampler": "unipc", "steps": 8, "guidance": 3.0},
        "score": {"checkpoint": "embedded:encoder"},
    },
    "own": {"detect": {"sizing": "as_trained"}},
}
"""What a set of models fills in where a recipe is silent; full-size sets join when their weights have been tried.

No set raises `call_size` from 1, so that one picture costs one picture: docs/decisions/0013."""
FINDING = ("detect", "segment", "find")
"""The sections about where a product is."""
FILLED_IN = (*FINDING, "mask", "paint", "compose", "score")


def filled_in(given: Unchecked, step_sections: Collection[str]) -> dict[str, Any]:
    """What was given, and what its models and its task say where it is silent.

    Of a recipe with steps, every step's own sections stand over the recipe's, and the recipe's become those of its last
    step. What a step cannot have (none of `step_sections`) stays in it, so that it is refused, and has no effect.
    """
    if not (isinstance(given.get("steps"), list | tuple) and given["steps"]):
        return _one_step(given)
    common = {name: value for name, value in given.items() if name != "steps"}
    last, steps = common, []
    for number, step in enumerate(given["steps"], start=1):
        if isinstance(step, Mapping):
            own = {name: value for name, value in step.items() if name in step_sections}
            last = _one_step(_over_the_recipe(common, own, is_last=number == len(given["steps"])))
            steps.append({**step, **{name: last[name] for name in step_sections if name in last}})
        else:
            steps.append(step)
    return {**last, "steps": tuple(steps)}


def _over_the_recipe(recipe: Unchecked, step: Unchecked, is_last: bool) -> dict[str, Any]:
    merged = _merged(_without_other_finding(recipe, step), step)
    if not is_last and isinstance(merged.get("paint", {}), Mapping) and "variants" not in _section(step, "paint"):
        merged["paint"] = {**_section(merged, "paint"), "variants": 1}
    return merged


def _without_other_finding(recipe: Unchecked, step: Unchecked) -> dict[str, Any]:
    """The recipe's own sections, without those about finding where a step finds nothing, or in another way."""
    without: tuple[str, ...] = ()
    if not _task(_merged(recipe, step)).finds_product:
        without = FINDING
    elif "detect" in step or "segment" in step:
        without = ("find",)
    elif "find" in step:
        without = ("detect", "segment")
    return {name: value for name, value in recipe.items() if name not in without}


def _one_step(given: Unchecked) -> dict[str, Any]:
    task, filled = _task(given), dict(given)
    finds = () if not task.finds_product else ("find",) if filled.get("find") else ("detect", "segment")
    for section in FILLED_IN:
        said = filled.get(section, {})
        if isinstance(said, Mapping) and (said or section in finds or section not in FINDING):
            of_models = MODEL_SETS.get(str(given.get("models")), {}).get(section, {})
            filled[section] = {**of_models, **task.defaults.get(section, {}), **said}
    for section, below in _following(filled, task).items():
        if isinstance(filled.get(section), Mapping):
            filled[section] = {**below, **filled[section]}
    if isinstance(filled["mask"], Mapping) and isinstance(layout := filled["mask"].get("layout", {}), Mapping):
        filled["mask"] = {**filled["mask"], "layout": {**_layout(filled, task, given), **layout}}
    return filled


def _following(filled: Unchecked, task: Task) -> dict[str, dict[str, Any]]:
    """The settings that follow from another section's, a section each; none where that is not a section."""
    following: dict[str, dict[str, Any]] = {}
    if isinstance(filled.get("detect"), Mapping):
        following["segment"] = {"on": filled["detect"].get("on", "source")}
    if task.measures_expansion and isinstance(filled.get("segment"), Mapping):
        following["score"] = {"segmenter": filled["segment"].get("checkpoint")}
    return following


def _layout(filled: Unchecked, task: Task, given: Unchecked) -> dict[str, Any]:
    less_noise = _section(filled, "paint").get("strength", 1.0) != 1.0
    return {"task": _task_name(given), **({"fill": task.fill} if task.fill and less_noise else {})}


def _task_name(given: Unchecked) -> Any:
    return _section(given, "paint").get("task") or task_of(None).name


def _task(given: Unchecked) -> Task:
    return task_of(_task_name(given))


def _section(given: Unchecked, name: str) -> Unchecked:
    return said if isinstance(said := given.get(name), Mapping) else {}


def _merged(below: Unchecked, above: Unchecked) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
