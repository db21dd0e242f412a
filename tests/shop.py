"""A shop with a folder of pictures and a product table, whose nights are planned, rendered and published with fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import catalogue, storage
from pipelines.executors import inline
from pipelines.night import manifest, plan, run
from pipelines.night.compare import RENDER
from pipelines.night.lease import Lease
from pipelines.night.options import Night
from pipelines.night.plan import Plan
from pipelines.night.run import Outcome
from pipelines.pixels.images import encode
from pipelines.recipe import Recipe
from pipelines.rows import to_table
from pipelines.storage import Store
from tests.fakes import POISON, a_graph, a_picture, a_recipe

COLOURS = ("red", "green", "blue")


class Shop:
    """Items a, b, c ... with a picture and words each; `sections` are the recipe's.

    `render` is a whole night as `packshot render` makes it, but that fakes work in this process; `calls` counts the
    rows that each node got on all nights.
    """

    def __init__(self, folder: Path, items: int = 3) -> None:
        self.folder = folder
        self.shelf = folder / "catalogue"
        self.shelf.mkdir()
        self.out = str(folder / "out")
        keys = [chr(ord("a") + number) for number in range(items)]
        self.products: dict[str, list[Any]] = {"sku": keys, "image": [f"{key}.png" for key in keys]}
        self.products |= {"category": ["mug"] * items, "colour": [COLOURS[number % 3] for number in range(items)]}
        self.products["price"] = [str(number) for number in range(1, items + 1)]
        self.sections: dict[str, Any] = {}
        self.recipe_: Recipe | None = None
        for number, name in enumerate(self.products["image"]):
            self.put(name, number)

    def put(self, name: str, seed: int) -> None:
        """Put a picture; another seed is another picture."""
        (self.shelf / name).write_bytes(encode(a_picture(seed), "png"))

    def poison(self, name: str, seed: int = 0) -> None:
        """Put a picture that breaks the detector."""
        picture = a_picture(seed)
        picture[0, 0] = POISON
        (self.shelf / name).write_bytes(encode(picture, "png"))

    def recipe(self) -> Recipe:
        return self.recipe_ or a_recipe(self.folder, **self.sections)

    def night(self, **asked: Any) -> Night:
        """Tonight, with the table as it is now."""
        uri = self.shelf / "products.parquet"
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(self.products), sink)
        storage.write(str(uri), sink.getvalue().to_pybytes())  # at once: another process may be reading it
        given = {"catalogue_uri": str(uri), "output_uri": self.out, "recipe": self.recipe(), "max_failed": 1.0, **asked}
        return Night(**given)

    def plan(self, **asked: Any) -> Plan:
        return run.make_plan(self.night(**asked))

    def listed(self) -> dict[str, storage.File]:
        return dict(catalogue.products(self.night().catalogue_uri, self.recipe()).listed)

    def night_over(self, **asked: Any) -> Outcome:
        """Render and publish."""
        return run.render(self.night(**asked), execute=execute)

    def render(self, **asked: Any) -> dict[str, dict[str, Any]]:
        """Render and publish; answers what stands in the manifest afterwards, by key."""
        self.night_over(**asked)
        return self.items()

    def broken_off(self, rows: int | None = None, **asked: Any) -> Plan:
        """A night that dies after so many rows lie in its parts; all of them if not given."""
        night = self.night(**asked)
        made = run.make_plan(night)
        plan.put(made)
        execute(night, made, None, rows)
        return made

    def items(self) -> dict[str, dict[str, Any]]:
        published = manifest.newest(self.out)
        assert published is not None
        return {row["item_key"]: row for table in manifest.read(published, "items") for row in table.to_pylist()}

    def images(self) -> list[dict[str, Any]]:
        published = manifest.newest(self.out)
        assert published is not None
        return [row for table in manifest.read(published, "images") for row in table.to_pylist()]


def execute(night: Night, made: Plan, held: Lease | None, rows: int | None = None) -> None:
    """Render a plan's rows, or the first of them, with fakes into one part of its run."""
    graph = a_graph(night.recipe, Store(night.output_uri))
    to_render = made.rows(RENDER).slice(0, rows).to_pylist()
    done = inline.run(graph, to_render, max_unexpected=night.unexpected_allowed(len(to_render)))
    part = storage.join(made.run_uri, "parts", "00000.parquet")
    storage.write(part, manifest.to_parquet(to_table(done, graph.manifest_schema())))


def starts(made: Plan) -> dict[str, str | None]:
    """The items to render, in their order, and where each begins."""
    table = made.rows(RENDER)
    return dict(zip(table["item_key"].to_pylist(), table["start_at"].to_pylist(), strict=True))
