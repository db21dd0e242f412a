"""A recipe and a product table for the tests beside this file."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines import catalogue, recipe

ITEMS = {"sku": ["1", "2"], "image": ["a.jpg", "b.jpg"], "category": ["shirt", "mug"], "colour": ["red", "blue"]}


def a_recipe(**sections: Any) -> recipe.Recipe:
    return recipe.parse(
        {"name": "test", "models": "embedded", "prompts": {"paint": "a {colour} {category}"}} | sections
    )


def a_table(**columns: Any) -> pa.Table:
    return pa.table(ITEMS | columns)


def words_of(values: pa.Array) -> list[str | None]:
    """A column's values as the rows' `columns` have them."""
    table = pa.table(
        {"sku": [str(number) for number in range(len(values))], "image": ["a.jpg"] * len(values), "x": values}
    )
    wanted = a_recipe(prompts={"find": "mug", "paint": "a mug"}, catalogue={"keep_columns": ["x"]})
    return [row["columns"]["x"] for row in catalogue.rows(wanted, table, "/data")]
