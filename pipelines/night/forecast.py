"""What a plan will take: bytes, time, CPUs and GPUs, as far as they are known beforehand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pipelines import storage
from pipelines.executors.placement import CPUS_BESIDE_THE_GROUPS, Placement, fitted, needs
from pipelines.graph import Graph
from pipelines.night.compare import RENDER
from pipelines.night.plan import Plan


@dataclass(frozen=True)
class Forecast:
    """What a plan's items to render will take; None is unknown. Money is not foretold, since no price is configured.

    Attributes:
        bytes_to_read: the pictures, masks and references, by the catalogue's listings; one that several items name
            counts several times.
        not_listed: how many of them no listing shows; they are not in the bytes.
        expected_s: seconds, if each node takes as long an item as in the newest published run; without starting Ray
            and loading models.
        cpus: the CPUs that the placement takes at once, with those of Ray's own tasks.
        gpus: the GPUs that it takes at once.
    """

    bytes_to_read: int | None
    not_listed: int
    expected_s: float | None
    cpus: float
    gpus: float

    def sentences(self) -> tuple[str, ...]:
        """The forecast as sentences for people."""
        size = "unknown, since no listing shows the pictures"
        time = "unknown: no run has told yet what the nodes take"
        if self.bytes_to_read is not None:
            unlisted = f"; files that no listing shows, not counted: {self.not_listed:,}" if self.not_listed else ""
            size = f"{self.bytes_to_read / 1e6:,.1f} MB{unlisted}"
        if self.expected_s is not None:
            took = timedelta(seconds=round(self.expected_s))
            time = (
                f"about {took} (h:mm:ss), each node as in the newest run; starting Ray and loading models come on top"
            )
        return (
            f"to read: {size}",
            f"time: {time}",
            f"the placement asks for {self.cpus:g} CPUs ({CPUS_BESIDE_THE_GROUPS} of them for Ray's own reads and "
            f"writes) and {self.gpus:g} GPUs at once; a cluster that has fewer is refused, since the run would hang",
        )


def forecast(
    made: Plan, graph: Graph, listed: Mapping[str, storage.File], node_s: Mapping[str, float], placement: Placement
) -> Forecast:
    """Foretell what a plan will take.

    Args:
        made: the plan.
        graph: the recipe's.
        listed: the catalogue's files by URI.
        node_s: seconds an item by node, from `run.json` of the newest run.
        placement: where it is to run.
    """
    to_render = made.rows(RENDER)
    uris = [uri for name in ("source_uri", "mask_uri") for uri in to_render[name].to_pylist() if uri]
    uris += [uri for uris in to_render["reference_uris"].to_pylist() for uri in uris or ()]
    sizes = [listed[uri].size_bytes for uri in uris if uri in listed]
    cpus, gpus = needs(placement)
    return Forecast(
        bytes_to_read=sum(sizes) if sizes or not uris else None,
        not_listed=len(uris) - len(sizes),
        expected_s=_expected_s(to_render["start_at"].to_pylist(), graph, node_s, placement),
        cpus=cpus,
        gpus=gpus,
    )


def _expected_s(
    starts: Sequence[str | None], graph: Graph, node_s: Mapping[str, float], placement: Placement
) -> float | None:
    """The seconds of the busiest group: its nodes' seconds times the rows that reach them, over its replicas."""
    if not starts:
        return 0.0
    order = [node.name for node in graph.nodes]
    begins = Counter(order.index(start) if start else 0 for start in starts)
    rows_at = {
        name: len(starts) if name == "read" else sum(n for begin, n in begins.items() if begin <= position)
        for position, name in enumerate(order)
    }
    if any(rows and name not in node_s for name, rows in rows_at.items()):
        return None
    groups = fitted(placement, graph)
    return round(max(sum(node_s[n] * rows_at[n] for n in one.nodes if rows_at[n]) / one.replicas for one in groups), 1)
