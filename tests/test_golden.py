"""What a user has rendered stays rendered: node keys and dumped recipes are byte for byte those of `golden.json`.

A change that is meant to render items anew writes the file again with `python -m tests.test_golden`, in the same commit
as the line of the changelog that says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import catalogue, recipe
from pipelines.graph import build
from pipelines.recipe import Recipe

GOLDEN = Path(__file__).with_name("golden.json")
READY = sorted(path.stem for path in recipe.READY.glob("*.yaml"))
PAINT_AND_GROUND = {
    "name": "paint-and-ground",
    "models": "embedded",
    "steps": [
        {"prompts": {"find": "{category}", "paint": "a {colour} {category}"}},
        {
            "prompts": {"find": "{category}", "paint": "a {category}, meadow background"},
            "paint": {"task": "background"},
        },
    ],
}
RECOLOUR_AND_SHOW = {
    "name": "recolour-and-show",
    "models": "embedded",
    "judge": {"keep_best": 1},
    "steps": [
        {"prompts": {"find": "{category}", "colour": "{colour}"}, "paint": {"task": "recolour"}},
        {"prompts": {"find": "{category}"}, "paint": {"task": "studio"}, "mask": {"layout": {"task": "studio"}}},
    ],
}
STEPS = {given["name"]: given for given in (PAINT_AND_GROUND, RECOLOUR_AND_SHOW)}
VALUES = {"sku": "golden-1", "image": "golden.png", "category": "jacket", "colour": "red", "pattern": "striped"}


def told(of: Recipe) -> dict[str, Any]:
    """The keys of one made-up item, and the recipe with every default filled in."""
    settings = of.catalogue
    beside = (settings.mask, settings.scene, settings.front, settings.references)
    columns = {**{name: f"{name}.png" for name in beside if name}, **dict.fromkeys(of.needed_columns(), "words")}
    table = pa.table({name: [value] for name, value in {**columns, **VALUES}.items()})
    versions = {f"/golden/{name}": "1-1" for name in (*table.column_names, "golden.png")}
    (row,) = catalogue.rows(of, table, "/golden", versions)
    assert row["status"] == "ok", row["detail"]
    return {"node_keys": build(of).node_keys(row), "recipe": recipe.dump(of)}


def of_name(name: str) -> Recipe:
    return recipe.parse(STEPS[name]) if name in STEPS else recipe.load(name)


@pytest.mark.parametrize("name", [*READY, *STEPS])
def test_nothing_that_was_rendered_is_rendered_again(name):
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))

    assert name in golden, f"{name!r} is new: python -m tests.test_golden writes down what it is"
    assert told(of_name(name)) == golden[name]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({name: told(of_name(name)) for name in (*READY, *STEPS)}, indent=1) + "\n", "utf-8")
