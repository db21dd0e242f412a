"""The options of `packshot try`: the recipe with what they change in it, and where the product is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.recipe import Recipe
from pipelines.recipe.filling import MODEL_SETS
from pipelines.recipe.templates import literal

EMBEDDED = (
    "the models that ship with Packshot know drawn scenes of 12 kinds of products only; what works on a photograph is "
    "a mask of your own (`--recipe studio --mask FILE` needs no model) or weights of your own (`--recipe FILE`)"
)
FINDERS = {"detect": ("detector",), "segment": ("segmenter",), "find": ("proposer", "encoder", "segmenter")}
"""The nodes that look for the product, with their models by the names that their stages give them."""
OPTIONS = {"prompts.find": "`--find`", "prompts.paint": "`--prompt`", "prompts.negative": "`--negative`"}
"""The options that replace a recipe's templates."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Where:
    """Where the product is: an encoded mask, or a box (left, top, right, bottom; pixels of the upright picture), or
    neither, so that it has to be found.
    """

    mask_bytes: bytes | None = None
    box_xyxy: Box | None = None

    def idle_nodes(self, recipe: Recipe) -> tuple[str, ...]:
        """The nodes that a given mask or box makes idle, so that their weights are not needed."""
        if len(recipe.chain()) > 1:
            return ()
        return tuple(FINDERS) if self.mask_bytes is not None else ("detect",) if self.box_xyxy else ()


def where_of(mask: Path | None, box: str | None) -> Where:
    """Read `--mask` and `--box`.

    Raises:
        ConfigError: both are given, the mask is not a file, or the box is not four numbers in order.
    """
    if mask is not None and box is not None:
        raise ConfigError("`--mask` and `--box` both say where the product is; give one of them")
    if mask is not None:
        return Where(mask_bytes=bytes_of(mask, "mask"))
    if box is None:
        return Where()
    try:
        left, top, right, bottom = (float(number) for number in box.split(","))
    except ValueError:
        left = top = right = bottom = 0.0
    if not (0 <= left < right and 0 <= top < bottom):
        raise ConfigError(
            f"`--box` is {box!r}; expected left,top,right,bottom in pixels of the upright picture, as 40,30,380,520"
        )
    return Where(box_xyxy=(left, top, right, bottom))


def recipe_of(
    name_or_path: str,
    models: str | None = None,
    prompts: Mapping[str, str | None] | None = None,
    variants: int | None = None,
    seed: int | None = None,
) -> Recipe:
    """The recipe, changed by the options; every variant that the judge lets pass is kept.

    Args:
        name_or_path: a ready recipe, or a YAML file.
        models: the model set in the place of the recipe's own.
        prompts: `find`, `paint` and `negative`, as they are: braces in them mean nothing; None leaves the recipe's.
        variants: candidates; None leaves the recipe's.
        seed: `paint.seed`; None leaves the recipe's.

    Raises:
        ConfigError: there is no such recipe or model set, a prompt is empty, or the settings cannot be.
    """
    given = recipes.read(name_or_path)
    if not isinstance(given, Mapping):
        return recipes.load(name_or_path)  # which says what is wrong
    if models is not None and models not in MODEL_SETS:
        raise ConfigError(f"`--models` is {models!r}; known: {', '.join(MODEL_SETS)}")
    if models == "own" != given.get("models"):
        raise ConfigError("`--models own`: weights of your own are named in a recipe; give it with `--recipe FILE`")
    said = {name: text for name, text in (prompts or {}).items() if text is not None}
    for name, text in said.items():
        if not text.strip() and name != "negative":
            raise ConfigError(f"{OPTIONS[f'prompts.{name}']} is empty; say it in words, or leave the option out")
    over = {
        "prompts": {name: literal(text) for name, text in said.items()},
        "paint": {name: value for name, value in (("variants", variants), ("seed", seed)) if value is not None},
        **({"models": models} if models else {}),
    }
    asked = _over(given, over)
    try:
        recipe = recipes.parse(asked)
        if recipe.judge.keep == "all":
            return recipe
        return recipes.parse(_over(asked, {"judge": {"keep_best": recipe.paint.variants}}))
    except ConfigError as error:
        raise ConfigError(f"recipe {name_or_path}, with what the command line says: {error}") from None


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two layers of sections; in a section of both, the keys of the layer above win."""
    sections = {
        name: {**(below.get(name) or {}), **value} if isinstance(value, Mapping) else value
        for name, value in above.items()
    }
    return {**below, **sections}


def uses_embedded(recipe: Recipe, where: Where) -> bool:
    """Whether a model that ships with the package is needed."""
    idle = where.idle_nodes(recipe)
    return any(one.is_embedded for node, _, one in recipe.loads() if node.partition("+")[0] not in idle)


def bytes_of(path: Path, what: str) -> bytes:
    """The bytes of a file that an option names.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"there is no {what} {str(path)!r}; give the path of a JPEG, PNG, WebP or TIFF file")
    return path.read_bytes()
