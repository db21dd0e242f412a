"""Run a graph as Ray Serve deployments: one a group of the placement, rows as they are, the same pixels.

A payload is (row, recipe). A replica gathers payloads into a batch, and within it runs those together that have a
`Node` (stage, settings, weights; nothing of the item) in common, by `executors.worker.Worker` as the other executors
do. Bytes go from deployment to deployment; the ingress never sees them in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from pipelines.errors import ConfigError, InfrastructureError, PackshotError
from pipelines.executors.placement import Group, Placement, memory_of, numbers
from pipelines.executors.worker import Worker
from pipelines.graph import Graph, Node, build
from pipelines.recipe import Recipe
from pipelines.rows import Row
from serve.errors import Refused

GraphOf = Callable[[Recipe], Graph]
Payload = tuple[Row, Recipe]

KEPT_GRAPHS = 256
BATCHES_ON_THE_WAY = 2
"""A replica takes so many batches' worth of requests: one on the models, one that fills meanwhile."""
BATCHES_WAITING = 8
"""So many more wait for it in the ingress before requests are refused."""
RETRY_AFTER_S = 5


class BatchWorker:
    """The nodes of one group in one process, for rows of different recipes at a time; knows nothing of Ray.

    Args:
        placement: whose group.
        number: of the group in the placement.
        graph_of: a recipe's graph.
    """

    def __init__(self, placement: Placement, number: int, graph_of: GraphOf = build) -> None:
        self.placement = placement
        self.number = number
        self.graph_of = lru_cache(KEPT_GRAPHS)(graph_of)
        self.worker = Worker()

    def load(self, recipe: Recipe) -> None:
        """Build a recipe's stages now, so that no request waits for weights."""
        for node in self.own(self.graph_of(recipe)):
            self.worker.stage(node)

    def __call__(self, payloads: Sequence[Payload]) -> list[Row | PackshotError]:
        """Run the nodes over a batch; as many answers come back, in order.

        Rows carry on what later nodes read and what a finished row has. An error in the place of a row is its recipe's,
        whose settings cannot be or whose weights do not answer; the other recipes' rows are not touched by it.
        """
        graphs = [self.graph_of(recipe) for _, recipe in payloads]
        nodes = [self.own(graph) for graph in graphs]
        answers: list[Row | PackshotError] = [row for row, _ in payloads]
        for name in _order(nodes):
            for node, places in _places_of(name, nodes).items():
                self._run(node, graphs[places[0]], places, answers)
        return [
            answer if isinstance(answer, PackshotError) else _carried(answer, graph, own[-1].name)
            for answer, graph, own in zip(answers, graphs, nodes, strict=True)
        ]

    def own(self, graph: Graph) -> list[Node]:
        """The nodes of a graph that run here."""
        order = zip(graph.nodes, numbers(self.placement, graph), strict=True)
        return [node for node, number in order if number == self.number]

    def _run(self, node: Node, graph: Graph, places: list[int], answers: list[Row | PackshotError]) -> None:
        live = [(place, row) for place in places if not isinstance(row := answers[place], PackshotError)]
        try:
            done = self.worker(node, [row for _, row in live], graph.passes_by(node.name))
        except (ConfigError, InfrastructureError) as error:
            # These settings or weights are to blame, and no other recipe's rows meet them.
            for place, _ in live:
                answers[place] = error
            return
        for (place, _), row in zip(live, done, strict=True):
            answers[place] = row


def _order(nodes: Sequence[Sequence[Node]]) -> list[str]:
    """The names of all nodes that some row is to pass, in an order that is right for every row."""
    behind: TopologicalSorter[str] = TopologicalSorter()
    for own in nodes:
        behind.add(own[0].name)
        for before, after in pairwise(own):
            behind.add(after.name, before.name)
    return list(behind.static_order())


def _places_of(name: str, nodes: Sequence[Sequence[Node]]) -> dict[Node, list[int]]:
    """Each node of this name, and the places in the batch of the rows that are to pass it."""
    places: dict[Node, list[int]] = {}
    for place, own in enumerate(nodes):
        for node in own:
            if node.name == name:
                places.setdefault(node, []).append(place)
    return places


def _carried(row: Row, graph: Graph, after: str) -> Row:
    """What travels on, and the finished pictures, which have no store to go to."""
    names = {*graph.edge_schema(after).names, "image_files"}
    return {name: value for name, value in row.items() if name in names}


