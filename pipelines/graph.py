"""The run on one screen: which stages, in which order, and what identifies the result of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipelines.errors import ConfigError
from pipelines.models.checkpoints import weights_hash
from pipelines.recipe import Recipe
from pipelines.recipe.settings import DeliverSettings
from pipelines.recipe.step import StepSettings
from pipelines.rows import (
    CATALOGUE_COLUMNS,
    FETCHED,
    OUTCOME_COLUMNS,
    Row,
    catalogue_columns,
    in_step,
    is_big,
    plain,
    step_of,
)
from pipelines.stages import Stage, StageClass
from pipelines.stages.compose import Compose
from pipelines.stages.deliver import Deliver
from pipelines.stages.detect import Detect
from pipelines.stages.find import Find
from pipelines.stages.hand_on import HandOn
from pipelines.stages.judge import Judge
from pipelines.stages.mask import Mask
from pipelines.stages.paint import Paint
from pipelines.stages.read import Read
from pipelines.stages.score import Score
from pipelines.stages.segment import Segment
from pipelines.storage import Store
from pipelines.strict import Settings
from pipelines.tasks import TASKS

STARTS = ("detect", "find", "mask", "score", "judge")
"""The nodes at which an item may be taken up again, where the last manifest holds what they and later ones read."""
CROPS_ARE_FETCHED = ("score", "judge")
"""The starts at which `read` fetches the stored crops."""
READ_FOR_SOME_TASK = frozenset(column for task in TASKS.values() for column in task.reads)
"""What `mask` reads for some tasks alone."""
OWN_CANVAS = frozenset({"base_bytes", "canvas_bytes", "overlay_bytes"})
"""What `mask` makes, and `deliver` reads, only for tasks with a canvas of their own, and behind other steps."""


@dataclass(frozen=True)
class Node:
    """A stage with its settings: a recipe for an object, never the object, so that it pickles, hashes and prints.

    `given` holds constructor arguments that are no settings and enter no key, such as the store. `step` is whose
    columns the node sees; a name that carries its number, as `detect.2`, gives it to what the node adds. The stage does
    not look at `ignored_columns` under these settings, so that they change no key.
    """

    name: str
    stage: StageClass
    settings: Settings
    given: tuple[tuple[str, Any], ...] = field(default=(), repr=False)
    step: int = 1
    ignored_columns: frozenset[str] = frozenset()

    @property
    def adds(self) -> dict[str, pa.DataType]:
        """The columns that the node adds to a row: the stage's, with the number of a later step."""
        suffix = self.name.removeprefix(plain(self.name))
        return {f"{name}{suffix}": kind for name, kind in self.stage.adds.items()}

    def make(self) -> Stage:
        """Build the stage; weights load here, in the worker."""
        return self.stage(self.settings, **dict(self.given))

    @property
    def columns_read(self) -> tuple[str, ...]:
        """What the stage reads, or takes if it is there, under the names that each step up to this one gives it."""
        could_read = (*self.stage.reads, *self.stage.may_read)
        names = tuple(name for name in could_read if name not in self.ignored_columns)
        return (*names, *(f"{name}.{step}" for step in range(2, self.step + 1) for name in names))

    def fingerprint(self) -> str:
        """What the node does to any item: settings, weights' hash and the stage's pixels_version, as canonical JSON."""
        weights = [weights_hash(checkpoint) for checkpoint in self.settings.weights().values()]
        # By alias: a setting with a new name has its first one here, so that what was rendered keeps its keys.
        settings = self.settings.model_dump(mode="json", by_alias=True)
        return json.dumps([self.name, self.stage.pixels_version, settings, weights], sort_keys=True)

    def keyed_columns(self) -> tuple[str, ...]:
        """The catalogue's columns that count in this node's key; what `read` fetches counts as URI and version."""
        columns: dict[str, None] = {}
        for name in self.columns_read:
            for column in FETCHED.get(name, (name,) if plain(name) in CATALOGUE_COLUMNS else ()):
                columns[column] = None
        return tuple(columns)


