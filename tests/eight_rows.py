"""Eight items of the sample world, and a short recipe, for the test that batch, online and inline make the same pixels.

Pictures of different sizes and formats; one shows nothing of what is asked, one is truncated, one comes with an empty
mask, one with a mask, one with references and one with seeds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import catalogue
from pipelines.pixels.images import encode
from pipelines.recipe import Recipe, load, parse
from pipelines.recipe.settings import CatalogueSettings
from pipelines.rows import Row
from sample_world.drawing.scenes import Scene, SceneObject, scene
from sample_world.drawing.shapes import CATEGORIES

FIRST_SEED = 3_000_000
SIZES_WH = ((256, 256), (512, 384), (300, 420), (640, 640), (384, 512), (256, 400), (480, 320), (420, 420))
ABSENT, EMPTY_MASK, TRUNCATED, MASKED, REFERRED, SEEDED = 2, 3, 4, 5, 6, 7


@dataclass(frozen=True)
class EightItem:
    """What a client sends for one item, and what a product table says of it."""

    image: bytes
    columns: dict[str, str]
    mask: bytes | None = None
    references: tuple[bytes, ...] = ()
    seeds: tuple[int, ...] = ()


def eight_recipe() -> Recipe:
    """The ready recipe, but quick and lenient: an unsure box will do, and two variants of three steps, both kept."""
    ready: dict[str, Any] = load("replace").model_dump(mode="json", exclude_unset=True)
    ready["name"] = "eight-rows"
    ready["paint"] |= {"variants": 2, "steps": 3}
    ready["detect"]["min_score"] = 0.2
    ready["judge"] = {"keep": "all"}
    return parse(ready)


@cache
def eight_items() -> tuple[EightItem, ...]:
    """The items; drawn once a process."""
    return tuple(_item(number) for number in range(len(SIZES_WH)))


def eight_rows() -> tuple[Row, ...]:
    """The rows as `catalogue.rows` makes them from a product table; the pictures come along in the rows."""
    items = eight_items()
    columns = {name: [item.columns[name] for item in items] for name in items[0].columns}
    given = {
        "given_image_bytes": pa.array([item.image for item in items], pa.large_binary()),
        "given_mask_bytes": pa.array([item.mask for item in items], pa.large_binary()),
        "given_reference_bytes": pa.array(
            [list(item.references) or None for item in items], pa.list_(pa.large_binary())
        ),
        "given_seeds": pa.array([list(item.seeds) or None for item in items], pa.list_(pa.int64())),
    }
    return tuple(catalogue.rows(eight_recipe(), pa.table({**columns, **given}), None))


def eight_rows_in(folder: Path) -> tuple[Recipe, list[Row]]:
    """The same items as files in a folder with a product table, as a night finds them."""
    recipe = eight_recipe().model_copy(update={"catalogue": CatalogueSettings(mask="mask", references="references")})
    table: dict[str, list[Any]] = {name: [] for name in ("image", "mask", "references", "given_seeds")}
    for number, item in enumerate(eight_items()):
        files = {f"{number}": item.image, f"{number}-mask": item.mask}
        files |= {f"{number}-like-{one}": like for one, like in enumerate(item.references)}
        for name, content in files.items():
            if content is not None:
                (folder / name).write_bytes(content)
        table["image"].append(f"{number}")
        table["mask"].append(f"{number}-mask" if item.mask else None)
        table["references"].append([f"{number}-like-{one}" for one in range(len(item.references))] or None)
        table["given_seeds"].append(list(item.seeds) or None)
    columns = {name: [item.columns[name] for item in eight_items()] for name in eight_items()[0].columns}
    kinds = {"references": pa.list_(pa.string()), "given_seeds": pa.list_(pa.int64())}
    arrays = {name: pa.array(values, kinds.get(name, pa.string())) for name, values in table.items()}
    return recipe, catalogue.rows(recipe, pa.table({**columns, **arrays}), str(folder))


def eight_forms() -> list[tuple[list[tuple[str, tuple[str, bytes]]], dict[str, Any]]]:
    """The same items as `POST /v1/renders` takes them: files and form fields."""
    forms = []
    for item in eight_items():
        files = [("image", ("image", item.image))]
        files += [("mask", ("mask", item.mask))] if item.mask else []
        files += [("reference", ("reference", reference)) for reference in item.references]
        forms.append((files, {"recipe": "eight-rows", "columns": json.dumps(item.columns), "seed": list(item.seeds)}))
    return forms


def _item(number: int) -> EightItem:
    drawn, shown = _scene_with_a_product(number)
    image = encode(drawn.rgb, ("png", "jpeg", "webp")[number % 3])
    columns = {"sku": f"EIGHT-{number}", "category": shown.category, "colour": "red", "pattern": "striped"}
    if number == ABSENT:
        columns["category"] = next(name for name in CATEGORIES if name not in _names(drawn.objects))
    if number == TRUNCATED:
        return EightItem(image[: len(image) // 2], columns)
    if number == EMPTY_MASK:
        return EightItem(image, columns, mask=encode(np.zeros_like(drawn.rgb), "png"))
    if number == MASKED:
        return EightItem(
            image, columns, mask=encode(np.where(shown.mask[..., None], np.uint8(255), np.zeros(3, np.uint8)), "png")
        )
    if number == REFERRED:
        likes = [scene(FIRST_SEED + 10_000 + one, (256, 256)).rgb for one in range(2)]
        return EightItem(image, columns, references=tuple(encode(like, "png") for like in likes))
    return EightItem(image, columns, seeds=(11, 12) if number == SEEDED else ())


def _scene_with_a_product(number: int) -> tuple[Scene, SceneObject]:
    for seed in range(FIRST_SEED + 100 * number, FIRST_SEED + 100 * (number + 1)):
        drawn = scene(seed, SIZES_WH[number])
        largest = max(drawn.objects, key=lambda thing: thing.mask.sum(), default=None)
        if largest is not None and largest.mask.mean() > 0.03 and _names(drawn.objects).count(largest.category) == 1:
            return drawn, largest
    raise RuntimeError(f"no scene of item {number} shows a product that is large enough")


def _names(objects: Sequence[SceneObject]) -> list[str]:
    return [thing.category for thing in objects]