class Replica:
    """One process of a deployment; its weights are loaded before it counts as healthy."""

    def __init__(self, placement: Placement, number: int, recipes: Sequence[Recipe], graph_of: GraphOf) -> None:
        self.worker = BatchWorker(placement, number, graph_of)
        # One thread, always the same: models are not re-entrant, and torch counts its threads by the thread that calls.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="nodes")
        group = placement[number]
        self._batch.set_max_batch_size(group.batch_size)  # type: ignore[attr-defined]  # `serve.batch` adds it
        self._batch.set_batch_wait_timeout_s(group.wait_s)  # type: ignore[attr-defined]  # as above
        for recipe in recipes:
            self.thread.submit(self.worker.load, recipe).result()

    async def __call__(self, row: Row, recipe: Recipe) -> Row:
        """Run the group's nodes over a row, together with whatever else is waiting.

        Raises:
            ConfigError: the recipe's settings do not go together.
            InfrastructureError: the weights or storage that the recipe needs do not answer.
        """
        answer: Row | PackshotError = await self._batch((row, recipe))
        if isinstance(answer, PackshotError):
            raise answer
        return answer

    @serve.batch
    async def _batch(self, payloads: list[Payload]) -> list[Row | PackshotError]:
        return await asyncio.get_running_loop().run_in_executor(self.thread, self.worker, payloads)


def online(placement: Placement) -> Placement:
    """The placement by day: `read` and `deliver` join their neighbours, since each group costs a request a hop."""
    groups = list(placement)
    if len(groups) > 1 and groups[0].nodes == ("read",):
        groups[:2] = [_joined(groups[1], groups[:2])]
    if len(groups) > 1 and groups[-1].nodes == ("deliver",):
        groups[-2:] = [_joined(groups[-2], groups[-2:])]
    return tuple(groups)


def _joined(host: Group, both: Sequence[Group]) -> Group:
    """A group with its small neighbour: it stays as it is, but for the nodes and the memory that both of them take."""
    return replace(host, nodes=both[0].nodes + both[1].nodes, memory_bytes=memory_of(both))


def most_requests(placement: Placement) -> int:
    """How many requests may be on the way or wait for the first group, which alone refuses what is too much."""
    first = online(placement)[0]
    return first.batch_size * (BATCHES_ON_THE_WAY * first.replicas + BATCHES_WAITING)


def deployments(placement: Placement, recipes: Sequence[Recipe], graph_of: GraphOf = build) -> list[serve.Application]:
    """One deployment a group of `online(placement)`, in the graph's order.

    Later groups never refuse: what the first one took is finished.

    Raises:
        ConfigError: a recipe has steps, and there is more than one group.
    """
    applications, groups = [], online(placement)
    for recipe in recipes if len(groups) > 1 else ():
        check_goes_one_way(recipe)
    for number, group in enumerate(groups):
        deployment: Any = serve.deployment(
            Replica,
            name=group.name,
            num_replicas=group.replicas,
            max_ongoing_requests=BATCHES_ON_THE_WAY * group.batch_size,
            max_queued_requests=-1 if number else BATCHES_WAITING * group.batch_size,
            ray_actor_options={"num_cpus": group.cpus, "num_gpus": group.gpus, "memory": group.memory_bytes},
        )
        applications.append(deployment.bind(groups, number, tuple(recipes), graph_of))
    return applications


def check_goes_one_way(recipe: Recipe) -> None:
    """Refuse a recipe whose rows would come back to a group that they have left.

    Raises:
        ConfigError: it has steps.
    """
    if recipe.steps:
        raise ConfigError(
            f"this server hands pictures on from process to process, and the `steps` of {recipe.name!r} go back and "
            "forth; send one request a step, or serve with the placement `local`"
        )


class Pipeline:
    """The deployments one after the other, as one function: a row and its recipe in, the finished row out."""

    def __init__(self, handles: Sequence[Any]) -> None:
        self.handles = handles

    async def __call__(self, row: Row, recipe: Recipe) -> Row:
        """Send a row through; what a deployment answers goes to the next one directly.

        Raises:
            Refused: too many requests wait, or a worker died with this one.
            ConfigError, InfrastructureError: from a worker.
        """
        if len(self.handles) > 1:
            check_goes_one_way(recipe)
        passing: Any = row
        for handle in self.handles:
            passing = handle.remote(passing, recipe)
        try:
            finished: Row = await passing
            return finished
        except BackPressureError as error:
            raise Refused(503, "busy", "too many requests are waiting", "Try again later.", RETRY_AFTER_S) from error
        except (RayActorError, DeploymentUnavailableError) as error:
            message = "the process that rendered the picture ended; another is being started"
            raise Refused(503, "worker_lost", message, "Try again.", RETRY_AFTER_S) from error
        except PackshotError as error:
            # Ray's copy of a worker's error spells out the worker's traceback; its cause is the error itself.
            raise getattr(error, "cause", error) from error