@dataclass(frozen=True)
class Graph:
    """Nodes in order; building one checks that each column is there, and of the type, before it is read."""

    nodes: tuple[Node, ...]

    @cached_property
    def catalogue_columns(self) -> dict[str, pa.DataType]:
        """What `catalogue.rows` makes: its columns, and each later step's words."""
        return catalogue_columns(max(node.step for node in self.nodes))

    @property
    def first(self) -> str:
        """The first node that has a key; `read` before it has limits only."""
        return next(node.name for node in self.nodes if node.name != "read")

    def __post_init__(self) -> None:
        there = dict(self.catalogue_columns)
        for node in self.nodes:
            missing = [name for name in node.stage.reads if name not in map(plain, there)]
            if missing:
                raise ConfigError(
                    f"node {node.name!r} reads {missing}, which no earlier node adds; mend the order of the graph"
                )
            wanted = {**node.stage.reads, **node.stage.may_read}
            for name, kind in there.items():
                if plain(name) in wanted and step_of(name) <= node.step and wanted[plain(name)] != kind:
                    raise ConfigError(
                        f"node {node.name!r} reads {name!r} as {wanted[plain(name)]}, and what is there is {kind}; "
                        "mend the type in `reads` or `may_read` of its stage, or in `adds` of the one that makes it"
                    )
            there.update(node.adds)

    @cached_property
    def columns(self) -> dict[str, pa.DataType]:
        """Every column of a finished row, with its type."""
        columns = {**self.catalogue_columns, **OUTCOME_COLUMNS}
        for node in self.nodes:
            columns.update(node.adds)
        return columns

    def manifest_schema(self) -> pa.Schema:
        """The columns that the manifest keeps: all but the big ones."""
        return pa.schema([(name, kind) for name, kind in self.columns.items() if not is_big(kind)])

    def edge_schema(self, after: str) -> pa.Schema:
        """What travels on behind a node: what later nodes read, and what the manifest keeps.

        Given explicitly, so that a column which happens to be all null keeps its type.
        """
        behind = [node.name for node in self.nodes].index(after) + 1
        there = set(self.catalogue_columns).union(*(node.adds for node in self.nodes[:behind]))
        read_later = set().union(*(node.columns_read for node in self.nodes[behind:]))
        travels = read_later & there
        return pa.schema([(name, kind) for name, kind in self.columns.items() if not is_big(kind) or name in travels])

    def passes_by(self, node_name: str) -> Callable[[Row], bool]:
        """Whether a row begins after this node; `read` passes none by, since what it fetches is stored nowhere."""
        order = {node.name: position for position, node in enumerate(self.nodes)}
        position = order[node_name]
        return lambda row: node_name != "read" and bool(row.get("start_at")) and position < order[row["start_at"]]

    def node_keys(self, row: Row) -> dict[str, str]:
        """What identifies each node's result for this item: all that could change it, and nothing else.

        See docs/design.md, Node keys.
        """
        keys, key = {}, ""
        for name, fingerprint, columns in self._fingerprints:
            values = [row.get(column) for column in columns]
            key = hashlib.sha256(json.dumps([key, fingerprint, values], default=list).encode()).hexdigest()
            keys[name] = key
        return keys

    @cached_property
    def _fingerprints(self) -> list[tuple[str, str, tuple[str, ...]]]:
        # `read` has limits only: they decide whether there is a result, not which.
        return [(node.name, node.fingerprint(), node.keyed_columns()) for node in self.nodes if node.name != "read"]

    def start_for(self, changed: str) -> str:
        """The last node at or before the first changed one from which the last manifest can be continued."""
        names = [node.name for node in self.nodes]
        reached = names.index(changed) if changed in names else names.index(self.first)
        return next((start for start in reversed(self.starts) if names.index(start) <= reached), self.first)

    @cached_property
    def starts(self) -> tuple[str, ...]:
        """Those of `STARTS` behind which no node reads what only a node before them makes and nobody stores."""
        return tuple(node.name for node in self.nodes if node.name in STARTS and self._can_start_at(node.name))

    def _can_start_at(self, start: str) -> bool:
        position = [node.name for node in self.nodes].index(start)
        fetched = {name for name in Read.adds if name != "finished_crops" or start in CROPS_ARE_FETCHED}
        made = {name: kind for node in self.nodes[:position] for name, kind in node.adds.items()}
        lost = {name for name, kind in made.items() if is_big(kind)} - fetched
        for node in self.nodes[position:]:
            if lost & set(node.columns_read):
                return False
            lost -= set(node.adds)
        return True


def build(recipe: Recipe, store: Store | None = None) -> Graph:
    """Chain the stages of a recipe; nothing is loaded until an executor runs them.

    Without a store the finished pictures stay in the rows (`image_files`).
    """
    steps, last = recipe.chain(), len(recipe.chain())
    nodes = [Node("read", Read, recipe.read)]
    # A step hands on a lossless picture: the quality of the delivered file is in no key before `deliver`.
    hands_on = recipe.deliver.model_copy(update={"quality": DeliverSettings().quality})
    for number, step in enumerate(steps, start=1):
        nodes += _step(step, number, hands_on if number < last else None)
    unread = frozenset(() if recipe.score.segmenter else ("region_rgb",))
    unmade = OWN_CANVAS if last == 1 and not TASKS[recipe.paint.task].own_canvas else frozenset()
    nodes += [
        Node("score", Score, recipe.score, step=last, ignored_columns=unread),
        Node("judge", Judge, recipe.judge, step=last),
        Node("deliver", Deliver, recipe.deliver, (("store", store),), step=last, ignored_columns=unmade),
    ]
    return Graph(tuple(nodes))


def _step(recipe: StepSettings, number: int, hands_on: DeliverSettings | None) -> list[Node]:
    """From finding to a composed crop; every step but the last hands its finished picture on."""
    chained: list[tuple[str, StageClass, Settings | None]] = [
        ("detect", Detect, recipe.detect),
        ("segment", Segment, recipe.segment),
        ("find", Find, recipe.find),
        ("mask", Mask, recipe.mask),
        ("paint", Paint, recipe.paint),
        ("compose", Compose, recipe.compose),
        ("hand_on", HandOn, hands_on),
    ]
    ignored = READ_FOR_SOME_TASK - set(TASKS[recipe.paint.task].reads)
    return [
        Node(
            in_step(name, number),
            stage,
            section,
            step=number,
            ignored_columns=ignored if stage is Mask else frozenset(),
        )
        for name, stage, section in chained
        if section
    ]


def first_change(old: dict[str, str], new: dict[str, str], stopped_at: str | None) -> str | None:
    """The first node whose key differs, or None.

    An item that stopped at a node that has a key, so not at `read`, is compared up to that node only.
    """
    for name, key in _up_to(new.items(), stopped_at):
        if old.get(name) != key:
            return name
    return None


def _up_to(keys: Iterable[tuple[str, str]], stopped_at: str | None) -> Iterable[tuple[str, str]]:
    for name, key in keys:
        yield name, key
        if name == stopped_at:
            return
