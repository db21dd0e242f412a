"""What a user asks for: a YAML recipe -> one section a node, filled in from its model set and its task, and checked.

Beside the nodes' sections stand `catalogue` (which column is what) and `prompts` (templates over columns, filled in by
`catalogue.rows`; no stage sees a template).
"""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from pipelines.errors import ConfigError
from pipelines.recipe.filling import filled_in
from pipelines.recipe.problems import in_words
from pipelines.recipe.reading import from_yaml
from pipelines.recipe.settings import (
    CatalogueSettings,
    DeliverSettings,
    JudgeSettings,
    ModelSettings,
    ReadSettings,
    ScoreSettings,
)
from pipelines.recipe.step import STEP_SECTIONS, StepSettings, why_not
from pipelines.rows import in_step
from pipelines.strict import Checkpoint
from pipelines.tasks import DEFAULT, TASKS

READY = Path(__file__).parent / "ready"
DEFAULT_RECIPE = DEFAULT.name

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
        return filled_in(given, STEP_SECTIONS) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _steps_fit_together(self) -> Recipe:
        for number, (step, following) in enumerate(pairwise(self.chain()), start=1):
            if step.paint.variants != 1:
                raise ValueError(f"step {number} paints {step.paint.variants} variants and hands on one; set it to 1")
            moved = TASKS[step.paint.task].moves_picture
            finding = following.find or following.detect
            if moved and finding and finding.on == "source":
                raise ValueError(
                    f"step {number} is {step.paint.task!r}, which moves the picture, so step {number + 1} cannot look "
                    f"for its product in the source; set its `{'find' if following.find else 'detect'}.on` to "
                    "`previous_step`, or change their order"
                )
        return self

    @model_validator(mode="after")
    def _steps_fit_their_tasks(self) -> Recipe:
        for number, step in enumerate(self.chain(), start=1):
            if wrong := why_not(step, self.catalogue):
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
        raise ConfigError("\n".join(dict.fromkeys(in_words(error, given, Recipe)))) from None
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
        return from_yaml(path.read_text(encoding="utf-8"))
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
