"""From what a client sends to a row and a recipe, through `catalogue.rows` like everything else."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import yaml

from pipelines import catalogue
from pipelines.errors import ConfigError
from pipelines.recipe import Recipe, parse, plain_settings
from pipelines.recipe.reading import from_yaml
from pipelines.recipe.templates import literal, template_columns
from pipelines.rows import Row
from pipelines.tasks import TASKS
from serve.errors import Refused
from serve.served import Served, check_can_be_asked

OWN = "given_"
"""Columns that begin so are the server's: what the request gives, as `catalogue.rows` takes it."""
KEY, IMAGE, REFERENCES = f"{OWN}item_key", f"{OWN}image_uri", f"{OWN}reference_uris"
MAX_RECIPE_CHARACTERS = 20_000
MAX_BRACKETS = 20
"""The scanner's work grows with the square of the open ones."""
FIELDS = {"prompts.find": "find", "prompts.paint": "prompt", "prompts.negative": "negative_prompt"}


@dataclass(frozen=True)
class Asked:
    """One picture and what to do with it; None and empty mean that the recipe decides.

    `columns` are the values that templates name, as a product table would have them. `prompts` are taken in turn by the
    variants; `seeds` are theirs, one each.
    """

    image: bytes
    mask: bytes | None = None
    references: tuple[bytes, ...] = ()
    recipe: str | None = None
    find: str | None = None
    prompts: tuple[str, ...] = ()
    negative_prompt: str | None = None
    seeds: tuple[int, ...] = ()
    variants: int | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)


def parse_columns(text: str | None) -> dict[str, str | None]:
    """The `columns` field: a JSON object of texts, numbers or nulls.

    Raises:
        Refused: it is anything else, or takes a name that is the server's own.
    """
    if text is None or not text.strip():
        return {}
    hint = 'Send an object of plain values, such as {"category": "shirt", "colour": "red"}.'
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "bad_columns", f"`columns` is not JSON: {error}", hint) from error
    if not isinstance(given, dict):
        raise Refused(400, "bad_columns", f"`columns` is a JSON {type(given).__name__}; expected an object", hint)
    for name, value in given.items():
        if isinstance(value, list | dict):
            raise Refused(400, "bad_columns", f"column {name!r} is a {type(value).__name__}; expected one value", hint)
        if name.startswith(OWN):
            message = f"column {name!r} begins with {OWN!r}, which is the server's own"
            raise Refused(400, "bad_columns", message, "Give it another name.")
    # What is not equal to itself is NaN, which is empty in a product table as well.
    return {name: None if value is None or value != value else str(value) for name, value in given.items()}


def refused_recipe(error: ConfigError) -> Refused:
    """What a client hears of a recipe that cannot be."""
    return Refused(
        422, "bad_recipe", str(error), "Change what the message names; `packshot recipe schema` lists it all."
    )


def to_row(asked: Asked, served: Served) -> tuple[Row, Recipe]:
    """The row and the recipe that the graph is run with.

    Raises:
        Refused: the recipe cannot be, names weights that are not served here, or needs a value that was not sent.
    """
    try:
        own = _recipe(asked.recipe, served)
        check_can_be_asked(own)
        served.check_weights(own)
        recipe = parse({**_with_overrides(own, asked), "read": served.limits(own)})
        _check_columns(recipe, asked)
        (row,) = catalogue.rows(recipe, _table(own, asked), None)
    except ConfigError as error:
        raise refused_recipe(error) from error
    return row, recipe


def _recipe(text: str | None, served: Served) -> Recipe:
    if text is None or re.fullmatch(r"[\w./-]*", text.strip()):
        return served.named(text and text.strip())
    return _inline(text)


def _inline(text: str) -> Recipe:
    if len(text) > MAX_RECIPE_CHARACTERS:
        raise ConfigError(f"the recipe has {len(text)} characters; expected at most {MAX_RECIPE_CHARACTERS}")
    try:
        _check_tokens(text)
        return parse(from_yaml(text))
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise ConfigError(f"the recipe is not YAML or JSON: {error}") from error


def _check_tokens(text: str) -> None:
    depth = 0
    for token in yaml.scan(text):
        # An alias of aliases is small as text and endless once an error message spells it out.
        if isinstance(token, yaml.AliasToken):
            raise ConfigError("the recipe uses YAML aliases (`*name`), which HTTP does not take; write the values out")
        depth += isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken)
        depth -= isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken)
        if depth > MAX_BRACKETS:
            raise ConfigError(
                f"the recipe opens more than {MAX_BRACKETS} brackets within each other; no setting is so deep"
            )


