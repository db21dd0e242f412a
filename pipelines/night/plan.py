"""What tonight's run has to do: today's catalogue compared, item by item, with what earlier runs made of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import storage
from pipelines.graph import CROPS_ARE_FETCHED, Graph
from pipelines.night import manifest
from pipelines.night.compare import KEEP, RENDER, Item, compare
from pipelines.night.earlier import Earlier, of_parts, of_published, under_todays_names
from pipelines.night.manifest import Runs
from pipelines.rows import FAILED, PENDING, STEP_WORDS, Row, plain, to_table

LOOKED_UP_ALONE = 1_000
"""Up to so many stored crops are looked up one by one; of more, all are listed."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run has to do: a table with one row for every item, whose column `plan` is `keep` or `render`.

    Attributes:
        run_id: the number that the run will have if no other process takes it first.
        run_uri: the run's folder.
        table: the items to render come first, among them first those that were left pending before.
        digest: see `digest_of`.
        runs: the runs that were under the output when this was planned.
        notes: sentences for people.
        adopted: how many of the kept items were finished by a run that was never published.
        vanished: keys of items that the newest published run holds and today's catalogue does not.
    """

    run_id: int
    run_uri: str
    table: pa.Table
    digest: str
    runs: Runs
    notes: tuple[str, ...] = ()
    adopted: int = 0
    vanished: tuple[str, ...] = ()

    def rows(self, what: str) -> pa.Table:
        """The rows whose `plan` is `what` (KEEP or RENDER), without that column."""
        return self.table.filter(pc.equal(self.table["plan"], what)).drop_columns(["plan"])

    def counts(self) -> dict[str, int]:
        """Items planned, kept over, to render (also by the node they start at), and left for another night."""
        starts = Counter(start or "read" for start in self.rows(RENDER)["start_at"].to_pylist())
        planned, rendered = len(self.table), sum(starts.values())
        pending = self.table["status"].to_pylist().count(PENDING)
        return {
            "planned": planned,
            KEEP: planned - rendered - pending,
            RENDER: rendered,
            PENDING: pending,
            **{f"from_{start}": n for start, n in sorted(starts.items())},
        }

    def as_run(self, run_id: int) -> Plan:
        """The same plan under another number."""
        return replace(self, run_id=run_id, run_uri=manifest.sibling_uri(self.run_uri, run_id))


def digest_of(graph: Graph, catalogue_uri: str, rows: Iterable[Row]) -> str:
    """A sha256 that two nights share if they do the same work: same nodes and weights, catalogue, and items' words.

    The limit and the recipe's name are not in it.
    """
    made = hashlib.sha256(json.dumps([[node.fingerprint() for node in graph.nodes], catalogue_uri]).encode())
    words = [name for name in graph.catalogue_columns if plain(name) in STEP_WORDS]
    for row in rows:
        made.update(json.dumps([row["item_key"], *(row.get(name) for name in words)]).encode())
    return made.hexdigest()


def make(
    graph: Graph,
    rows: Sequence[Row],
    output_uri: str,
    digest: str,
    runs: Runs,
    limits_changed: bool = False,
    limit: int | None = None,
) -> Plan:
    """Compare today's catalogue with what earlier runs made of it; writes nothing.

    An item is compared with the newest published run and with the readable parts of unfinished runs, and goes on from
    the one that did most of its work. So what a broken run finished is not done again, whatever it was asked to do.

    Args:
        graph: the recipe's.
        rows: today's catalogue.
        output_uri: where runs are.
        digest: see `digest_of`.
        runs: the runs under the output.
        limits_changed: `read`'s limits differ from the last run's, so items that were too large then are tried again.
        limit: at most so many items are rendered, first those that were pending before; the others are pending and
            keep what they have.
    """
    published = of_published(runs.newest) if runs.newest else None
    earlier = [*([published] if published else []), *(of_parts(output_uri, number) for number in runs.unfinished)]
    items = [compare(graph, row, earlier, limits_changed) for row in rows]
    chosen = _chosen(graph, items, published, limit)
    expired = _start_again_where_expired(graph, chosen, output_uri)
    adopted = Counter(item.run_id for item in items if item.row["plan"] == KEEP and item.run_id in runs.unfinished)
    vanished = tuple(sorted(set(published.places if published else ()) - {row["item_key"] for row in rows}))
    return Plan(
        runs.highest + 1,
        manifest.run_uri(output_uri, runs.highest + 1),
        to_table(chosen, pa.schema([*graph.manifest_schema(), pa.field("plan", pa.string())])),
        digest,
        runs,
        (*_notes(runs, adopted, vanished), *expired),
        adopted.total(),
        vanished,
    )


def put(plan: Plan) -> None:
    """Write the plan into its run's folder, for people who look at a run; only the run's owner may."""
    table = plan.table.replace_schema_metadata({b"packshot_digest": plan.digest.encode()})
    storage.write(storage.join(plan.run_uri, "plan.parquet"), manifest.to_parquet(table))


# --- all items together


def _chosen(graph: Graph, items: Sequence[Item], published: Earlier | None, limit: int | None) -> list[dict[str, Any]]:
    """The rows to render (first those that were pending before), then those to keep, then those left pending."""
    waited = published.pending() if published else set()
    to_render = [item.row for item in items if item.row["plan"] == RENDER]
    to_render.sort(key=lambda row: row["item_key"] not in waited)
    kept = [item.row for item in items if item.row["plan"] == KEEP]
    most = len(to_render) if limit is None else limit
    return [*to_render[:most], *kept, *(_postponed(graph, row, published) for row in to_render[most:])]


def _postponed(graph: Graph, row: Row, published: Earlier | None) -> dict[str, Any]:
    """The row of an item that is left pending: it keeps last night's columns and keys, if it has any."""
    if published is None or row["item_key"] not in published.places:
        bare = {name: row[name] for name in graph.catalogue_columns if name != "start_at"}
        return {**bare, "node_keys": {}, "attempts": row["attempts"], "status": PENDING, "plan": KEEP}
    known = published.row(row["item_key"])
    # A failed item may keep an earlier night's picture, which its keys do not describe.
    keys = {} if known["status"] == FAILED else known["node_keys"]
    seen = under_todays_names(graph, known, published.steps)
    return {**seen, "node_keys": keys, "status": PENDING, "plan": KEEP}


