"""What tonight's run has to do: today's catalogue compared, item by item, with the newest published run."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import manifest, storage
from pipelines.graph import Graph, first_change
from pipelines.manifest import Published
from pipelines.placement import CPUS_BESIDE_THE_GROUPS, Placement, needs
from pipelines.rows import CATALOGUE_COLUMNS, FAILED, OK, PENDING, REASONS, Row, to_table

KEEP, RENDER = "keep", "render"
DIGEST = b"packshot_digest"


@dataclass(frozen=True)
class Forecast:
    """What a plan's items to render will take, as far as that is known beforehand; None is unknown.

    There is no cost: no price is configured anywhere.

    Attributes:
        bytes_to_read: pictures, masks and references, by the catalogue's listings, each as often as an item names it.
        not_listed: so many of them no listing shows; they are not in the bytes.
        expected_s: seconds, if an item takes as long as in the newest published run.
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
        size, time = "unknown, since no listing shows the pictures", "unknown, since no newest run rendered anything"
        if self.bytes_to_read is not None:
            unlisted = f"; files that no listing shows, not counted: {self.not_listed:,}" if self.not_listed else ""
            size = f"{self.bytes_to_read / 1e6:,.1f} MB{unlisted}"
        if self.expected_s is not None:
            time = f"about {timedelta(seconds=round(self.expected_s))} (h:mm:ss), an item as in the newest run"
        return (
            f"to read: {size}",
            f"time: {time}",
            f"the placement asks for {self.cpus:g} CPUs ({CPUS_BESIDE_THE_GROUPS} of them for Ray's own reads and "
            f"writes) and {self.gpus:g} GPUs at once; a cluster that has fewer is refused, since the run would hang",
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """One row for every item, `plan` saying keep or render; `notes` are sentences for people."""

    run_id: int
    run_uri: str
    table: pa.Table
    digest: str
    notes: tuple[str, ...] = ()
    resumed: bool = False

    def rows(self, what: str) -> pa.Table:
        """The rows to keep, or those to render, without the `plan` column."""
        chosen = self.table.filter(pa.compute.equal(self.table["plan"], what))
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


def digest(graph: Graph, settings: Mapping[str, Any]) -> str:
    """What makes two plans the same: nodes with their weights, and everything else that was asked for."""
    asked = [[node.fingerprint() for node in graph.nodes], settings]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def make(
    graph: Graph,
    rows: list[Row],
    output_uri: str,
    digest: str,
    limits_changed: bool = False,
    limit: int | None = None,
) -> Plan:
    """Take an unfinished run of the same digest up again, or plan a new one; writes nothing.

    Args:
        graph: the recipe's.
        rows: today's catalogue.
        output_uri: where runs are.
        digest: see `digest`.
        limits_changed: `read`'s limits differ from the last run's: what was too large then is tried again.
        limit: at most so many items are rendered; the others are pending and keep what they have.
    """
    known = manifest.runs(output_uri)
    newest_id = max(known, default=0)
    notes = []
    if newest_id and "run.json" not in known[newest_id] and "plan.parquet" in known[newest_id]:
        unfinished = load(newest_id, manifest.run_uri(output_uri, newest_id))
        if unfinished.digest == digest:
            return unfinished
        notes.append(
            f"run {newest_id} was left unfinished with another recipe or other weights; it is not taken up again"
        )
    last = manifest.newest(output_uri)
    table, more = _compare(graph, rows, last, output_uri, limits_changed, limit)
    run_id = newest_id + 1
    return Plan(run_id, manifest.run_uri(output_uri, run_id), table, digest, (*notes, *more))


def forecast(made: Plan, listed: Mapping[str, storage.File], last: Published | None, placement: Placement) -> Forecast:
    """What a plan will take.

    Args:
        made: the plan.
        listed: the catalogue's files by URI.
        last: the newest published run.
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
        expected_s=_expected_s(len(to_render), last),
        cpus=cpus,
        gpus=gpus,
    )


def _expected_s(items: int, last: Published | None) -> float | None:
    rendered = last.facts["counts"]["rendered"] if last else 0
    return round(items * last.facts["seconds"]["run"] / rendered, 1) if last and rendered else None


def commit(plan: Plan) -> Plan:
    """Put the plan if absent; who loses the race reads the winner's."""
    if plan.resumed:
        return plan
    table = plan.table.replace_schema_metadata({DIGEST: plan.digest.encode()})
    if storage.write(storage.join(plan.run_uri, "plan.parquet"), manifest.to_parquet(table), if_absent=True):
        return plan
    return load(plan.run_id, plan.run_uri)


def load(run_id: int, run_uri: str) -> Plan:
    """A plan that was put before."""
    table = pq.read_table(io.BytesIO(storage.read(storage.join(run_uri, "plan.parquet"))))
    digest = (table.schema.metadata or {}).get(DIGEST, b"").decode()
    return Plan(run_id, run_uri, table, digest, (f"run {run_id} is taken up where it stopped",), resumed=True)


def _compare(
    graph: Graph, rows: list[Row], last: Published | None, output_uri: str, limits_changed: bool, limit: int | None
) -> tuple[pa.Table, list[str]]:
    old = pa.concat_tables(list(manifest.read(last, "items"))) if last else None
    places = {key: place for place, key in enumerate(old["item_key"].to_pylist())} if old is not None else {}
    outcomes = _outcomes(old)
    planned: list[dict[str, Any]] = []
    rendered = 0
    for row in rows:
        keyed = {**row, "node_keys": graph.node_keys(row)}
        if row["status"] != OK:  # the table's row itself is at fault: nothing to render
            planned.append({**keyed, "plan": KEEP})
        elif row["item_key"] not in places:
            planned.append({**keyed, "plan": RENDER})
        else:
            assert old is not None
            place = places[row["item_key"]]
            planned.append(_against(graph, keyed, outcomes[place], old, place, limits_changed))
        rendered += planned[-1]["plan"] == RENDER
        if limit is not None and planned[-1]["plan"] == RENDER and rendered > limit:
            planned[-1] = _postponed(row, old, places)
    notes = _start_again_where_expired(planned, output_uri)
    return to_table(planned, pa.schema([*graph.manifest_schema(), pa.field("plan", pa.string())])), notes


def _postponed(row: Row, old: pa.Table | None, places: Mapping[str, int]) -> dict[str, Any]:
    """An item left for another night: it keeps last night's columns and keys, if it has any."""
    known = (
        old.slice(places[row["item_key"]], 1).to_pylist()[0] if old is not None and row["item_key"] in places else row
    )
    return {**known, "status": PENDING, "plan": KEEP}


def _outcomes(old: pa.Table | None) -> list[dict[str, Any]]:
    columns = ["status", "reason", "node", "attempts", "node_keys"]
    return [] if old is None else old.select(columns).to_pylist()


def _against(
    graph: Graph, row: dict[str, Any], outcome: Mapping[str, Any], old: pa.Table, place: int, limits_changed: bool
) -> dict[str, Any]:
    """Plan an item that the last run knows."""
    if outcome["status"] == FAILED:
        again = REASONS[outcome["reason"]].kind == "transient"
        if again or (limits_changed and outcome["reason"] in ("too_many_bytes", "too_many_pixels")):
            return {**row, "attempts": outcome["attempts"] + 1, "plan": RENDER}
    stopped_at = graph.first if outcome["node"] == "read" else outcome["node"]
    changed = first_change(dict(outcome["node_keys"]), row["node_keys"], stopped_at)
    known = old.slice(place, 1).to_pylist()[0]
    if changed is None and outcome["status"] == PENDING:
        changed = "judge" if known["variant_scores"] else graph.first  # it never got to what these keys promise
    if changed is None:
        today = {name: row[name] for name in CATALOGUE_COLUMNS if name != "start_at"}
        return {**known, **today, "node_keys": row["node_keys"], "plan": KEEP}
    start = graph.start_for(changed)
    return {**row, **_carried(graph, known, start), "start_at": None if start == graph.first else start, "plan": RENDER}


def _carried(graph: Graph, known: Mapping[str, Any], start: str) -> dict[str, Any]:
    """What the nodes before `start` made, and the stored crops where it begins behind the painter."""
    names = {"crop_uris"} if start in ("score", "judge") else set()
    for node in graph.nodes:
        if node.name == start:
            break
        names |= set(node.adds)
    return {name: known[name] for name in names if name in known}


def _start_again_where_expired(planned: list[dict[str, Any]], output_uri: str) -> list[str]:
    """Send items whose stored crops are gone back to mask, and say how many."""
    waiting = [row for row in planned if row["plan"] == RENDER and row.get("start_at") in ("score", "judge")]
    if not waiting:
        return []
    there = set(_stored(output_uri))
    gone = [row for row in waiting if not set(row["crop_uris"] or []) <= there]
    for row in gone:
        row["start_at"], row["crop_uris"] = "mask", None
    return [f"{len(gone)} items are painted again: crops that the judge needs have expired"] if gone else []


def _stored(output_uri: str) -> Iterable[str]:
    for folder in ("crops", "variants"):
        files = storage.list_files(storage.join(output_uri, folder), missing_ok=True)
        yield from (file.uri for file in files)
