"""What tonight's run has to do: today's catalogue compared, item by item, with what earlier runs made of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import storage
from pipelines.executors.placement import CPUS_BESIDE_THE_GROUPS, Placement, fitted, needs
from pipelines.graph import CROPS_ARE_FETCHED, Graph, first_change
from pipelines.night import manifest
from pipelines.night.manifest import Published, Runs
from pipelines.rows import (
    BIG_COLUMNS,
    CATALOGUE_COLUMNS,
    FAILED,
    OK,
    PENDING,
    REASONS,
    REJECTED,
    STEP_WORDS,
    Row,
    as_seen_by,
    plain,
    step_of,
    to_table,
)

KEEP, RENDER = "keep", "render"
ATTEMPTS_AT_THE_UNEXPECTED = 3
"""So often an item that breaks a stage is tried; then it stays failed until something of it changes."""
LIMITED = ("too_many_bytes", "too_many_pixels", "too_many_references")
"""Reasons that another limit of `read` may lift."""
LOOKED_UP_ALONE = 1_000
"""Up to so many stored crops are looked up one by one; of more, all are listed."""


@dataclass(frozen=True)
class Forecast:
    """What a plan's items to render will take, as far as that is known beforehand; None is unknown.

    There is no cost: no price is configured anywhere.

    Attributes:
        bytes_to_read: pictures, masks and references, by the catalogue's listings, each as often as an item names it.
        not_listed: so many of them no listing shows; they are not in the bytes.
        expected_s: seconds, if each node takes as long an item as in the newest published run; starting Ray and
            loading models are not in it.
        cpus: what the placement takes at once, Ray's own tasks among them; a cluster that has fewer would hang.
        gpus: the same.
    """

    bytes_to_read: int | None
    not_listed: int
    expected_s: float | None
    cpus: float
    gpus: float

    def sentences(self) -> tuple[str, ...]:
        """The same for people."""
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


@dataclass(frozen=True, eq=False)
class Plan:
    """One row for every item, `plan` saying keep or render; `notes` are sentences for people.

    Attributes:
        run_id: the number that the run will have if no other process takes it first.
        run_uri: the run's folder.
        table: the rows to render come first, of those the ones that were left pending before.
        digest: see `digest`.
        runs: what lay under the output when this was planned.
        adopted: so many kept items were finished by a run that was never published.
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
        """The rows to keep, or those to render, without the `plan` column."""
        chosen = self.table.filter(pc.equal(self.table["plan"], what))
        return chosen.drop_columns(["plan"])

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
        folder = self.run_uri.rstrip("/").rpartition("/")[0]
        return replace(self, run_id=run_id, run_uri=storage.join(folder, f"{run_id:08d}"))


def digest(graph: Graph, catalogue_uri: str, rows: Iterable[Row]) -> str:
    """What makes two nights the same work: nodes with their weights, the catalogue, and its items' words.

    Neither how many items are to be rendered nor what the recipe is called counts.
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
    limits_changed: bool = False,
    limit: int | None = None,
    runs: Runs | None = None,
) -> Plan:
    """Compare today's catalogue with what earlier runs made of it; writes nothing.

    An item is compared with the newest published run and with what unfinished runs after it left in readable parts,
    and goes on from wherever most of the work is done: what a broken run finished is not done again, whatever was
    asked of it.

    Args:
        graph: the recipe's.
        rows: today's catalogue.
        output_uri: where runs are.
        digest: see `digest`.
        limits_changed: `read`'s limits differ from the last run's: what was too large then is tried again.
        limit: at most so many items are rendered, first those that were pending before; the others are pending and
            keep what they have.
        runs: what lies under the output, if that was looked at already.
    """
    runs = runs or manifest.runs(output_uri)
    published = _of_published(runs.newest) if runs.newest else None
    earlier = [*([published] if published else []), *(_of_parts(output_uri, number) for number in runs.unfinished)]
    items = [_against_all(graph, row, earlier, limits_changed) for row in rows]
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
    """Write the plan into its run's folder, for those who look at a run; its owner alone does."""
    table = plan.table.replace_schema_metadata({b"packshot_digest": plan.digest.encode()})
    storage.write(storage.join(plan.run_uri, "plan.parquet"), manifest.to_parquet(table))


