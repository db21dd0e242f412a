"""What every executor runs in a process: the nodes of one group, on stages that were built once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.errors import TooManyUnexpected
from pipelines.executors.apply import apply
from pipelines.graph import Graph
from pipelines.rows import FAILED, OK, Row

DEFAULT_MAX_UNEXPECTED = 10


@dataclass(frozen=True)
class Progress:
    """What one node did to one batch: how many rows in which time, and how many and which failed unexpectedly.

    `worked`: how many of them it had work with, and did not pass by; None if that is all.
    """

    node: str
    rows: int
    seconds: float
    unexpected: int
    unexpected_keys: tuple[str, ...] = ()
    worked: int | None = None


Report = Callable[[Progress], int]
"""Takes a node's progress and answers how many rows of the whole run have failed unexpectedly so far."""


class Worker:
    """The nodes of one group: rows in, rows out, as many and in the same order."""

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[str],
        report: Report | None = None,
        max_unexpected: int = DEFAULT_MAX_UNEXPECTED,
    ) -> None:
        self.stages = [(node, node.make(), graph.passes_by(node.name)) for node in graph.nodes if node.name in nodes]
        self.report = report or CountUnexpected()
        self.max_unexpected = max_unexpected

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """Run the group's nodes one after the other.

        Raises:
            TooManyUnexpected: the whole run has more unexpected failures than `max_unexpected`.
        """
        done = list(rows)
        for node, stage, passes_by in self.stages:
            started, name = time.perf_counter(), node.name
            worked = sum(row["status"] == OK and not passes_by(row) for row in done)
            done = apply(name, stage, done, passes_by, node.step, node.settings)
            broke = tuple(
                row["item_key"]
                for row in done
                if row["status"] == FAILED and row["reason"] == "unexpected" and row["node"] == name
            )
            so_far = self.report(Progress(name, len(done), time.perf_counter() - started, len(broke), broke, worked))
            if so_far > self.max_unexpected:
                raise TooManyUnexpected(
                    f"{so_far} rows failed unexpectedly, the last of them in {name!r}; `max_unexpected` allows "
                    f"{self.max_unexpected}. Nothing is published. The last one:\n{_last_detail(done)}"
                )
        return done


class CountUnexpected:
    """Counts the items that failed unexpectedly; one that is done again, since its process died, counts once."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def __call__(self, progress: Progress) -> int:
        """Count, and answer the sum so far."""
        self.keys.update(progress.unexpected_keys)
        return len(self.keys)


def _last_detail(rows: Sequence[Row]) -> str:
    details = [row["detail"] for row in rows if row["reason"] == "unexpected"]
    return details[-1].strip().splitlines()[-1] if details else "(in another process)"
