"""Run a graph in this process, without ray: for `packshot try`, the library call, and as the tests' yardstick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import pyarrow as pa

from pipelines.executors.worker import DEFAULT_MAX_UNEXPECTED, GroupWorker, Report
from pipelines.graph import Graph, build
from pipelines.recipe import Recipe
from pipelines.rows import Row, to_table


def run(
    graph: Graph,
    rows: Iterable[Row],
    batch_size: int = 4,
    report: Report | None = None,
    max_unexpected: int = DEFAULT_MAX_UNEXPECTED,
) -> list[Row]:
    """Every row through every node, `batch_size` at a time; as many rows come back, in the same order."""
    worker = GroupWorker(graph, [node.name for node in graph.nodes], report, max_unexpected)
    waiting, done = iter(rows), []
    while batch := list(islice(waiting, batch_size)):
        done += worker(batch)
    return done


def render(rows: Sequence[Row], recipe: Recipe) -> pa.Table:
    """Render rows of `catalogue.rows` in this process.

    Returns:
        A row an item, in order, with the manifest's columns and `image_files`: the encoded picture of every kept
        variant, null for the others. No rows give an empty table of the same columns.
    """
    graph = build(recipe)
    columns = [*graph.manifest_schema(), pa.field("image_files", graph.columns["image_files"])]
    return to_table(run(graph, rows), pa.schema(columns))