def results_of(published: Published, keys: Iterable[str], graph: Graph) -> dict[str, dict[str, Any]]:
    """What nodes made of items on an earlier night, under the names that this graph's columns have.

    Only of items that had a picture then; the last step's columns then are the last step's columns now.
    """
    wanted = pa.array(list(keys), pa.string())
    steps = _steps(published)
    made = {name for node in graph.nodes for name in node.adds if plain(name) not in BIG_COLUMNS}
    found: dict[str, dict[str, Any]] = {}
    for table in manifest.read(published, "items"):
        for known in table.filter(pc.is_in(table["item_key"], wanted)).to_pylist():
            if any(known["image_uris"] or ()):
                seen = _under_todays_names(graph, known, steps)
                found[known["item_key"]] = {name: value for name, value in seen.items() if name in made}
    return found


# --- forecast


def forecast(
    made: Plan, graph: Graph, listed: Mapping[str, storage.File], node_s: Mapping[str, float], placement: Placement
) -> Forecast:
    """What a plan will take.

    Args:
        made: the plan.
        graph: the recipe's.
        listed: the catalogue's files by URI.
        node_s: seconds that a node took an item, by node: `run.json` says so of the newest run.
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
    """The busiest group's share: its nodes' seconds times the rows that do not pass them by, over its processes."""
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


# --- what earlier runs know


@dataclass(frozen=True, eq=False)
class _Earlier:
    """What a run made of items: its rows as it left them, of how many steps its recipe was, and if it was published."""

    run_id: int
    table: pa.Table
    steps: int
    is_published: bool

    @cached_property
    def places(self) -> dict[str, int]:
        """Item key -> its row's number."""
        return {key: place for place, key in enumerate(self.table["item_key"].to_pylist())} if len(self.table) else {}

    @cached_property
    def outcomes(self) -> list[dict[str, Any]]:
        """What a comparison looks at first, a row an item."""
        columns: list[dict[str, Any]] = self.table.select(
            ["status", "reason", "node", "attempts", "node_keys"]
        ).to_pylist()
        return columns

    def row(self, item_key: str) -> dict[str, Any]:
        """All that the run says of an item."""
        row: dict[str, Any] = self.table.slice(self.places[item_key], 1).to_pylist()[0]
        return row


def _of_published(published: Published) -> _Earlier:
    table = pa.concat_tables(list(manifest.read(published, "items")))
    return _Earlier(published.run_id, table, _steps(published), is_published=True)


def _of_parts(output_uri: str, run_id: int) -> _Earlier:
    """The finished rows of a run that was never published; the parts of one run have one schema."""
    parts = list(manifest.read_parts(manifest.run_uri(output_uri, run_id)))
    table = pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})
    steps = max(map(step_of, table.column_names), default=1)
    return _Earlier(run_id, table, steps, is_published=False)


def _steps(published: Published) -> int:
    return max(1, len((published.facts.get("recipe") or {}).get("steps") or ()))


# --- item by item


@dataclass(frozen=True)
class _Item:
    """A planned row, how far its work is done already, and the run that it goes on from (None: from none)."""

    row: dict[str, Any]
    done: float
    run_id: int | None = None


DONE = float("inf")


def _against_all(graph: Graph, row: Row, earlier: Sequence[_Earlier], limits_changed: bool) -> _Item:
    """Plan an item from whichever run did most of what it needs; the first of equals."""
    if row["status"] != OK:  # the table's row itself is at fault: nothing to render, and no node ran
        return _Item({**row, "node_keys": {}, "plan": KEEP}, DONE)
    keyed = {**row, "node_keys": graph.node_keys(row)}
    options = [_against(graph, keyed, one, limits_changed) for one in earlier if row["item_key"] in one.places]
    best = max(options, key=lambda item: item.done, default=_Item({**keyed, "plan": RENDER}, 0))
    if best.row["plan"] == KEEP:
        return best
    return replace(best, row={**best.row, "attempts": max((item.row["attempts"] for item in options), default=0)})


def _against(graph: Graph, row: dict[str, Any], one: _Earlier, limits_changed: bool) -> _Item:
    """Plan an item that an earlier run knows: keep what it made, go on from a node, or begin again."""
    outcome = one.outcomes[one.places[row["item_key"]]]
    # What `read` refused may be a reference or a scene, which count in later nodes' keys: compare them all.
    stopped = outcome["node"] if outcome["status"] in (FAILED, REJECTED) and outcome["node"] != "read" else None
    changed = first_change(dict(outcome["node_keys"] or ()), row["node_keys"], stopped)
    if outcome["status"] == FAILED:
        # Under which limits a run that was never published read, nobody has written down.
        if changed is None and _stays_failed(outcome, limits_changed or not one.is_published):
            return _kept(row, one)
        # What stands in a failed row beside its reason may be another night's: nothing of it is gone on with.
        attempts = outcome["attempts"] + 1 if changed is None else 0
        return _Item({**row, "attempts": attempts, "plan": RENDER}, 0, one.run_id)
    known = one.row(row["item_key"])
    if changed is None and outcome["status"] == PENDING:
        changed = "judge" if known["variant_scores"] else graph.first  # it never got to what these keys promise
    if changed is None:
        return _kept(row, one)
    start = graph.start_for(changed)
    if start == graph.first:
        return _Item({**row, "plan": RENDER}, 0, one.run_id)
    position = [node.name for node in graph.nodes].index(start)
    return _Item({**row, **_carried(graph, known, start), "start_at": start, "plan": RENDER}, position, one.run_id)