def _with_overrides(recipe: Recipe, asked: Asked) -> dict[str, Any]:
    """The recipe with what the request says in its place; never with a column that names a place to fetch from.

    Of a recipe with steps, every step looks for what `find` says and keeps away from the negative prompt, `prompt` is
    for the one that paints by words, and the last one paints the variants.
    """
    given = plain_settings(recipe)
    steps = given.get("steps") or [given]
    words, paint = [step["prompts"] for step in steps], steps[-1]["paint"]
    if asked.find is not None:
        for said in words:
            said["find"] = literal(asked.find)
    elif asked.mask is not None and set(template_columns(recipe.chain()[0].prompts.find)) - set(asked.columns):
        words[0]["find"] = ""  # a given mask: nothing is looked for in it, so its columns need not be sent
    if asked.prompts:
        words[_painted_by_words(recipe)]["paint"] = [literal(prompt) for prompt in asked.prompts]
    if asked.negative_prompt is not None:
        for said in words:
            said["negative"] = literal(asked.negative_prompt)
    if asked.variants is not None:
        paint["variants"] = asked.variants
    if asked.seeds:
        # A request's seeds are the row's, never the node's: other requests join its batch.
        paint["seeds"] = []
        paint["variants"] = _count(asked.seeds, asked.variants)
        if len(steps) > 1 and len(asked.seeds) > 1:
            raise ConfigError(f"`seed` lists {len(asked.seeds)}, and the steps of {recipe.name!r} share one; send one")
    # Masks, references and the picture come with the request; a column could make the server fetch a URI for anyone.
    references = {} if recipe.catalogue.references is None else {"references": REFERENCES}
    return {**given, "catalogue": {"key": KEY, "image": IMAGE, **references}}


def _painted_by_words(recipe: Recipe) -> int:
    """The number of the step, from 0, that a request's `prompt` is for.

    Raises:
        Refused: it could be that of several steps, or of none.
    """
    steps = recipe.chain()
    if len(steps) == 1:
        return 0
    by_words = [number for number, step in enumerate(steps) if "prompts.paint" in TASKS[step.paint.task].needs]
    if len(by_words) != 1:
        needed = ", ".join(recipe.needed_columns())
        message = (
            f"{recipe.name!r} has {len(by_words)} steps that paint by words, and `prompt` cannot say for which it is"
        )
        raise Refused(422, "which_prompt", message, f"Leave `prompt` out; `columns` fills in its words: {needed}.")
    return by_words[0]


def _count(seeds: tuple[int, ...], variants: int | None) -> int:
    if variants not in (None, len(seeds)):
        raise ConfigError(f"`seed` lists {len(seeds)} for {variants} variants; give one each, or none")
    return len(seeds)


def _check_columns(recipe: Recipe, asked: Asked) -> None:
    """Tell in the form's words what was forgotten: a field, or the values that the recipe makes it up from."""
    missing = {name: settings for name, settings in recipe.needed_columns().items() if name not in asked.columns}
    if not missing:
        return
    columns = ", ".join(repr(name) for name in missing)
    needed_by = dict.fromkeys(one for settings in missing.values() for one in settings)
    fields = [] if recipe.steps or set(needed_by) - set(FIELDS) else [FIELDS[one] for one in needed_by]
    example = f"columns={json.dumps(dict.fromkeys(missing, '...'), ensure_ascii=False)}"
    if not fields or asked.columns:
        message = (
            f"`{next(iter(needed_by))}` of {recipe.name!r} needs the value of {columns}, which `columns` does not have"
        )
        instead = "".join(f", or `{name}` in the template's place" for name in fields)
        raise Refused(422, "missing_column", message, f"Send {example}{instead}.")
    names = " and ".join(f"`{name}`" for name in fields)
    verb, them = ("is", "it") if len(fields) == 1 else ("are", "them")
    message = (
        f"{names} {verb} missing, and so are the values from which {recipe.name!r} would make {them} up: {columns}"
    )
    raise Refused(422, "missing_field", message, f"Send {names}; or {example}.")


def _table(recipe: Recipe, asked: Asked) -> pa.Table:
    """One row, as a product table would have it; the picture's hash is the key where no column gives one."""
    key = asked.columns.get(recipe.catalogue.key) or hashlib.sha256(asked.image).hexdigest()
    columns = {name: pa.array([value], pa.string()) for name, value in {**asked.columns, KEY: key}.items()}
    return pa.table(
        {
            **columns,
            f"{OWN}seeds": pa.array([list(asked.seeds) or None], pa.list_(pa.int64())),
            f"{OWN}image_bytes": pa.array([asked.image], pa.large_binary()),
            f"{OWN}mask_bytes": pa.array([asked.mask], pa.large_binary()),
            REFERENCES: pa.nulls(1, pa.string()),
            f"{OWN}reference_bytes": pa.array([list(asked.references) or None], pa.list_(pa.large_binary())),
        }
    )
