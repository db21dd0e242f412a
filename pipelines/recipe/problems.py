"""What is wrong with a recipe, in words: where, what was expected, and the nearest setting there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipelines.recipe.step import STEP_SECTIONS
from pipelines.tasks import TASKS

RENAMED = {"room": "crop_margin"}
"""Settings by a name that they had once."""


def in_words(error: ValidationError, given: Mapping[str, Any], recipe: type[BaseModel]) -> Iterator[str]:
    """Every problem in words: what a step says with the step's number, what the recipe says for all of them once."""
    problems = error.errors()
    no_such_task = any(problem["loc"][-2:] == ("paint", "task") for problem in problems)
    for problem in problems:
        place = problem["loc"]
        if no_such_task and problem["type"] == "union_tag_invalid":
            continue  # `mask.layout` of a task that does not exist
        if place[:1] != ("steps",) or len(place) < 3:
            if not (given.get("steps") and place and place[0] in STEP_SECTIONS):  # told by the last step
                yield _plain(problem, recipe, place)
        elif place[2] in given and place[2] not in given["steps"][place[1]]:
            yield _plain(problem, recipe, place[2:])
        elif place[2] in recipe.model_fields and place[2] not in STEP_SECTIONS:
            yield (
                f"step {int(place[1]) + 1}: `{place[2]}` is not a step's; it belongs to the recipe, beside `steps`, "
                f"and holds for the whole chain. A step may have: {', '.join(STEP_SECTIONS)}"
            )
        else:
            yield f"step {int(place[1]) + 1}: {_plain(problem, recipe, place[2:])}"


def _plain(problem: Any, recipe: type[BaseModel], parts: tuple[int | str, ...]) -> str:
    # pydantic puts the task into the place of a setting of `mask.layout`; people write none there.
    said = [part for before, part in pairwise(("", *parts)) if not (before == "layout" and part in TASKS)]
    place = ".".join(map(str, said))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(recipe, problem["loc"][:-1])
        key = str(problem["loc"][-1])
        near = difflib.get_close_matches(RENAMED.get(key, key), known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return f"`{place}` is not a setting; {hint}"
    if problem["type"] == "missing":
        if place.endswith("checkpoint"):
            return f"`{place}` is missing; `models: own` needs the checkpoint of every model"
        return f"`{place}` is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not place:
        return message
    return (
        f"`{place}` is {problem['input']!r}: {message}"
        if not isinstance(problem["input"], Mapping)
        else f"`{place}`: {message}"
    )


def _known_keys(recipe: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    models: list[type[BaseModel]] = [recipe]
    for part in place:
        if isinstance(part, int):
            continue
        below = [one for model in models if part in model.model_fields for one in _models(model.model_fields[part])]
        # A section that depends on the task has the task's name as a place of its own.
        models = below or [one for one in models if part in get_args(one.model_fields["task"].annotation)]
    return [name for model in models for name in model.model_fields]


def _models(field: Any) -> list[type[BaseModel]]:
    """The settings classes that a field's annotation names, in whatever union, tuple or option."""
    waiting, found = [field.annotation], []
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, type) and issubclass(one, BaseModel):
            found.append(one)
        waiting += get_args(one)
    return found
