"""Run a graph as Ray Serve deployments: one a group of the placement, rows as they are, the same pixels.

A payload is (row, recipe). A deployment gathers payloads into batches, groups a batch by `Node` (stage, settings,
weights; nothing of the item) and runs each group through `apply`, as inline and Ray Data do. Bytes go from deployment
to deployment; the front never sees them in between.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from pipelines.errors import ConfigError, InfrastructureError, PackshotError
from pipelines.executors.apply import apply
from pipelines.executors.placement import Group, Placement, memory_of
from pipelines.graph import STEPLESS_LAST, Graph, Node, build
from pipelines.recipe import Recipe
from pipelines.rows import Row, Update, plain, step_of
from serve.errors import Refused

GraphOf = Callable[[Recipe], Graph]
Payload = tuple[Row, Recipe]

KEPT_STAGES = 64
KEPT_GRAPHS = 256
BATCHES_ON_THE_WAY = 2
"""A replica takes so many batches' worth of requests: one on the models, one that fills meanwhile."""
BATCHES_WAITING = 8
"""So many more wait for it in the front before requests are refused."""
RETRY_AFTER_S = 5


class Nodes:
    """Consecutive nodes in one process, for rows of different recipes at a time; knows nothing of Ray.

    A stage is built once a `Node`; the weights under it are loaded once a process, so another setting costs nothing.
    """

    def __init__(self, names: Sequence[str], graph_of: GraphOf = build) -> None:
        self.names = tuple(names)
        self.graph_of = lru_cache(KEPT_GRAPHS)(graph_of)
        self.stages: OrderedDict[Node, Any] = OrderedDict()

    def load(self, recipe: Recipe) -> None:
        """Build a recipe's stages now, so that no request waits for weights."""
        for node in self.graph_of(recipe).nodes:
            if plain(node.name) in self.names:
                self._stage(node)

    def __call__(self, payloads: Sequence[Payload]) -> list[Row | PackshotError]:
        """Run the nodes over a batch; as many answers come back, in order.

        Rows carry on what later nodes read and what a finished row has. An error in the place of a row is its recipe's,
        whose settings cannot be or whose weights do not answer; the other recipes' rows are not touched by it.
        """
        graphs = [self.graph_of(recipe) for _, recipe in payloads]
        answers: list[Row | PackshotError] = [row for row, _ in payloads]
        for name in self._order(graphs):
            for node, places in _by_node(name, graphs).items():
                self._run(node, graphs[places[0]], places, answers)
        return [
            answer if isinstance(answer, PackshotError) else _carried(answer, graph, self.own(graph)[-1])
            for answer, graph in zip(answers, graphs, strict=True)
        ]

    def own(self, graph: Graph) -> list[str]:
        """The nodes of a graph that run here."""
        return [node.name for node in graph.nodes if plain(node.name) in self.names]

    def _order(self, graphs: Sequence[Graph]) -> list[str]:
        """Every node that some graph runs here, in an order that is right for all of them."""
        names = {name for graph in graphs for name in self.own(graph)}
        return sorted(names, key=lambda name: (name in STEPLESS_LAST, step_of(name), self.names.index(plain(name))))

    def _run(self, node: Node, graph: Graph, places: list[int], answers: list[Row | PackshotError]) -> None:
        live = [(place, row) for place in places if not isinstance(row := answers[place], PackshotError)]
        try:
            # The stage is built inside `apply`: one that cannot be built fails its own recipe's rows alone.
            done = apply(
                node.name,
                partial(self._call, node),
                [row for _, row in live],
                graph.passes_by(node.name),
                node.step,
                node.settings,
            )
        except (ConfigError, InfrastructureError) as error:
            # These settings or weights are to blame, and no other recipe's rows meet them.
            for place, _ in live:
                answers[place] = error
            return
        for (place, _), row in zip(live, done, strict=True):
            answers[place] = row

    def _call(self, node: Node, rows: Sequence[Row]) -> list[Update]:
        answers: list[Update] = self._stage(node)(rows)
        return answers

    def _stage(self, node: Node) -> Any:
        if node not in self.stages:
            self.stages[node] = node.make()
            if len(self.stages) > KEPT_STAGES:
                self.stages.popitem(last=False)
        self.stages.move_to_end(node)
        return self.stages[node]


def _by_node(name: str, graphs: Sequence[Graph]) -> dict[Node, list[int]]:
    places: dict[Node, list[int]] = {}
    for place, graph in enumerate(graphs):
        for node in graph.nodes:
            if node.name == name:
                places.setdefault(node, []).append(place)
    return places


def _carried(row: Row, graph: Graph, after: str) -> Row:
    """What travels on, and the finished pictures, which have no store to go to."""
    names = {*graph.edge_schema(after).names, "image_files"}
    return {name: value for name, value in row.items() if name in names}


class Deployed:
    """One group of the placement as a deployment; its weights are loaded before it counts as healthy."""

    def __init__(self, group: Group, recipes: Sequence[Recipe], graph_of: GraphOf) -> None:
        self.nodes = Nodes(group.nodes, graph_of)
        # One thread, always the same: models are not re-entrant, and torch counts its threads by the thread that calls.
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="nodes")
        self._gathered.set_max_batch_size(group.batch_size)  # type: ignore[attr-defined]  # `serve.batch` adds it
        self._gathered.set_batch_wait_timeout_s(group.wait_s)  # type: ignore[attr-defined]  # as above
        for recipe in recipes:
            self.thread.submit(self.nodes.load, recipe).result()

    async def __call__(self, row: Row, recipe: Recipe) -> Row:
        """Run the group's nodes over a row, together with whatever else is waiting.

        Raises:
            ConfigError: the recipe's settings do not go together.
            InfrastructureError: the weights or storage that the recipe needs do not answer.
        """
        answer: Row | PackshotError = await self._gathered((row, recipe))
        if isinstance(answer, PackshotError):
            raise answer
        return answer

    @serve.batch
    async def _gathered(self, payloads: list[Payload]) -> list[Row | PackshotError]:
        return await asyncio.get_running_loop().run_in_executor(self.thread, self.nodes, payloads)


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
    applications = []
    for recipe in recipes if len(online(placement)) > 1 else ():
        check_goes_one_way(recipe)
    for position, group in enumerate(online(placement)):
        deployment: Any = serve.deployment(
            Deployed,
            name=group.name,
            num_replicas=group.replicas,
            max_ongoing_requests=BATCHES_ON_THE_WAY * group.batch_size,
            max_queued_requests=-1 if position else BATCHES_WAITING * group.batch_size,
            ray_actor_options={"num_cpus": group.cpus, "num_gpus": group.gpus, "memory": group.memory_bytes},
        )
        applications.append(deployment.bind(group, tuple(recipes), graph_of))
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


class Chain:
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
