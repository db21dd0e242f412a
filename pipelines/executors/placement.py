"""Which nodes share a process, how many of those there are, and on which resources.

A group is one actor pool at night and one deployment by day. Placement comes from configuration, never from what the
driver's machine has, and changes no pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
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


def fitted(placement: Placement, graph: Graph) -> Placement:
    """The placement with the nodes that a graph has, each in the group that names it.

    A later step's nodes belong where the first step's do. Where rows would go back to a group that they have left,
    those groups become one: a pool of processes can hand rows on, not back.

    Raises:
        ConfigError: a node is in no group.
    """
    group_of = {name: number for number, group in enumerate(placement) for name in group.nodes}
    order = [(node.name, group_of.get(plain(node.name))) for node in graph.nodes]
    if missing := [name for name, number in order if number is None]:
        raise ConfigError(
            f"the placement has no group for {missing}; its groups are {[one.nodes for one in placement]}"
        )
    numbers = [number for _, number in order if number is not None]
    first, last = _back_and_forth(numbers)
    made = []
    for number, group in enumerate(placement):
        together = placement[first : last + 1] if number == first else (group,)
        if first < number <= last:
            continue
        within = {number, *(range(first, last + 1) if number == first else ())}
        nodes = tuple(name for name, at in order if at in within)
        if nodes:
            made.append(_merged(together, nodes))
    return tuple(made)


def _back_and_forth(numbers: Sequence[int]) -> tuple[int, int]:
    """The first and last group between which rows would go back; (0, 0) if they never do."""
    back = [(after, before) for before, after in pairwise(numbers) if after < before]
    return (min(low for low, _ in back), max(high for _, high in back)) if back else (0, 0)


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


def needs(placement: Placement) -> tuple[float, float]:
    """The CPUs and GPUs that a night takes at once, Ray's own tasks among them; with fewer it would wait for ever."""
    cpus = sum(group.cpus * group.replicas for group in placement) + CPUS_BESIDE_THE_GROUPS
    return cpus, sum(group.gpus * group.replicas for group in placement)


def block_rows(placement: Placement) -> int:
    """Rows a block: a multiple of every group's batch size, so that only the last batch is short."""
    return lcm(*(group.batch_size for group in placement))