def _start_again_where_expired(graph: Graph, planned: Sequence[dict[str, Any]], output_uri: str) -> list[str]:
    """Let items whose stored crops have expired start where they are painted; returns the sentence that says so."""
    waiting = [row for row in planned if row["plan"] == RENDER and row.get("start_at") in CROPS_ARE_FETCHED]
    wanted = {uri for row in waiting for uri in row["crop_uris"] or ()}
    stored = _still_stored(wanted, output_uri) if wanted else set()
    gone = [row for row in waiting if not set(row["crop_uris"] or ()) <= stored]
    start = graph.start_for("mask")
    for row in gone:
        row["start_at"], row["crop_uris"] = None if start == graph.first else start, None
    return [f"{len(gone)} items are painted again: crops that the judge needs have expired"] if gone else []


def _still_stored(uris: set[str], output_uri: str) -> set[str]:
    """Those of the crops that the output still has."""
    if len(uris) <= LOOKED_UP_ALONE:
        with ThreadPoolExecutor(16) as pool:
            asked = sorted(uris)
            return {uri for uri, is_there in zip(asked, pool.map(storage.exists, asked), strict=True) if is_there}
    folders = (storage.join(output_uri, name) for name in ("crops", "variants"))
    return {file.uri for folder in folders for file in storage.list_files(folder, missing_ok=True)}


def named(keys: Sequence[str]) -> str:
    """The first three of some keys, for a sentence."""
    return ", ".join(keys[:3]) + (" ..." if len(keys) > 3 else "")


def _notes(runs: Runs, adopted: Mapping[int, int], vanished: Sequence[str]) -> list[str]:
    notes = [
        f"{adopted[number]:,} items were finished by run {number}, which was never published; they are taken over"
        for number in runs.unfinished
        if number in adopted
    ]
    if vanished and runs.newest:
        items = "1 item" if len(vanished) == 1 else f"{len(vanished):,} items"
        notes.append(f"no longer in the catalogue: {items} of run {runs.newest.run_id} ({named(vanished)})")
    return notes
