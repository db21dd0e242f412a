"""Run a graph on Ray Data: one `map_batches` a group, from a Parquet plan to Parquet parts; one row in, one row out.

What a run that broke off left in its parts is taken over by the next plan (`pipelines.night.plan`), so Ray keeps no
checkpoint of its own: docs/decisions/0014-what-a-broken-run-finished-is-taken-over.md.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import ray
import ray.data

from pipelines import storage
from pipelines.errors import PackshotError
from pipelines.executors.placement import Placement, block_rows, check_fits, fitted, needs
from pipelines.executors.progress import Meter
from pipelines.executors.worker import DEFAULT_MAX_UNEXPECTED, GroupWorker, Progress
from pipelines.graph import Graph
from pipelines.rows import to_table

logger = logging.getLogger(__name__)

os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")  # Ray starts 32 to read the footer of our one file


@ray.remote(num_cpus=0)
class RunState:
    """What all actors of a run share, in one actor: progress, unexpected failures, the error that stops the run."""

    def __init__(self, rows: int, nodes: list[str]) -> None:
        self.meter = Meter(rows, nodes)
        self.stopped_by: PackshotError | None = None

    def stop(self, error: PackshotError) -> None:
        """Keep the first error that stopped an actor."""
        self.stopped_by = self.stopped_by or error

    def why_stopped(self) -> PackshotError | None:
        """The first error that stopped an actor; None where none told."""
        return self.stopped_by

    def report(self, progress: Progress) -> int:
        """Enter a node's progress; answer how many items have failed unexpectedly so far.

        Raises:
            PackshotError: what stopped the run, if anything did: the caller need not go on.
        """
        if self.stopped_by:
            raise self.stopped_by
        return self.meter.add(progress)

    def snapshot(self) -> Any:
        """How far every node is."""
        return self.meter.snapshot()


class GroupActor:
    """A `GroupWorker` as Ray Data calls it: an Arrow table in, one of exactly the edge's schema out."""

    def __init__(
        self, graph: Graph, nodes: tuple[str, ...], edge: pa.Schema, run_state: Any, max_unexpected: int
    ) -> None:
        self.edge = edge
        self.run_state = run_state
        with self._errors_are_kept():
            self.worker = GroupWorker(
                graph, nodes, lambda progress: int(ray.get(run_state.report.remote(progress))), max_unexpected
            )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Run the group's nodes over the table's rows."""
        with self._errors_are_kept():
            return to_table(self.worker(table.to_pylist()), self.edge)

    @contextmanager
    def _errors_are_kept(self) -> Iterator[None]:
        try:
            yield
        except PackshotError as error:
            ray.get(self.run_state.stop.remote(error))  # the layers that Ray wraps round it lose its type
            raise


def _actor_class(name: str, *arguments: Any) -> type[GroupActor]:
    """`GroupActor` with its arguments, under the group's name: logs and the dashboard tell actors apart by it."""

    class NamedActor(GroupActor):
        def __init__(self) -> None:
            super().__init__(*arguments)

    NamedActor.__name__ = NamedActor.__qualname__ = name
    return NamedActor


def run(
    graph: Graph,
    placement: Placement,
    rows_uri: str,
    parts_uri: str,
    run_state: Any,
    max_unexpected: int = DEFAULT_MAX_UNEXPECTED,
) -> None:
    """Render the rows of a Parquet file into Parquet parts, whose pages carry checksums.

    Args:
        graph: what to do.
        placement: where; every node of the graph is in one of its groups.
        rows_uri: the rows, in the manifest's columns; `item_key` is unique.
        parts_uri: folder of the parts; Ray adds to it.
        run_state: a `RunState` actor.
        max_unexpected: more unexpected failures than this stop the run.

    Raises:
        ConfigError: the cluster lacks what the placement asks for.
        TooManyUnexpected, InfrastructureError: from a worker.
    """
    placement = fitted(placement, graph)
    preflight(placement)
    with _settings(), _plain_errors(run_state):
        filesystem, path = storage.arrow(rows_uri)
        dataset = ray.data.read_parquet(path, filesystem=filesystem)
        dataset = dataset.repartition(target_num_rows_per_block=block_rows(placement), strict=True)
        for group in placement:
            edge = graph.edge_schema(after=group.nodes[-1])
            dataset = dataset.map_batches(
                _actor_class(group.name, graph, group.nodes, edge, run_state, max_unexpected),
                batch_size=group.batch_size,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=group.replicas),
                num_cpus=group.cpus,
                num_gpus=group.gpus or None,
                memory=group.memory_bytes,
                udf_modifying_row_count=False,
            )
        filesystem, path = storage.arrow(parts_uri)
        dataset.write_parquet(path, filesystem=filesystem, schema=graph.manifest_schema(), write_page_checksum=True)


def preflight(placement: Placement) -> None:
    """Refuse what would wait for ever, as `check_fits`; log a warning where others hold what is needed.

    Raises:
        ConfigError: the cluster has too few CPUs or GPUs.
    """
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # ray leaves it bare
    check_fits(placement, there.get("CPU", 0), there.get("GPU", 0))
    cpus, gpus = needs(placement)
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]  # ray leaves it bare
    if cpus > free.get("CPU", 0) or gpus > free.get("GPU", 0):
        logger.warning(
            "the placement needs %g CPUs and %g GPUs, and %g and %g are free: the run waits until other jobs or "
            "servers of this cluster give theirs back",
            *(cpus, gpus, free.get("CPU", 0), free.get("GPU", 0)),
        )


SWITCHES = {
    "max_errored_blocks": 0,  # a block that is lost with its error swallowed would be rows lost
    "print_on_execution_start": False,
    "enable_progress_bars": False,
}
"""What a run sets in Ray Data's context."""


@contextmanager
def _settings() -> Iterator[None]:
    """Ray Data's switches for this run; the former ones come back."""
    context = ray.data.DataContext.get_current()
    before = {name: getattr(context, name) for name in SWITCHES}
    for name, value in SWITCHES.items():
        setattr(context, name, value)
    level = logging.getLogger("ray.data").level
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # A small night has fewer blocks than processes, and there is nothing that a user should do about it.
            warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
            yield
    finally:
        logging.getLogger("ray.data").setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)


@contextmanager
def _plain_errors(run_state: Any) -> Iterator[None]:
    """Raise the error that stopped an actor in the place of the layers that Ray wraps round it."""
    try:
        yield
    except ray.exceptions.RayError as error:
        stopped_by = ray.get(run_state.why_stopped.remote())
        if stopped_by is None:
            raise
        raise stopped_by from error
