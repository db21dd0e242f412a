"""Which nodes share a process, how many of those there are, and on which resources.

A group is one actor pool at night and one deployment by day. Placement comes from configuration, never from what the
driver's machine has, and changes no pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from pipelines.errors import ConfigError
from pipelines.graph import Graph


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

CPUS_BESIDE_THE_GROUPS = 2  # Ray's own read, write and checkpoint-filter tasks; without them a resumed run hangs

LOCAL: Placement = (
    Group(
        ("read", "detect", "segment", "mask", "paint", "compose", "score", "judge", "deliver"),
        batch_size=4,
        cpus=1,
        replicas=2,
    ),
)
GPU: Placement = (
    Group(("read",), batch_size=16, cpus=1, replicas=2),
    Group(("detect", "segment", "mask"), batch_size=8, cpus=1, gpus=0.5),
    Group(("paint", "compose", "score", "judge"), batch_size=8, cpus=1, gpus=0.5),
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


def check(placement: Placement, graph: Graph) -> None:
    """Every node in exactly one group, in the graph's order.

    Raises:
        ConfigError: a node is missing, twice there, or out of order.
    """
    placed = [name for group in placement for name in group.nodes]
    wanted = [node.name for node in graph.nodes]
    if placed != wanted:
        raise ConfigError(f"the placement runs {placed}; the graph is {wanted}: every node once, in this order")


def needs(placement: Placement) -> tuple[float, float]:
    """The CPUs and GPUs that a night takes at once, Ray's own tasks among them; with fewer it would wait for ever."""
    cpus = sum(group.cpus * group.replicas for group in placement) + CPUS_BESIDE_THE_GROUPS
    return cpus, sum(group.gpus * group.replicas for group in placement)


def block_rows(placement: Placement) -> int:
    """Rows a block: a multiple of every group's batch size, so that only the last batch is short."""
    return lcm(*(group.batch_size for group in placement))
