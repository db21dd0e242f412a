"""One picture, for people who try before they read: the same graph, in this process, into one folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import catalogue
from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.executors import inline
from pipelines.graph import Graph, build
from pipelines.pixels.crops import from_raw
from pipelines.pixels.images import decode, encode, thumbnail
from pipelines.pixels.masks import from_rle
from pipelines.recipe import Recipe
from pipelines.recipe.filling import MODEL_SETS
from pipelines.recipe.templates import literal
from pipelines.rows import BOXES, FAILED, REASONS, REJECTED, ItemError, Row
from pipelines.scores import rank
from pipelines.stages.compositing import finished_picture
from pipelines.stages.read import Read

logger = logging.getLogger(__name__)

DIFFERENCE_GAIN = 4  # so that a change of a few levels can be seen
OWN_FILES = re.compile(r"(mask|before-after|difference)\.png|recipe\.yaml|variant-\d+\.(png|webp|jpeg)")
EMBEDDED = (
    "the models that ship with Packshot know drawn scenes of 12 kinds of products only; what works on a photograph is "
    "a mask of your own (`--recipe studio --mask FILE` needs no model) or weights of your own (`--recipe FILE`)"
)
FINDERS = {"detect": ("detector",), "segment": ("segmenter",), "find": ("proposer", "encoder", "segmenter")}
"""The nodes that look for the product, with their models by the names that their stages give them."""
OPTIONS = {"prompts.find": "`--find`", "prompts.paint": "`--prompt`", "prompts.negative": "`--negative`"}
"""What says in the place of a recipe's template what it would say."""
Box = tuple[float, float, float, float]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Where:
    """Where the product is, as far as a person says so: an encoded mask, or a box (left, top, right, bottom; pixels of
    the upright picture), or neither.
    """

    mask_bytes: bytes | None = None
    box_xyxy: Box | None = None

    def has_nothing_to_do(self, recipe: Recipe) -> tuple[str, ...]:
        """The nodes that a given mask or box leaves nothing to do, so that their weights are not needed."""
        if len(recipe.chain()) > 1:
            return ()
        return tuple(FINDERS) if self.mask_bytes is not None else ("detect",) if self.box_xyxy else ()


