"""Publish a run: verify -> write the tables -> count -> put `run.json`, which makes all of it visible at once.

Before `run.json` is there, readers see nothing of a run; if anything is wrong, it is never put.
"""

from __future__ import annotations

import logging
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import storage
from pipelines.errors import InfrastructureError
from pipelines.models.checkpoints import weights_hash
from pipelines.night import earlier, manifest
from pipelines.night.compare import KEEP, RENDER
from pipelines.night.lease import Lease
from pipelines.night.options import Night
from pipelines.night.plan import Plan
from pipelines.recipe import Recipe
from pipelines.rows import FAILED, REJECTED, to_table

logger = logging.getLogger(__name__)

ROWS_A_FILE = 20_000
LIBRARIES = ("packshot", "ray", "torch", "diffusers", "transformers", "segment-anything", "pyarrow", "pillow", "numpy")


def publish(night: Night, plan: Plan, seconds: Mapping[str, float], lease: Lease) -> dict[str, Any]:
    """Verify the parts against the plan, write the manifest's tables, and put `run.json` last.

    Args:
        night: what was asked for.
        plan: what was to be done.
        seconds: how long the steps before this one took, by their names.
        lease: this process's hold on the run; checked before each file.

    Returns:
        What `run.json` says.

    Raises:
        InfrastructureError: rows are missing, the counts do not add up, the run is published already, or the lease
            lapsed, so that another process may be doing the same work; nothing is published.
    """
    started = time.time()
    lease.check()
    _check_unpublished(plan)
    failed = _verify(plan)
    tally, files = _write_tables(night, plan, failed, lease)
    tally.check(planned=len(plan.table))
    facts = _facts(night, plan, tally, files) | {"seconds": {**seconds, "publish": time.time() - started}}
    lease.check()
    if not manifest.publish(plan.run_uri, facts):
        raise InfrastructureError(f"another process published run {plan.run_id} in the meantime; open that one")
    logger.info("run %d is published at %s: %s", plan.run_id, plan.run_uri, manifest.equation(facts["counts"]))
    return facts


# --- verify


def _check_unpublished(plan: Plan) -> None:
    if storage.exists(storage.join(plan.run_uri, "run.json")):
        raise InfrastructureError(f"run {plan.run_id} is published already; it is not written over")


def _verify(plan: Plan) -> set[str]:
    """Compare the parts with the plan; return the keys of all items that are failed, rendered or kept."""
    wanted = set(plan.rows(RENDER)["item_key"].to_pylist())
    statuses = _statuses(manifest.read_parts(plan.run_uri, ["item_key", "status"]))
    if wanted != statuses.keys():
        missing, unplanned = wanted - statuses.keys(), statuses.keys() - wanted
        raise InfrastructureError(
            f"{len(missing)} of {len(wanted)} rows are missing from {plan.run_uri}/parts, {len(unplanned)} "
            "are there that were not planned; nothing is published; the same command renders what is missing and takes "
            "over the rest"
        )
    statuses |= _statuses([plan.rows(KEEP)])
    return {key for key, status in statuses.items() if status == FAILED}


def _statuses(tables: Iterable[pa.Table]) -> dict[str, str]:
    """Each item's status by its key."""
    pairs = (zip(table["item_key"].to_pylist(), table["status"].to_pylist(), strict=True) for table in tables)
    return dict(chain.from_iterable(pairs))


# --- write the tables


