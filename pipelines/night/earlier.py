"""What earlier runs made of the items, published or not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.graph import Graph
from pipelines.night import manifest
from pipelines.night.manifest import Published
from pipelines.rows import PENDING, Row, as_seen_by, is_big, plain, step_of


@dataclass(frozen=True, eq=False)
class Earlier:
    """A run's rows as it left them, the number of its recipe's steps, and whether it was published."""

    run_id: int
    table: pa.Table
    steps: int
    is_published: bool

    @cached_property
    def places(self) -> dict[str, int]:
        """Item key -> its row's number."""
        return {key: place for place, key in enumerate(self.table["item_key"].to_pylist())} if len(self.table) else {}

    @cached_property
    def outcomes(self) -> list[dict[str, Any]]:
        """The columns that a comparison needs of every item, a dict an item."""
        columns: list[dict[str, Any]] = self.table.select(
            ["status", "reason", "node", "attempts", "node_keys"]
        ).to_pylist()
        return columns

    def row(self, item_key: str) -> dict[str, Any]:
        """An item's whole row."""
        row: dict[str, Any] = self.table.slice(self.places[item_key], 1).to_pylist()[0]
        return row

    def pending(self) -> set[str]:
        """The keys of the items that the run left pending."""
        return {key for key, place in self.places.items() if self.outcomes[place]["status"] == PENDING}


def of_published(published: Published) -> Earlier:
    """The rows of a published run."""
    table = pa.concat_tables(list(manifest.read(published, "items")))
    return Earlier(published.run_id, table, steps_of(published), is_published=True)


def of_parts(output_uri: str, run_id: int) -> Earlier:
    """The finished rows of a run that was never published; parts of an older version may lack columns."""
    parts = list(manifest.read_parts(manifest.run_uri(output_uri, run_id)))
    table = pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})
    steps = max(map(step_of, table.column_names), default=1)
    return Earlier(run_id, table, steps, is_published=False)


def steps_of(published: Published) -> int:
    """The number of steps of a run's recipe; 1 for a recipe without steps."""
    return max(1, len((published.facts.get("recipe") or {}).get("steps") or ()))


def results_of(published: Published, keys: Iterable[str], graph: Graph) -> dict[str, dict[str, Any]]:
    """The columns that nodes added to these items in an earlier run, by item key, under this graph's column names.

    Items that had no picture then are left out.
    """
    wanted = pa.array(list(keys), pa.string())
    steps = steps_of(published)
    made = {name for node in graph.nodes for name, kind in node.adds.items() if not is_big(kind)}
    found: dict[str, dict[str, Any]] = {}
    for table in manifest.read(published, "items"):
        for known in table.filter(pc.is_in(table["item_key"], wanted)).to_pylist():
            if any(known["image_uris"] or ()):
                seen = under_todays_names(graph, known, steps)
                found[known["item_key"]] = {name: value for name, value in seen.items() if name in made}
    return found


def under_todays_names(graph: Graph, known: Row, steps: int) -> dict[str, Any]:
    """An earlier row with this graph's manifest columns; the last step's columns then become the last step's now."""
    seen = as_seen_by(known, steps)
    last = max(node.step for node in graph.nodes)
    return {
        name: seen.get(plain(name)) if step_of(name) == last else known.get(name)
        for name in graph.manifest_schema().names
    }
