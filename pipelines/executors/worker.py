"""What every executor runs in a process: nodes, on stages that were built once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.errors import TooManyUnexpected
from pipelines.executors.apply import apply
from pipelines.graph import Graph, Node
from pipelines.models.cache import Cache
from pipelines.rows import FAILED, OK, Row
from pipelines.stages import Stage

DEFAULT_MAX_UNEXPECTED = 10


@dataclass(frozen=True)
class Progress:
    """What one node did to one batch: how many rows in which time, and the keys of those that failed unexpectedly.

    `worked`: how many of the rows the stage was called on; the others passed it by. None if it was all.
    """

    node: str
    rows: int
    seconds: float
    unexpected_keys: tuple[str, ...] = ()
    worked: int | None = None


Report = Callable[[Progress], int]
"""Takes a node's progress and answers how many rows of the whole run have failed unexpectedly so far."""


class Worker:
    """Runs nodes in one process, each on a stage that is built once.

    The weights under a stage are loaded once a process, so that the same weights with other settings cost no memory.

    Args:
        kept_stages: of more stages than this the one that was used longest ago is given up.
    """

    def __init__(self, kept_stages: int = 64) -> None:
        self.stages: Cache[Node, Stage] = Cache(kept_stages)

    def stage(self, node: Node) -> Stage:
        """The node's stage, built and with its weights loaded."""
        return self.stages.get(node, node.make)

    def __call__(self, node: Node, rows: Sequence[Row], passes_by: Callable[[Row], bool]) -> list[Row]:
        """Run one node over rows, as `apply` does; a stage that cannot be built is an error of these rows."""
        return apply(node.name, lambda live: self.stage(node)(live), rows, passes_by, node.step, node.settings)


class GroupWorker:
    """The nodes of one group of one graph: rows in, rows out, as many and in the same order.

    Args:
        graph: whose nodes.
        nodes: the names of those that run here; their weights are loaded at once.
        report: gets the progress of every node with every batch.
        max_unexpected: more unexpected failures in the whole run than this stop it.
    """

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[str],
        report: Report | None = None,
        max_unexpected: int = DEFAULT_MAX_UNEXPECTED,
    ) -> None:
        self.nodes = [(node, graph.passes_by(node.name)) for node in graph.nodes if node.name in nodes]
        self.worker = Worker(kept_stages=len(self.nodes))
        for node, _ in self.nodes:
            self.worker.stage(node)
        self.report = report or CountUnexpected()
        self.max_unexpected = max_unexpected

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """Run the group's nodes one after the other.

        Raises:
            TooManyUnexpected: the whole run has more unexpected failures than `max_unexpected`.
        """
        done = list(rows)
        for node, passes_by in self.nodes:
            started, name = time.perf_counter(), node.name
            worked = sum(row["status"] == OK and not passes_by(row) for row in done)
            done = self.worker(node, done, passes_by)
            broke = tuple(
                row["item_key"]
                for row in done
                if row["status"] == FAILED and row["reason"] == "unexpected" and row["node"] == name
            )
            so_far = self.report(Progress(name, len(done), time.perf_counter() - started, broke, worked))
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