@dataclass
class _Tally:
    """What the published rows add up to; filled while they are written."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    variants: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    node_seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, items: pa.Table, images: pa.Table) -> None:
        """Count the rows of a file of each table."""
        statuses = items["status"].to_pylist()
        self.statuses.update(statuses)
        reasons = zip(statuses, items["reason"].to_pylist(), strict=True)
        self.reasons.update(reason for status, reason in reasons if status in (REJECTED, FAILED))
        self.variants.update(
            painted=len(images),
            kept=images["kept"].to_pylist().count(True),
            changed_outside=pc.sum(images["changed_outside"]).as_py() or 0,
        )

    def add_seconds(self, rendered: pa.Table) -> None:
        """Collect what each node took an item, from rows that were rendered tonight."""
        for node, seconds in chain.from_iterable(pairs or () for pairs in rendered["seconds"].to_pylist()):
            self.node_seconds[node].append(seconds)

    def check(self, planned: int) -> None:
        """Refuse to publish unless planned = ok + rejected + failed + pending.

        Raises:
            InfrastructureError: it is not so.
        """
        came_out = {status: self.statuses[status] for status in manifest.STATUSES}
        if sum(came_out.values()) != planned:
            raise InfrastructureError(f"{planned} items were planned and {came_out} came out; nothing is published")


def _write_tables(night: Night, plan: Plan, failed: set[str], lease: Lease) -> tuple[_Tally, list[dict[str, Any]]]:
    """Write `items` and `images`, each a file for every `ROWS_A_FILE` items; returns what `run.json` says of them."""
    graph, newest = night.graph(), plan.runs.newest
    last_pictures = earlier.results_of(newest, failed, graph) if newest and failed else {}
    recipe, checkpoints = night.recipe.model_dump(mode="json"), _checkpoints(night.recipe)
    tally, files = _Tally(), []
    for number, rows in enumerate(_in_files(_each_item_once(plan, graph.manifest_schema(), tally))):
        items = _with_last_pictures(rows, last_pictures)
        images = manifest.images_table(items, recipe, checkpoints)
        lease.check()
        files += [
            manifest.write_file(plan.run_uri, f"items/{number:05d}.parquet", manifest.items_table(items)),
            manifest.write_file(plan.run_uri, f"images/{number:05d}.parquet", images),
        ]
        tally.add(items, images)
    return tally, files


def _each_item_once(plan: Plan, schema: pa.Schema, tally: _Tally) -> Iterator[pa.Table]:
    """The kept rows and then the parts, with the manifest's columns; a key's second copy is dropped and counted."""
    seen: set[str] = set()
    rendered = ((True, part) for part in manifest.read_parts(plan.run_uri))
    for is_rendered, table in chain([(False, plan.rows(KEEP))], rendered):
        fresh = _places_of_new(table["item_key"].to_pylist(), seen)
        tally.duplicates += len(table) - len(fresh)
        table = table.take(pa.array(fresh, pa.int64())).select(schema.names).cast(schema)
        if is_rendered:
            tally.add_seconds(table)
        yield table


def _places_of_new(keys: Iterable[str], seen: set[str]) -> list[int]:
    """Where keys stand that were not seen before; adds them to `seen`."""
    places = []
    for place, key in enumerate(keys):
        if key not in seen:
            seen.add(key)
            places.append(place)
    return places


def _in_files(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows as tables of `ROWS_A_FILE` rows, the last one of what is left."""
    waiting: list[pa.Table] = []
    free = ROWS_A_FILE
    for table in tables:
        while len(table):
            waiting.append(table.slice(0, free))
            table = table.slice(free)
            free -= len(waiting[-1])
            if not free:
                yield pa.concat_tables(waiting)
                waiting, free = [], ROWS_A_FILE
    if waiting:
        yield pa.concat_tables(waiting)


def _with_last_pictures(table: pa.Table, last: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """The table, in which failed items without a picture have what the newest published run holds of them.

    One failure must not take a product's pictures off the shop; its reason stays in the row.
    """
    facts = zip(
        table["item_key"].to_pylist(), table["status"].to_pylist(), table["image_uris"].to_pylist(), strict=True
    )
    bare = [
        place
        for place, (key, status, uris) in enumerate(facts)
        if status == FAILED and key in last and not any(uris or ())
    ]
    if not bare:
        return table
    rows = [{**row, **last[row["item_key"]]} for row in table.take(pa.array(bare)).to_pylist()]
    others = sorted(set(range(len(table))) - set(bare))
    return pa.concat_tables([table.take(pa.array(others, pa.int64())), to_table(rows, table.schema)])


# --- what `run.json` says


def _checkpoints(recipe: Recipe) -> list[dict[str, Any]]:
    return [
        {"node": node, "uri": checkpoint.uri, "revision": checkpoint.revision, "sha256": weights_hash(checkpoint)}
        for node, checkpoint in recipe.checkpoints().items()
    ]


def _facts(night: Night, plan: Plan, tally: _Tally, files: list[dict[str, Any]]) -> dict[str, Any]:
    before = plan.runs.newest.facts if plan.runs.newest else {}
    return {
        "run_id": plan.run_id,
        "catalogue": night.catalogue_uri,
        "limit": night.limit,
        "recipe": night.recipe.model_dump(mode="json"),
        "checkpoints": _checkpoints(night.recipe),
        "sample_world_only": night.recipe.uses_embedded(),
        "counts": _counts(plan, tally),
        "reasons": dict(tally.reasons),
        "variants": dict(tally.variants),
        "node_seconds": {node: sum(each) for node, each in tally.node_seconds.items()},
        # Of a node that did not run tonight, what it took when it last did.
        "node_s": {**before.get("node_s", {}), **{node: fmean(each) for node, each in tally.node_seconds.items()}},
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": files,
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "notes": list(plan.notes),
    }


def _counts(plan: Plan, tally: _Tally) -> dict[str, int]:
    as_planned = plan.counts()
    return {
        "planned": as_planned["planned"],
        **{status: tally.statuses[status] for status in manifest.STATUSES},
        KEEP: as_planned[KEEP],
        "rendered": as_planned[RENDER],
        "adopted": plan.adopted,
        "vanished": len(plan.vanished),
        "duplicates": tally.duplicates,
    }
