"""Compare one item of today's catalogue with earlier runs: keep its result, go on from a node, or begin again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.graph import CROPS_ARE_FETCHED, Graph, first_change
from pipelines.night.earlier import Earlier
from pipelines.rows import CATALOGUE_COLUMNS, FAILED, OK, PENDING, REASONS, REJECTED, Row

KEEP, RENDER = "keep", "render"
ATTEMPTS_AT_THE_UNEXPECTED = 3
"""An item that breaks a stage is tried so many times; then it stays failed until something of it changes."""
LIMITED = ("too_many_bytes", "too_many_pixels", "too_many_references")
"""Reasons that another limit of `read` may lift."""


DONE = float("inf")


@dataclass(frozen=True)
class Item:
    """A planned row, with how many nodes an earlier run has done for it (DONE: all) and the number of that run."""

    row: dict[str, Any]
    done: float
    run_id: int | None = None


def compare(graph: Graph, row: Row, earlier: Sequence[Earlier], limits_changed: bool) -> Item:
    """Plan an item from the run that did most of its work; of equals the first."""
    if row["status"] != OK:  # the table's row itself is at fault: nothing can be rendered, and no node ran
        return Item({**row, "node_keys": {}, "plan": KEEP}, DONE)
    keyed = {**row, "node_keys": graph.node_keys(row)}
    options = [_with_one(graph, keyed, one, limits_changed) for one in earlier if row["item_key"] in one.places]
    best = max(options, key=lambda item: item.done, default=Item({**keyed, "plan": RENDER}, 0))
    if best.row["plan"] == KEEP:
        return best
    return replace(best, row={**best.row, "attempts": max((item.row["attempts"] for item in options), default=0)})


def _with_one(graph: Graph, row: dict[str, Any], one: Earlier, limits_changed: bool) -> Item:
    """Plan an item from an earlier run that has it."""
    outcome = one.outcomes[one.places[row["item_key"]]]
    # `read` may have refused a reference or a scene, which count in later nodes' keys: compare them all.
    stopped = outcome["node"] if outcome["status"] in (FAILED, REJECTED) and outcome["node"] != "read" else None
    changed = first_change(dict(outcome["node_keys"] or ()), row["node_keys"], stopped)
    if outcome["status"] == FAILED:
        # The limits of `read` are recorded of published runs only.
        if changed is None and _stays_failed(outcome, limits_changed or not one.is_published):
            return _kept(row, one)
        # A failed row's other columns may be another night's: none of them is used.
        attempts = outcome["attempts"] + 1 if changed is None else 0
        return Item({**row, "attempts": attempts, "plan": RENDER}, 0, one.run_id)
    known = one.row(row["item_key"])
    if changed is None and outcome["status"] == PENDING:
        changed = "judge" if known["variant_scores"] else graph.first  # its keys are of nodes that it never reached
    if changed is None:
        return _kept(row, one)
    start = graph.start_for(changed)
    if start == graph.first:
        return Item({**row, "plan": RENDER}, 0, one.run_id)
    position = [node.name for node in graph.nodes].index(start)
    return Item({**row, **_carried(graph, known, start), "start_at": start, "plan": RENDER}, position, one.run_id)


def _kept(row: Row, one: Earlier) -> Item:
    today = {name: row[name] for name in (*CATALOGUE_COLUMNS, "node_keys") if name != "start_at"}
    return Item({**one.row(row["item_key"]), **today, "plan": KEEP}, DONE, one.run_id)


def _stays_failed(outcome: Mapping[str, Any], limits_changed: bool) -> bool:
    """Whether an item that failed, and of which nothing changed, stays failed without another try."""
    word = outcome["reason"]
    if word not in REASONS:  # another version's word: try the item with this version
        return False
    if word == "unexpected":
        return bool(outcome["attempts"] + 1 >= ATTEMPTS_AT_THE_UNEXPECTED)
    if limits_changed and word in LIMITED:
        return False
    return REASONS[word].kind == "permanent"


def _carried(graph: Graph, known: Mapping[str, Any], start: str) -> dict[str, Any]:
    """The columns that the nodes before `start` added, and the stored crops if it starts after the painter."""
    names = {"crop_uris"} if start in CROPS_ARE_FETCHED else set()
    for node in graph.nodes:
        if node.name == start:
            break
        names |= set(node.adds)
    return {name: known[name] for name in names if name in known}