def _kept(row: Row, one: _Earlier) -> _Item:
    today = {name: row[name] for name in (*CATALOGUE_COLUMNS, "node_keys") if name != "start_at"}
    return _Item({**one.row(row["item_key"]), **today, "plan": KEEP}, DONE, one.run_id)


def _stays_failed(outcome: Mapping[str, Any], limits_changed: bool) -> bool:
    """Whether an item that failed, and of which nothing changed, is left as it is."""
    word = outcome["reason"]
    if word not in REASONS:  # another version's word: see what this one makes of the item
        return False
    if word == "unexpected":
        return bool(outcome["attempts"] + 1 >= ATTEMPTS_AT_THE_UNEXPECTED)
    if limits_changed and word in LIMITED:
        return False
    return REASONS[word].kind == "permanent"


def _carried(graph: Graph, known: Mapping[str, Any], start: str) -> dict[str, Any]:
    """What the nodes before `start` made, and the stored crops where it begins behind the painter."""
    names = {"crop_uris"} if start in CROPS_ARE_FETCHED else set()
    for node in graph.nodes:
        if node.name == start:
            break
        names |= set(node.adds)
    return {name: known[name] for name in names if name in known}


# --- all items together


def _chosen(
    graph: Graph, items: Sequence[_Item], published: _Earlier | None, limit: int | None
) -> list[dict[str, Any]]:
    """The rows to render, those that were pending before first, then those to keep and those left for another night."""
    waited: set[str] = set()
    if published:
        waited = {key for key, place in published.places.items() if published.outcomes[place]["status"] == PENDING}
    to_render = [item.row for item in items if item.row["plan"] == RENDER]
    to_render.sort(key=lambda row: row["item_key"] not in waited)
    kept = [item.row for item in items if item.row["plan"] == KEEP]
    most = len(to_render) if limit is None else limit
    return [*to_render[:most], *kept, *(_postponed(graph, row, published) for row in to_render[most:])]


def _postponed(graph: Graph, row: Row, published: _Earlier | None) -> dict[str, Any]:
    """An item left for another night: it keeps last night's columns and keys, if it has any."""
    if published is None or row["item_key"] not in published.places:
        bare = {name: row[name] for name in graph.catalogue_columns if name != "start_at"}
        return {**bare, "node_keys": {}, "attempts": row["attempts"], "status": PENDING, "plan": KEEP}
    known = published.row(row["item_key"])
    # Beside a failure may stand an earlier night's picture, which is not what its keys promise.
    keys = {} if known["status"] == FAILED else known["node_keys"]
    seen = _under_todays_names(graph, known, published.steps)
    return {**seen, "node_keys": keys, "status": PENDING, "plan": KEEP}


def _under_todays_names(graph: Graph, known: Row, steps: int) -> dict[str, Any]:
    """An earlier night's row under this graph's columns: what its last step made stands at the last step."""
    seen = as_seen_by(known, steps)
    last = max(node.step for node in graph.nodes)
    return {
        name: seen.get(plain(name)) if step_of(name) == last else known.get(name)
        for name in graph.manifest_schema().names
    }


def _start_again_where_expired(graph: Graph, planned: Sequence[dict[str, Any]], output_uri: str) -> list[str]:
    """Send items whose stored crops are gone back to where they are painted, and say how many."""
    waiting = [row for row in planned if row["plan"] == RENDER and row.get("start_at") in CROPS_ARE_FETCHED]
    wanted = {uri for row in waiting for uri in row["crop_uris"] or ()}
    there = _there(wanted, output_uri) if wanted else set()
    gone = [row for row in waiting if not set(row["crop_uris"] or ()) <= there]
    start = graph.start_for("mask")
    for row in gone:
        row["start_at"], row["crop_uris"] = None if start == graph.first else start, None
    return [f"{len(gone)} items are painted again: crops that the judge needs have expired"] if gone else []


def _there(uris: set[str], output_uri: str) -> set[str]:
    """Those of the stored crops that are there still."""
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
