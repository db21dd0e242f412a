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
from pipelines.errors import ConfigError, PackshotError
from pipelines.executors.placement import CPUS_BESIDE_THE_GROUPS, Placement, block_rows, fitted, needs
from pipelines.executors.progress import Meter
from pipelines.executors.worker import DEFAULT_MAX_UNEXPECTED, CountUnexpected, Progress, Worker
from pipelines.graph import Graph
from pipelines.rows import to_table

logger = logging.getLogger(__name__)

os.environ.setdefault("RAY_DATA_PARQUET_FOOTER_NUM_ACTORS", "1")  # Ray starts 32 to read the footer of our one file


@ray.remote(num_cpus=0)
class Ledger:
    """The run's one count of progress and of unexpected failures, over all processes."""

    def __init__(self, rows: int, nodes: list[str]) -> None:
        self.meter = Meter(rows, nodes)
        self.unexpected = CountUnexpected()
        self.stopped_by: PackshotError | None = None

    def stop(self, error: PackshotError) -> None:
        """Keep the first error that stopped a worker."""
        self.stopped_by = self.stopped_by or error

    def why_stopped(self) -> PackshotError | None:
        """What stopped the run, if a worker could tell."""
        return self.stopped_by

    def report(self, progress: Progress) -> int:
        """Enter a node's progress; answer all unexpected failures so far.

        Raises:
            PackshotError: what stopped the run, if anything did: the caller need not go on.
        """
        if self.stopped_by:
            raise self.stopped_by
        self.meter.add(progress)
        return self.unexpected(progress)

    def snapshot(self) -> Any:
        """Where every node stands."""
        return self.meter.snapshot()


class OnRay:
    """A `Worker` as Ray Data calls it: an Arrow table in, one of exactly the edge's schema out."""

    def __init__(self, graph: Graph, nodes: tuple[str, ...], edge: pa.Schema, ledger: Any, max_unexpected: int) -> None:
        self.edge = edge
        self.ledger = ledger
        with self._telling():
            self.worker = Worker(
                graph, nodes, lambda progress: int(ray.get(ledger.report.remote(progress))), max_unexpected
            )

    def __call__(self, table: pa.Table) -> pa.Table:
        """Run the group's nodes over the table's rows."""
        with self._telling():
            return to_table(self.worker(table.to_pylist()), self.edge)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except PackshotError as error:
            ray.get(self.ledger.stop.remote(error))  # the layers that Ray wraps round it lose its type
            raise


def _bound(name: str, *arguments: Any) -> type[OnRay]:
    """`OnRay` with its arguments inside, under the group's name, so that logs and the dashboard tell groups apart."""

    class Bound(OnRay):
        def __init__(self) -> None:
            super().__init__(*arguments)

    Bound.__name__ = Bound.__qualname__ = name
    return Bound


def run(
    graph: Graph,
    placement: Placement,
    rows_uri: str,
    parts_uri: str,
    ledger: Any,
    max_unexpected: int = DEFAULT_MAX_UNEXPECTED,
) -> None:
    """Render the rows of a Parquet file into Parquet parts, whose pages carry checksums.

    Args:
        graph: what to do.
        placement: where; every node of the graph is in one of its groups.
        rows_uri: the rows, in the manifest's columns; `item_key` is unique.
        parts_uri: folder of the parts; Ray adds to it.
        ledger: a `Ledger` actor.
        max_unexpected: more unexpected failures than this stop the run.

    Raises:
        ConfigError: the cluster lacks what the placement asks for.
        TooManyUnexpected, InfrastructureError: from a worker.
    """
    placement = fitted(placement, graph)
    preflight(placement)
    with _settings(), _plain_errors(ledger):
        filesystem, path = storage.arrow(rows_uri)
        dataset = ray.data.read_parquet(path, filesystem=filesystem)
        dataset = dataset.repartition(target_num_rows_per_block=block_rows(placement), strict=True)
        for group in placement:
            edge = graph.edge_schema(after=group.nodes[-1])
            dataset = dataset.map_batches(
                _bound(group.name, graph, group.nodes, edge, ledger, max_unexpected),
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
    """Refuse what would wait for ever: more CPUs or GPUs than the cluster has; say so where others hold what is needed.

    Raises:
        ConfigError: what is asked, what is there, and what to do.
    """
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # ray leaves it bare
    cpus, gpus = needs(placement)
    if gpus > there.get("GPU", 0):
        raise ConfigError(
            f"the placement asks for {gpus:g} GPUs and the cluster has {there.get('GPU', 0):g}; "
            "add GPU nodes, or run with `--placement local`"
        )
    if cpus > there.get("CPU", 0):
        raise ConfigError(
            f"the placement needs {cpus:g} CPUs ({CPUS_BESIDE_THE_GROUPS} of them for Ray's own reads and writes); the "
            f"cluster has {there.get('CPU', 0):g} and would hang; add nodes, or start Ray with more `--num-cpus`"
        )
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
def _plain_errors(ledger: Any) -> Iterator[None]:
    """Raise what a worker told the ledger in the place of the layers that Ray wraps round it."""
    try:
        yield
    except ray.exceptions.RayError as error:
        told = ray.get(ledger.why_stopped.remote())
        if told is None:
            raise
        raise told from error
