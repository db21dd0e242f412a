"""What a user asks for: a YAML recipe -> one section a node, filled in from its model set and its task, and checked.

Beside the nodes' sections stand `catalogue` (which column is what) and `prompts` (templates over columns, filled in by
`catalogue.rows`; no stage sees a template).
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from pipelines.errors import ConfigError
from pipelines.recipe.settings import (
    DRAWS_NOTHING,
    FINDS_NOTHING,
    MOVES_THE_PICTURE,
    NEEDS_WORDS,
    CatalogueSettings,
    ComposeSettings,
    DeliverSettings,
    DetectSettings,
    FindSettings,
    JudgeSettings,
    MaskSettings,
    ModelSettings,
    PaintSettings,
    PromptSettings,
    ReadSettings,
    ScoreSettings,
    SegmentSettings,
    Task,
)
from pipelines.rows import in_step
from pipelines.strict import Checkpoint, Settings

READY = Path(__file__).parent / "ready"

MODEL_SETS: dict[str, dict[str, dict[str, Any]]] = {
    "embedded": {
        "detect": {"checkpoint": "embedded:detector", "min_score": 0.38},
        "segment": {"checkpoint": "embedded:segmenter", "room": 0.75},
        "find": {
            "checkpoint": "embedded:segmenter",
            "encoder": "embedded:encoder",
            "points_per_side": 24,
            "min_predicted_iou": 0.2,  # this small SAM is modest about masks that it cut from a point
            "min_stability": 0.2,
            "box_nms_iou": 0.85,
            "box_rounds": 1,
            "room": 0.75,
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


TASK_DEFAULTS: dict[Task, dict[str, dict[str, Any]]] = {
    "replace": {},
    "recolour": {"paint": {"strength": 0.25}},
    "remove": {
        "paint": {"guidance": 1.0, "strength": 0.35},
        "mask": {"grow": 0.03, "shadow_margin": 0.12, "denoise_shape": "box"},
        "compose": {"colour_fit": False},
        "score": {"likeness": False},
    },
    "background": {"score": {"likeness": False}},
    "studio": {"paint": {"variants": 1}, "score": {"likeness": False}},
    "outpaint": {"score": {"likeness": False}},
    "place": {"paint": {"strength": 0.4}, "score": {"likeness": False}},
    "insert": {"paint": {"strength": 0.5}},
    "restyle": {"paint": {"strength": 0.5}, "score": {"likeness": False}},
}
"""What a task fills in where recipe and model set are silent. 0.4 for a seam: Krita AI Diffusion's second pass. What is
removed leaves neither its shadow nor its outline to tell what was there; to fit its colours made them worse (Delta E
2000 to the scene without the product 4.5, without the fit 3.0, on 7 held-out products)."""


FILLS: dict[Task, str] = {"replace": "blur", "remove": "telea"}
"""What lies under the mask where a task begins with less than full noise: the choices of Krita AI Diffusion, but Telea
where it takes LaMa. Other tasks bring a picture of their own to begin with."""
FINDING = ("detect", "segment", "find")
"""The sections about where a product is."""


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
        return "" if by_reference or self.paint.task in FINDS_NOTHING else self.prompts.find

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
FIRST_SAID = ("name", "models", "catalogue", "prompts", "read")
"""What a recipe that is written out begins with."""


class Recipe(StepSettings):
    """What to do to every item of a catalogue.

    The sections of a step are here the only step's, or, of a recipe with `steps`, those of the last.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="A short name, for the manifest and the report.")
    models: Literal["embedded", "own"] = Field(
        description="`embedded`: the small models that ship along and know the sample world alone; "
        "`own`: each section names its checkpoint."
    )
    catalogue: CatalogueSettings = CatalogueSettings()
    read: ReadSettings = ReadSettings()
    score: ScoreSettings
    judge: JudgeSettings = JudgeSettings()
    deliver: DeliverSettings = DeliverSettings()
    steps: tuple[StepSettings, ...] = Field(
        (), description="Tasks one after the other: each lists what differs from the recipe's own sections."
    )

    def chain(self) -> tuple[StepSettings, ...]:
        """What every step does, in order; a recipe without `steps` is its own only one.

        Of a recipe with steps, the sections themselves are those of the last, which is what is scored and delivered.
        """
        return self.steps or (self,)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        return _filled_in(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _steps_fit_together(self) -> Recipe:
        for number, (step, following) in enumerate(pairwise(self.chain()), start=1):
            if step.paint.variants != 1:
                raise ValueError(f"step {number} paints {step.paint.variants} variants and hands on one; set it to 1")
            moved = step.paint.task in MOVES_THE_PICTURE
            looks = following.find or following.detect
            if moved and looks and looks.on == "source":
                raise ValueError(
                    f"step {number} is {step.paint.task!r}, which moves the picture, so step {number + 1} cannot look "
                    f"for its product in the source; set its `{'find' if following.find else 'detect'}.on` to "
                    "`canvas`, or change their order"
                )
        return self

    @model_validator(mode="after")
    def _steps_fit_their_tasks(self) -> Recipe:
        for number, step in enumerate(self.chain(), start=1):
            if wrong := _why_not(step, self.catalogue):
                raise ValueError(f"step {number}: {wrong}" if self.steps else wrong)
        return self

    def loads(self) -> Iterator[tuple[str, str, Checkpoint]]:
        """Every checkpoint in the graph's order: where, as which kind of network, and which.

        Where is the node, and behind it the kind if that is not the node's own: `paint+lora1`, `score+segmenter`.
        """
        in_steps = [
            (in_step(name, number), getattr(step, name))
            for number, step in enumerate(self.chain(), start=1)
            for name in STEP_SECTIONS
        ]
        for node, section in [*in_steps, ("score", self.score)]:
            if isinstance(section, ModelSettings):
                for role, one in section.weights().items():
                    yield node if role == section.role else f"{node}+{role}", role.rstrip(string.digits), one

    def checkpoints(self) -> dict[str, Checkpoint]:
        """Every checkpoint by where it is loaded, as `loads` says."""
        return {where: one for where, _, one in self.loads()}

    def uses_embedded(self) -> bool:
        """Whether any model knows the sample world alone."""
        return any(checkpoint.is_embedded for checkpoint in self.checkpoints().values())

    def needed_columns(self) -> dict[str, list[str]]:
        """The table's columns that the recipe names, each with the settings that name it."""
        needed: dict[str, list[str]] = {}
        for step in (*self.steps, self):
            for setting, column in step.named_columns():
                needed.setdefault(column, []).append(setting)
        return needed


def _why_not(step: StepSettings, catalogue: CatalogueSettings) -> str | None:
    """Why a step cannot do its task, in a sentence; None if it can."""
    task = step.paint.task
    if step.mask.layout.task != task:
        return f"`mask.layout.task` is {step.mask.layout.task!r} and `paint.task` {task!r}; leave it out"
    said = [name for name in FINDING if getattr(step, name) is not None]
    if task in FINDS_NOTHING and said:
        return f"the task {task!r} looks for no product; take `{said[0]}` out"
    if task not in FINDS_NOTHING and said not in (["detect", "segment"], ["find"]):
        return f"the task {task!r} looks for a product, by `detect` and `segment` or by `find`; here are {said}"
    if step.find and step.mask.instances != "highest_score":
        return (
            "what `find` stores are rival readings, of which the first counts; `mask.instances` can only be "
            f"`highest_score`, and is `{step.mask.instances}`"
        )
    if step.find and step.find.by == "reference" and catalogue.references is None:
        return "`find.by: reference` needs `catalogue.references`, the column with the product's pictures"
    if task in NEEDS_WORDS and not any(template.strip() for template in step.prompts.paint):
        return f"the task {task!r} paints what `prompts.paint` says, and it says nothing"
    if (task == "recolour") != (step.prompts.colour is not None):
        return f"`prompts.colour` belongs to the task `recolour`; this one is {task!r}"
    if task == "place" and catalogue.scene is None:
        return "the task `place` needs `catalogue.scene`, the column with the pictures to place in"
    if task == "insert" and catalogue.references is None:
        return "the task `insert` needs `catalogue.references`, the column with the product's pictures"
    if task in DRAWS_NOTHING and step.paint.variants != 1:
        return f"the task {task!r} leaves nothing to chance; set `paint.variants` to 1"
    return None


def _filled_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, and what its model set and its task say where it is silent."""
    if isinstance(given.get("steps"), list | tuple) and given["steps"]:
        return _with_steps(given)
    task = _task_of(given)
    filled = dict(given)
    finds = () if task in FINDS_NOTHING else ("find",) if filled.get("find") else ("detect", "segment")
    for section in (*FINDING, "mask", "paint", "compose", "score"):
        said = filled.get(section, {})
        if isinstance(said, Mapping) and (said or section in finds or section not in FINDING):
            of_models = MODEL_SETS.get(str(given.get("models")), {}).get(section, {})
            of_task = TASK_DEFAULTS.get(task, {}).get(section, {})
            filled[section] = {**of_models, **of_task, **said}
    if isinstance(filled.get("detect"), Mapping) and isinstance(filled.get("segment"), Mapping):
        filled["segment"] = {"on": filled["detect"].get("on", "source"), **filled["segment"]}
    if task == "background" and all(isinstance(filled.get(name), Mapping) for name in ("segment", "score")):
        filled["score"] = {"segmenter": filled["segment"].get("checkpoint"), **filled["score"]}
    if isinstance(filled.get("mask"), Mapping):
        layout = filled["mask"].get("layout", {})
        less_noise = isinstance(filled.get("paint"), Mapping) and filled["paint"].get("strength", 1.0) != 1.0
        if isinstance(layout, Mapping) and task in FILLS and less_noise:
            layout = {"fill": FILLS[task], **layout}
        if isinstance(layout, Mapping):
            filled["mask"] = {**filled["mask"], "layout": {"task": task, **layout}}
    return filled


def _with_steps(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every step's own sections stand over the recipe's; the recipe's become those of its last step.

    What a step cannot have stays in it, so that it is told, and has no effect.
    """
    common = {name: value for name, value in given.items() if name != "steps"}
    last, steps = common, []
    for number, step in enumerate(given["steps"], start=1):
        if not isinstance(step, Mapping):
            steps.append(step)
            continue
        own = {name: value for name, value in step.items() if name in STEP_SECTIONS}
        merged = _merged(_for_step(common, own), own)
        hands_on = number < len(given["steps"]) and isinstance(merged.get("paint", {}), Mapping)
        if hands_on and "variants" not in _section(own, "paint"):
            merged["paint"] = {**_section(merged, "paint"), "variants": 1}
        last = _filled_in(merged)
        steps.append({**step, **{name: last[name] for name in STEP_SECTIONS if name in last}})
    return {**last, "steps": tuple(steps)}


def _section(given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return said if isinstance(said := given.get(name), Mapping) else {}


def _for_step(common: Mapping[str, Any], step: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe's own sections, without those about finding where a step finds nothing, or in another way."""
    without: tuple[str, ...] = ()
    if _task_of(_merged(common, step)) in FINDS_NOTHING:
        without = FINDING
    elif "detect" in step or "segment" in step:
        without = ("find",)
    elif "find" in step:
        without = ("detect", "segment")
    return {name: value for name, value in common.items() if name not in without}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _task_of(given: Mapping[str, Any]) -> Any:
    return _section(given, "paint").get("task") or "replace"


def template_columns(template: str) -> list[str]:
    """The columns that a template names, in order: `a {colour} {category}` -> colour, category.

    Raises:
        ConfigError: the braces do not match, or hold more than a column's name.
    """
    try:
        fields = [
            (name, spec, conversion)
            for _, name, spec, conversion in string.Formatter().parse(template)
            if name is not None
        ]
    except ValueError as error:
        raise ConfigError(f"the template {template!r} has unmatched braces ({error}); write `{{column}}`") from error
    for name, spec, conversion in fields:
        if not name or spec or conversion or not re.fullmatch(r"\w[\w -]*", name):
            raise ConfigError(
                f"the template {template!r} has `{{{name}}}`; expected the bare name of a column in braces"
            )
    return [name for name, _, _ in fields]


def parse(given: Mapping[str, Any]) -> Recipe:
    """Check a recipe that was read already, from YAML or from a request's JSON.

    Raises:
        ConfigError: every problem at once, each with the setting's place, what was wrong, and the nearest known key.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"a recipe is a mapping of sections; this is a {type(given).__name__}")
    try:
        recipe = Recipe.model_validate(given)
    except ValidationError as error:
        raise ConfigError("\n".join(dict.fromkeys(_told(error, given)))) from None
    recipe.needed_columns()  # so that a bad template is told now
    return recipe


def load(name_or_path: str) -> Recipe:
    """A recipe from a YAML file, or a ready one by its name (`replace`).

    Raises:
        ConfigError: no such file or name, not YAML, or settings that cannot be.
    """
    given = read(name_or_path)
    try:
        return parse(given)
    except ConfigError as error:
        raise ConfigError(f"{_path_of(name_or_path)}:\n{error}") from None


def read(name_or_path: str) -> Any:
    """What stands in a recipe's YAML file, or in a ready one, before anything is filled in or checked.

    Raises:
        ConfigError: no such file or name, or not YAML.
    """
    path = _path_of(name_or_path)
    if not path.is_file():
        near = difflib.get_close_matches(name_or_path, _ready(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; ready recipes: {', '.join(_ready())}"
        raise ConfigError(f"there is no recipe file {name_or_path!r}, nor a ready recipe of that name{hint}")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error


def _ready() -> list[str]:
    return sorted(path.stem for path in READY.glob("*.yaml"))


def _path_of(name_or_path: str) -> Path:
    return READY / f"{name_or_path}.yaml" if name_or_path in _ready() else Path(name_or_path)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe file, for editors: only what a model set, a task or a recipe's steps cannot fill in
    is required.
    """
    whole = Recipe.model_json_schema()
    sections = {
        name: {**one, "required": [key for key in one.get("required", ()) if key != "checkpoint"]}
        if "call_size" in one.get("properties", ())
        else one
        for name, one in whole["$defs"].items()
    }
    step = {**sections["StepSettings"], "required": []}
    return {**whole, "required": ["name", "models"], "$defs": {**sections, "StepSettings": step}}


def plain_settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values that `parse` takes: every setting that was given or filled in, and no other."""
    said = recipe.model_dump(mode="json", exclude_unset=True)
    if recipe.steps:  # the sections that steps have stand in the steps
        said = {name: value for name, value in said.items() if name not in STEP_SECTIONS}
    return {name: said[name] for name in (*FIRST_SAID, *said) if name in said}


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, with every setting that was given or filled in from the model set."""
    return str(yaml.safe_dump(plain_settings(recipe), sort_keys=False, allow_unicode=True, width=100))


def _told(error: ValidationError, given: Mapping[str, Any]) -> Iterator[str]:
    """Every problem in words: what a step says with the step's number, what the recipe says for all of them once."""
    for problem in error.errors():
        place = problem["loc"]
        if place[:1] != ("steps",) or len(place) < 3:
            if not (given.get("steps") and place and place[0] in STEP_SECTIONS):  # told by the last step
                yield _plain(problem, place)
        elif place[2] in given and place[2] not in given["steps"][place[1]]:
            yield _plain(problem, place[2:])
        elif place[2] in Recipe.model_fields and place[2] not in STEP_SECTIONS:
            yield (
                f"step {int(place[1]) + 1}: `{place[2]}` is not a step's; it belongs to the recipe, beside `steps`, "
                f"and holds for the whole chain. A step may have: {', '.join(STEP_SECTIONS)}"
            )
        else:
            yield f"step {int(place[1]) + 1}: {_plain(problem, place[2:])}"


def _plain(problem: Any, parts: tuple[int | str, ...]) -> str:
    place = ".".join(str(part) for part in parts)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0.5)
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


def _known_keys(place: tuple[Any, ...]) -> list[str]:
    models: list[type[BaseModel]] = [Recipe]
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
