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
from pipelines.models.loading import weights_hash
from pipelines.recipe import ModelSettings, Recipe, Settings
from pipelines.rows import BIG_COLUMNS, CATALOGUE_COLUMNS, FETCHED, OUTCOME_COLUMNS, Row
from pipelines.stages.compose import Compose
from pipelines.stages.deliver import Deliver, Store
from pipelines.stages.detect import Detect
from pipelines.stages.judge import Judge
from pipelines.stages.mask import Mask
from pipelines.stages.paint import Paint
from pipelines.stages.read import Read
from pipelines.stages.score import Score
from pipelines.stages.segment import Segment

STARTS = ("detect", "mask", "score", "judge")
"""The nodes at which an item can be taken up again from what the last manifest holds."""


@dataclass(frozen=True)
class Node:
    """A stage with its settings: a recipe for an object, never the object, so that it pickles, hashes and prints.

    `stage` is a class with `reads` and `adds` (columns and Arrow types) and `pixels_version`, a number that is raised
    by hand when its pixels change. Called with settings it loads its weights; what it makes is an `apply.Stage`.
    `given` holds constructor arguments that are no settings and enter no key, such as the store.
    """

    name: str
    stage: type[Any]
    settings: Settings
    given: tuple[tuple[str, Any], ...] = field(default=(), repr=False)

    def make(self) -> Any:
        """Build the stage; weights load here, in the worker."""
        return self.stage(self.settings, **dict(self.given))

    def fingerprint(self) -> str:
        """What the node does to any item: settings, weights' hash and the stage's pixels_version, as canonical JSON."""
        weights = weights_hash(self.settings.checkpoint) if isinstance(self.settings, ModelSettings) else None
        return json.dumps(
            [self.name, self.stage.pixels_version, self.settings.model_dump(mode="json"), weights], sort_keys=True
        )

    def keyed_columns(self) -> tuple[str, ...]:
        """The catalogue's columns that count in this node's key; what `read` fetches counts as URI and version."""
        columns: dict[str, None] = {}
        for name in self.stage.reads:
            for column in FETCHED.get(name, (name,) if name in CATALOGUE_COLUMNS else ()):
                columns[column] = None
        return tuple(columns)


@dataclass(frozen=True)
class Graph:
    """Nodes in order; building one checks that each column is there before it is read."""

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        there = set(CATALOGUE_COLUMNS)
        for node in self.nodes:
            missing = [name for name in node.stage.reads if name not in there]
            if missing:
                raise ConfigError(
                    f"node {node.name!r} reads {missing}, which no earlier node adds; mend the order of the graph"
                )
            there |= set(node.stage.adds)

    @cached_property
    def columns(self) -> dict[str, pa.DataType]:
        """Every column of a finished row, with its type."""
        columns = {**CATALOGUE_COLUMNS, **OUTCOME_COLUMNS}
        for node in self.nodes:
            columns.update(node.stage.adds)
        return columns

    def manifest_schema(self) -> pa.Schema:
        """The columns that the manifest keeps: all but the big ones."""
        return pa.schema([(name, kind) for name, kind in self.columns.items() if name not in BIG_COLUMNS])

    def edge_schema(self, after: str) -> pa.Schema:
        """What travels on behind a node: what later nodes read, and what the manifest keeps.

        Given explicitly, so that a column which happens to be all null keeps its type.
        """
        behind = [node.name for node in self.nodes].index(after) + 1
        there = set(CATALOGUE_COLUMNS).union(*(node.stage.adds for node in self.nodes[:behind]))
        read_later = set().union(*(node.stage.reads for node in self.nodes[behind:]))
        travels = read_later & there
        return pa.schema(
            [(name, kind) for name, kind in self.columns.items() if name not in BIG_COLUMNS or name in travels]
        )

    def passes_by(self, node_name: str) -> Callable[[Row], bool]:
        """Whether a row begins after this node; `read` passes none by, since what it fetches is stored nowhere."""
        order = {node.name: position for position, node in enumerate(self.nodes)}
        position = order[node_name]
        return lambda row: node_name != "read" and bool(row.get("start_at")) and position < order[row["start_at"]]

    def node_keys(self, row: Row) -> dict[str, str]:
        """What identifies each node's result for this item: all that could change it, and nothing else (DESIGN 4)."""
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
        return [start for start in STARTS if names.index(start) <= names.index(changed)][-1]


def build(recipe: Recipe, store: Store | None = None) -> Graph:
    """Chain the stages of a recipe; nothing is loaded until an executor runs them.

    Without a store the finished pictures stay in the rows (`image_files`).
    """
    return Graph(
        (
            Node("read", Read, recipe.read),
            Node("detect", Detect, recipe.detect),
            Node("segment", Segment, recipe.segment),
            Node("mask", Mask, recipe.mask),
            Node("paint", Paint, recipe.paint),
            Node("compose", Compose, recipe.compose),
            Node("score", Score, recipe.score),
            Node("judge", Judge, recipe.judge),
            Node("deliver", Deliver, recipe.deliver, (("store", store),)),
        )
    )


def first_change(old: dict[str, str], new: dict[str, str], stopped_at: str | None) -> str | None:
    """The first node whose key differs, or None; an item that stopped at a node is compared up to that node only."""
    for name, key in _up_to(new.items(), stopped_at):
        if old.get(name) != key:
            return name
    return None


def _up_to(keys: Iterable[tuple[str, str]], stopped_at: str | None) -> Iterable[tuple[str, str]]:
    for name, key in keys:
        yield name, key
        if name == stopped_at:
            return
