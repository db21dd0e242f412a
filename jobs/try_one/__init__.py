"""`packshot try`: one picture, rendered by the same graph in this process, into one folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.try_one.files import clear, facts_of, text_of, write_pictures
from jobs.try_one.options import EMBEDDED, FINDERS, OPTIONS, Where, bytes_of, uses_embedded
from pipelines import catalogue
from pipelines.errors import ConfigError
from pipelines.executors import inline
from pipelines.graph import Graph, build
from pipelines.pixels.images import decode
from pipelines.recipe import Recipe
from pipelines.rows import BOXES, FAILED, REJECTED, ItemError, Row
from pipelines.stages.read import Read

logger = logging.getLogger(__name__)


def try_picture(
    photo: Path, recipe: Recipe, folder: Path, where: Where = Where(), columns: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], str]:
    """Render one picture and write the results into a folder, from which the files of an earlier try are removed.

    The picture and all other inputs are checked before any model loads. Writes `recipe.yaml`, which does the same to a
    catalogue; `mask.png` (white may change); `variant-N.png` for each variant, also those that the judge refused; and
    of the best one `before-after.png` and, if it has the source's size, `difference.png`.

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
    data = bytes_of(photo, "picture")
    row = _row(photo.name, data, recipe, where, columns or {})
    clear(folder, recipe, where)
    checked = Read(recipe.read)([row])[0]
    if isinstance(checked, ItemError):
        row = {**row, "status": FAILED, "reason": checked.reason, "detail": checked.detail, "node": "read"}
    else:
        _check_box(where, checked["size_wh"])
        logger.info("the picture is read; loading what is needed, then rendering")
        row = inline.run(_graph(recipe, where), [row])[0]
    facts = facts_of(row)
    if row.get("allow_mask_rle") is not None:
        write_pictures(folder, decode(data).rgb, row, facts, recipe.deliver.feather_px)
    text = text_of(facts, folder)
    return facts, f"{text}\n{EMBEDDED}" if facts["status"] == REJECTED and uses_embedded(recipe, where) else text


def _row(name: str, data: bytes, recipe: Recipe, where: Where, columns: Mapping[str, str]) -> Row:
    values = {recipe.catalogue.key: name, **columns}
    unsaid = {column: settings for column, settings in _named(recipe).items() if column not in values}
    if where.mask_bytes is not None or where.box_xyxy is not None:
        # Nothing is searched by words, so any word will do for the template of the search.
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
    """The columns that the recipe needs, each with the settings that name it."""
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
    """The recipe's graph; nodes that a given mask or box makes idle get a stand-in for their model and load none."""
    idle = where.idle_nodes(recipe)
    graph = build(recipe)
    nodes = (
        replace(node, given=tuple((model, _never_called) for model in FINDERS[node.name]))
        if node.name in idle
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _never_called(images: Sequence[object], *prompts: object) -> Iterator[Any]:
    if images:
        raise RuntimeError(f"{len(images)} pictures came to a model that was left out, since a mask or box was given")
    return iter(())