def where_of(mask: Path | None, box: str | None) -> Where:
    """What `--mask` and `--box` say.

    Raises:
        ConfigError: both are there, the mask is no file, or the box is not four numbers in order.
    """
    if mask is not None and box is not None:
        raise ConfigError("`--mask` and `--box` both say where the product is; give one of them")
    if mask is not None:
        return Where(mask_bytes=_bytes_of(mask, "mask"))
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
    """A recipe with what the command line says over it; every variant that the judge lets pass is kept.

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
    """Two layers of sections; where a section is in both, the keys of the one above stand over it."""
    sections = {
        name: {**(below.get(name) or {}), **value} if isinstance(value, Mapping) else value
        for name, value in above.items()
    }
    return {**below, **sections}


def try_picture(
    photo: Path, recipe: Recipe, folder: Path, where: Where = Where(), columns: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], str]:
    """Render one picture and write what a person wants to see of it; what an earlier try wrote there goes first.

    The picture, and whatever else is read, is looked at before any model loads. Writes `recipe.yaml`, which does the
    same to a catalogue; `mask.png` (white may change); `variant-N.png` for each variant, those that the judge refused
    too; and of the best one `before-after.png` and, where it has the source's size, `difference.png`.

    Args:
        photo: the picture.
        recipe: what to do.
        folder: where to write.
        where: where the product is, if it need not be found.
        columns: the values of the columns that the recipe's templates name.

    Returns:
        The facts (status, reason, variants, pixels changed outside) and the text that says them.

    Raises:
        ConfigError: there is no such file, the folder cannot be written to, or a column has no value.
    """
    data = _bytes_of(photo, "picture")
    row = _row(photo.name, data, recipe, where, columns or {})
    _clear(folder, recipe, where)
    checked = Read(recipe.read)([row])[0]
    if isinstance(checked, ItemError):
        row = {**row, "status": FAILED, "reason": checked.reason, "detail": checked.detail, "node": "read"}
    else:
        _check_box(where, checked["size_wh"])
        logger.info("the picture is read; loading what is needed, then rendering")
        row = inline.run(_graph(recipe, where), [row])[0]
    facts = _facts(row)
    if row.get("allow_mask_rle") is not None:
        _write_pictures(folder, decode(data).rgb, row, facts, recipe.deliver.feather_px)
    text = _text(facts, folder)
    return facts, f"{text}\n{EMBEDDED}" if facts["status"] == REJECTED and uses_embedded(recipe, where) else text


def uses_embedded(recipe: Recipe, where: Where) -> bool:
    """Whether a model that ships with the package has anything to do."""
    idle = where.has_nothing_to_do(recipe)
    return any(one.is_embedded for node, _, one in recipe.loads() if node.partition("+")[0] not in idle)


# --- the row


def _bytes_of(path: Path, what: str) -> bytes:
    if not path.is_file():
        raise ConfigError(f"there is no {what} {str(path)!r}; give the path of a JPEG, PNG, WebP or TIFF file")
    return path.read_bytes()


def _row(name: str, data: bytes, recipe: Recipe, where: Where, columns: Mapping[str, str]) -> Row:
    values = {recipe.catalogue.key: name, **columns}
    unsaid = {column: settings for column, settings in _named(recipe).items() if column not in values}
    if where.mask_bytes is not None or where.box_xyxy is not None:
        # Nothing is looked for by words, so any word will do for the template that would have said what.
        values |= {column: "product" for column, settings in unsaid.items() if settings == ["prompts.find"]}
    missing = {column: settings for column, settings in unsaid.items() if column not in values}
    if missing:
        raise ConfigError("\n".join(_missing(recipe, *one) for one in missing.items()))
    table = pa.table(
        {
            **{column: pa.array([value], pa.string()) for column, value in values.items()},
            **({recipe.catalogue.mask: pa.array([None], pa.string())} if recipe.catalogue.mask else {}),
            "given_image_bytes": pa.array([data], pa.large_binary()),
            "given_mask_bytes": pa.array([where.mask_bytes], pa.large_binary()),
            "given_boxes_xyxy": pa.array([where.box_xyxy and [list(where.box_xyxy)]], BOXES),
        }
    )
    return catalogue.rows(recipe, table, None)[0]


def _named(recipe: Recipe) -> dict[str, list[str]]:
    """The columns that the recipe cannot do without, each with the settings that name it."""
    settings = recipe.catalogue
    beside = {"scene": settings.scene, "front": settings.front, "references": settings.references}
    files = {column: [f"catalogue.{name}"] for name, column in beside.items() if column}
    return {**recipe.needed_columns(), **files}


def _missing(recipe: Recipe, column: str, settings: Sequence[str]) -> str:
    instead = [OPTIONS[setting] for setting in settings if setting in OPTIONS]
    ways = [f"`--column {column}=...`", *instead, *(["`--mask`", "`--box`"] if "prompts.find" in settings else [])]
    return f"recipe {recipe.name!r} needs the column {column!r} (`{'`, `'.join(settings)}`); give {' or '.join(ways)}"


def _check_box(where: Where, size_wh: Sequence[int]) -> None:
    if where.box_xyxy and (where.box_xyxy[2] > size_wh[0] or where.box_xyxy[3] > size_wh[1]):
        raise ConfigError(
            f"`--box` ends at {where.box_xyxy[2]:g},{where.box_xyxy[3]:g}, and the upright picture is "
            f"{size_wh[0]} x {size_wh[1]} pixels; give a box within it"
        )


def _graph(recipe: Recipe, where: Where) -> Graph:
    """The recipe's graph; nodes with nothing to do get a model that is never asked, and load none."""
    idle = where.has_nothing_to_do(recipe)
    graph = build(recipe)
    nodes = (
        replace(node, given=tuple((model, _asked_nothing) for model in FINDERS[node.name]))
        if node.name in idle
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _asked_nothing(images: Sequence[Rgb], *prompts: object) -> Iterator[Any]:
    if images:
        raise RuntimeError(f"{len(images)} pictures came to a model that was left out, since a mask or box was given")
    return iter(())


# --- the files


def _clear(folder: Path, recipe: Recipe, where: Where) -> None:
    """Take away what an earlier try wrote, and put `recipe.yaml`, so that a folder that refuses is told now."""
    if where.mask_bytes is not None and recipe.catalogue.mask is None:
        recipe = recipe.model_copy(update={"catalogue": recipe.catalogue.model_copy(update={"mask": "mask"})})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if OWN_FILES.fullmatch(path.name):
                path.unlink()
        (folder / "recipe.yaml").write_text(recipes.dump(recipe), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write into {str(folder)!r}: {error.strerror}; give another `--output`") from error


def _facts(row: Row) -> dict[str, Any]:
    scores, kept = row.get("variant_scores") or [], row.get("variant_kept") or []
    return {
        "status": row["status"],
        "reason": row["reason"],
        "detail": row["detail"],
        "boxes_xyxy": row.get("boxes_xyxy"),
        "box_scores": row.get("box_scores"),
        "variants": [
            {
                "variant": number,
                "seed": row["variant_seeds"][number],
                "kept": kept[number],
                "reason": row["variant_reasons"][number],
                "changed_outside": row["changed_outside"][number],
                **score,
            }
            for number, score in enumerate(scores)
            if kept
        ],
    }


def _write_pictures(folder: Path, source: Rgb, row: Row, facts: dict[str, Any], feather_px: float) -> None:
    mask = from_rle(row["allow_mask_rle"])
    (folder / "mask.png").write_bytes(encode(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), "png"))
    for variant in facts["variants"]:
        number = variant["variant"]
        name, data = f"variant-{number}.png", row["image_files"][number]
        if variant["kept"]:
            name = f"variant-{number}.{row['image_formats'][number]}"
        else:
            data = encode(_refused_picture(row, number, feather_px), "png")
        (folder / name).write_bytes(data)
        variant["file"] = name
    if facts["variants"]:
        best = min(facts["variants"], key=lambda variant: (not variant["kept"], rank(variant)))
        facts["best"] = best["variant"]
        _compare(folder, source, _on_white((folder / best["file"]).read_bytes()))


def _refused_picture(row: Row, variant: int, feather_px: float) -> Rgb:
    """What `deliver` would have made of a variant that the judge refused."""
    count = len(row["regions_xyxy"])
    crops = [from_raw(raw) for raw in row["finished_crops"][variant * count : (variant + 1) * count]]
    return finished_picture(row, crops, feather_px)


def _on_white(encoded: bytes) -> Rgb:
    picture = decode(encoded)
    if picture.alpha is None:
        return picture.rgb
    opaque = picture.alpha[..., None] / 255
    return np.rint(picture.rgb * opaque + 255 * (1 - opaque)).astype(np.uint8)


def _compare(folder: Path, source: Rgb, picture: Rgb) -> None:
    if picture.shape == source.shape:
        difference = np.abs(picture.astype(np.int16) - source) * DIFFERENCE_GAIN
        (folder / "difference.png").write_bytes(encode(difference.clip(0, 255).astype(np.uint8), "png"))
    shown = thumbnail(picture, max(source.shape[:2]))
    height = max(len(source), len(shown))
    gap = np.full((height, 8, 3), 255, np.uint8)
    pair = np.hstack([_as_high(source, height), gap, _as_high(shown, height)])
    (folder / "before-after.png").write_bytes(encode(pair, "png"))


def _as_high(rgb: Rgb, height: int) -> Rgb:
    return np.pad(rgb, ((0, height - len(rgb)), (0, 0), (0, 0)), constant_values=255)


# --- the words


def _text(facts: dict[str, Any], folder: Path) -> str:
    variants = facts["variants"]
    again = f"the same for a catalogue: packshot render CATALOGUE --recipe {folder}/recipe.yaml --output OUTPUT"
    if facts["status"] != "ok":
        reason = REASONS[facts["reason"]]
        return "\n".join(
            [
                f"{facts['status']}: {reason.sentence} {reason.next_step}",
                *([facts["detail"]] if facts["detail"] else []),
                *(f"{folder}/{one['file']}: {REASONS[one['reason']].sentence}" for one in variants),
                *([] if facts["status"] == FAILED else [again]),
            ]
        )
    kept = [one for one in variants if one["kept"]]
    best = next(one for one in variants if one["variant"] == facts["best"])
    rank = f", the best of {len(variants)}" if len(variants) > 1 else ""
    difference = f", difference.png ({DIFFERENCE_GAIN} times)" if (folder / "difference.png").is_file() else ""
    return "\n".join(
        [
            f"look at {folder}/before-after.png: your picture, and beside it {best['file']}{rank}",
            f"{len(kept)} of {len(variants)} variants kept; pixels changed outside the mask, measured on the written "
            f"files: {sum(one['changed_outside'] for one in kept)}",
            f"also in {folder}/: variant-N, mask.png (white may change){difference}",
            again,
        ]
    )
