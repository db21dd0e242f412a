"""Send rows through some of a recipe's nodes: what is measured is what the product does, stage for stage."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import chain
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Final

from pipelines.graph import build
from pipelines.recipe import Recipe
from pipelines.rows import ItemError, Row

CHUNK: Final = 16


class Through:
    """Calls the stages of a recipe in this process (`processes` of 0) or in some of their own.

    Every process uses as many threads as the settings give. A context manager: the processes end with it.
    """

    def __init__(self, recipe: Recipe, processes: int) -> None:
        self.recipe = recipe
        # Not forked: torch's threads do not survive that.
        self.pool = ProcessPoolExecutor(processes, get_context("spawn")) if processes else None

    def __enter__(self) -> Through:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def __call__(self, names: Sequence[str], rows: Sequence[Row]) -> list[Row]:
        """Rows through the nodes of these names, in the graph's order; as many come back, in the same order.

        A row that a stage rejects has its `reason` and passes the later ones by.

        Raises:
            RuntimeError: a stage failed a row, which no row of a drawn scene may be.
        """
        chunks = [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]
        work = partial(_work, self.recipe, tuple(names))
        return list(chain.from_iterable(self.pool.map(work, chunks) if self.pool is not None else map(work, chunks)))


def send(stages: Sequence[Any], rows: Sequence[Row]) -> list[Row]:
    """Rows through stages; see `Through`."""
    done = [dict(row) for row in rows]
    for stage in stages:
        waiting = [row for row in done if "reason" not in row]
        for row, update in zip(waiting, stage(waiting), strict=True):
            if isinstance(update, ItemError):
                raise RuntimeError(f"{type(stage).__name__} failed a held-out scene: {update.reason}, {update.detail}")
            row.update(update)
    return list(done)


def _work(recipe: Recipe, names: tuple[str, ...], rows: Sequence[Row]) -> list[Row]:
    return send(_stages(recipe, names), rows)


@cache
def _stages(recipe: Recipe, names: tuple[str, ...]) -> list[Any]:
    return [node.make() for node in build(recipe).nodes if node.name in names]
