"""Which nodes share a process, how many of those there are, and on which resources.

A group is one actor pool at night and one deployment by day. Placement comes from configuration, never from what the
driver's machine has, and changes no pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from math import lcm

from pipelines.errors import ConfigError
from pipelines.graph import Graph
from pipelines.rows import plain


@dataclass(frozen=True)
class Group:
    """Consecutive nodes in one process: rows go from node to node in memory.

    `batch_size` rows a call; `wait_s` is how long a deployment waits for a batch to fill; the rest is a replica's.
    """

    nodes: tuple[str, ...]
    batch_size: int = 4
    wait_s: float = 0.02
    cpus: float = 1
    gpus: float = 0
    memory_bytes: int | None = None
    replicas: int = 1

    @property
    def name(self) -> str:
        """The nodes' names, joined: what a person sees in the dashboard."""
        return "+".join(self.nodes)


Placement = tuple[Group, ...]

CPUS_BESIDE_THE_GROUPS = 2  # Ray's own read and write tasks; with none left a run hangs

LOCAL: Placement = (
    Group(
        ("read", "detect", "segment", "find", "mask", "paint", "compose", "hand_on", "score", "judge", "deliver"),
        batch_size=4,
        cpus=1,
        replicas=2,
    ),
)
GPU: Placement = (
    Group(("read",), batch_size=16, cpus=1, replicas=2),
    Group(("detect", "segment", "find", "mask"), batch_size=8, cpus=1, gpus=0.5),
    Group(("paint", "compose", "hand_on", "score", "judge"), batch_size=8, cpus=1, gpus=0.5),
    Group(("deliver",), batch_size=8, cpus=1, replicas=2),
)
PLACEMENTS: dict[str, Placement] = {"local": LOCAL, "gpu": GPU}


def named(name: str) -> Placement:
    """A shipped placement by its name.

    Raises:
        ConfigError: no placement of that name.
    """
    if name not in PLACEMENTS:
        raise ConfigError(f"there is no placement {name!r}; known: {', '.join(PLACEMENTS)}")
    return PLACEMENTS[name]


def numbers(placement: Placement, graph: Graph) -> list[int]:
    """The position in the placement of each node's group; a node that no group names joins the node before it.

    A later step's nodes belong where the first step's do.
    """
    group_of = {name: number for number, group in enumerate(placement) for name in group.nodes}
    found: list[int] = []
    for node in graph.nodes:
        found.append(group_of.get(plain(node.name), found[-1] if found else 0))
    return found


def fitted(placement: Placement, graph: Graph) -> Placement:
    """The placement with the nodes that a graph has; groups without a node are left out.

    Groups are merged until the numbers of the nodes' groups never fall: a pool of processes can hand rows on, not back.
    """
    order = numbers(placement, graph)
    merged_into = list(range(len(placement)))
    for before, after in pairwise(order):
        if after < before:
            first, last = merged_into[after], merged_into[before]
            merged_into = [first if first <= number <= last else number for number in merged_into]
    made = []
    for number, some in groupby(zip(order, graph.nodes, strict=True), key=lambda one: merged_into[one[0]]):
        groups = [group for group, into in zip(placement, merged_into, strict=True) if into == number]
        made.append(_merged(groups, tuple(node.name for _, node in some)))
    return tuple(made)


def _merged(groups: Sequence[Group], nodes: tuple[str, ...]) -> Group:
    if len(groups) == 1:
        return replace(groups[0], nodes=nodes)
    return Group(
        nodes,
        batch_size=min(group.batch_size for group in groups),
        # One of them fills its batches only if it waits so long; a row waits once here, where it waited in every group.
        wait_s=max(group.wait_s for group in groups),
        cpus=max(group.cpus for group in groups),
        gpus=sum(group.gpus for group in groups),
        memory_bytes=memory_of(groups),
        replicas=min(group.replicas for group in groups),
    )


def memory_of(groups: Sequence[Group]) -> int | None:
    """What one process that is all of these groups takes: it holds the networks of each; None if none of them says."""
    said = [group.memory_bytes for group in groups if group.memory_bytes is not None]
    return sum(said) if said else None


def needs(placement: Placement, cpus_beside: float = CPUS_BESIDE_THE_GROUPS) -> tuple[float, float]:
    """The CPUs and GPUs that a placement takes at once, and `cpus_beside` it, by night Ray's own reads and writes."""
    cpus = sum(group.cpus * group.replicas for group in placement) + cpus_beside
    return cpus, sum(group.gpus * group.replicas for group in placement)


LOCAL_CPUS = int(needs(LOCAL)[0])
"""With fewer, logical ones, a Ray that is started on this machine could not run the placement `local`."""


def check_fits(
    placement: Placement,
    cpus: float,
    gpus: float,
    cpus_beside: float = CPUS_BESIDE_THE_GROUPS,
    there: str = "the cluster",
) -> None:
    """Refuse a placement that would wait for ever.

    Args:
        placement: what is asked for.
        cpus: how many there are.
        gpus: how many there are.
        cpus_beside: as in `needs`.
        there: what has them, for the message.

    Raises:
        ConfigError: more is asked for; what, what is there, and what to do.
    """
    cpus_needed, gpus_needed = needs(placement, cpus_beside)
    if gpus_needed > gpus:
        raise ConfigError(
            f"the placement asks for {gpus_needed:g} GPUs and {there} has {gpus:g}; "
            "add GPU nodes, or take `--placement local`"
        )
    if cpus_needed > cpus:
        own = f" ({cpus_beside:g} of them for Ray's own reads and writes)" if cpus_beside else ""
        raise ConfigError(
            f"the placement needs {cpus_needed:g} CPUs{own}; {there} has {cpus:g} and would hang; "
            "add nodes, or start Ray with more `--num-cpus`"
        )


def block_rows(placement: Placement) -> int:
    """Rows a block: a multiple of every group's batch size, so that only the last batch is short."""
    return lcm(*(group.batch_size for group in placement))
