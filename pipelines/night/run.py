"""One night: plan -> run -> verify -> publish."""

from __future__ import annotations

import logging
import math
import platform
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from statistics import fmean
from typing import Any

import pyarrow as pa

from pipelines import catalogue, storage
from pipelines.catalogue import Products
from pipelines.catalogue.tables import is_table
from pipelines.errors import ConfigError, InfrastructureError, TooManyVanished
from pipelines.executors.placement import LOCAL, Placement
from pipelines.executors.worker import DEFAULT_MAX_UNEXPECTED
from pipelines.graph import Graph, build
from pipelines.models import words
from pipelines.models.loading import weights_hash
from pipelines.night import lease, manifest, plan
from pipelines.night.lease import Lease, Owned
from pipelines.night.plan import KEEP, RENDER, Forecast, Plan
from pipelines.recipe import Recipe
from pipelines.rows import FAILED, OK, PENDING, REJECTED, Row, to_table
from pipelines.storage import Store

logger = logging.getLogger(__name__)

ROWS_A_FILE = 20_000
LIBRARIES = ("packshot", "ray", "torch", "diffusers", "transformers", "segment-anything", "pyarrow", "pillow", "numpy")


@dataclass(frozen=True)
class Night:
    """What is asked for: a catalogue, a recipe, where results go, and how far a run may go wrong.

    A local `output_uri` is made absolute, so that what is recorded does not hang on the folder that a program runs in.
    A run stops when more rows broke unexpectedly than `max_unexpected` and than `max_unexpected_share` of what is to be
    rendered; more failed rows than the share `max_failed` need a person; more vanished items than `allow_vanished` (a
    share of what the newest run holds, rounded up to whole items) are a question and not a night.
    """

    catalogue_uri: str
    output_uri: str
    recipe: Recipe
    placement: Placement = LOCAL
    limit: int | None = None
    allow_embedded: bool = False
    max_unexpected: int = DEFAULT_MAX_UNEXPECTED
    max_unexpected_share: float = 0.001
    max_failed: float = 0.02
    allow_vanished: float = 0.05

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_uri", storage.absolute(self.output_uri))

    def unexpected_allowed(self, rows: int) -> int:
        """How many of so many rows to render may break unexpectedly."""
        return max(self.max_unexpected, int(self.max_unexpected_share * rows))


@dataclass(frozen=True)
class Outcome:
    """What became of a night.

    `exit_code` is 0 published or nothing to do, 1 a person is needed, since too many rows are failed, 3 published in
    part. Without a run of its own, since there was nothing to do, `run_id` is None.
    """

    exit_code: int
    run_id: int | None
    run_uri: str
    counts: dict[str, int]
    notes: tuple[str, ...] = field(default=())


def make_plan(night: Night) -> Plan:
    """What the night would do; writes nothing.

    Raises:
        ConfigError: the catalogue or the recipe cannot be used, embedded models meet a foreign catalogue, or the output
            cannot be where it is asked for.
        InfrastructureError: storage or weights are not there.
    """
    _check_places(night)
    return _plan(night, catalogue.products(night.catalogue_uri, night.recipe))


def preview(night: Night) -> tuple[Plan, Forecast]:
    """As `make_plan`, and what the items to render will take; writes nothing and starts no Ray."""
    _check_places(night)
    products = catalogue.products(night.catalogue_uri, night.recipe)
    made = _plan(night, products)
    node_s = made.runs.newest.facts.get("node_s", {}) if made.runs.newest else {}
    question = _vanished_question(night, made)
    made = replace(made, notes=(*made.notes, *([f"render will refuse this: {question}"] if question else [])))
    return made, plan.forecast(made, _graph(night), products.listed, node_s, night.placement)


def _plan(night: Night, products: Products) -> Plan:
    if night.recipe.uses_embedded() and not (products.is_sample or night.allow_embedded):
        raise ConfigError(
            f"recipe {night.recipe.name!r} uses the embedded models, which know the sample catalogue's world alone, "
            f"and {night.catalogue_uri} is another catalogue; name checkpoints of your own (`models: own`), or say "
            "`--allow-embedded` to see what they make of it"
        )
    graph, runs = _graph(night), manifest.runs(night.output_uri)
    last = runs.newest
    limits_changed = last is not None and last.facts["recipe"]["read"] != night.recipe.read.model_dump(mode="json")
    digest = plan.digest(graph, night.catalogue_uri, products.rows)
    made = plan.make(graph, products.rows, night.output_uri, digest, limits_changed, night.limit, runs)
    return replace(made, notes=(*made.notes, *_unknown_words(night.recipe, products.rows)))


def _check_places(night: Night) -> None:
    output, source = night.output_uri, night.catalogue_uri
    if "?" in output:
        raise ConfigError(f"the output {output!r} has a `?`, at which Ray cuts paths off; choose another name")
    if is_table(source):
        return
    if storage.is_below(output, storage.absolute(source)):
        raise ConfigError(
            f"the output {output} lies in the catalogue {source}, so every night would take the pictures of the one "
            "before for new items; choose an output outside it"
        )


def _unknown_words(recipe: Recipe, rows: list[Row]) -> tuple[str, ...]:
    find = {row["find_prompt"] for row in rows if row["find_prompt"]}
    paint = {prompt for row in rows for prompt in row["paint_prompts"] or ()}
    return words.warnings(recipe, find, paint)


Execute = Callable[[Night, Plan, Lease], None]
"""Renders a plan's rows into `parts/` of its run; the lease tells it when to stop."""


def render(night: Night, connect: Callable[[], object] | None = None, execute: Execute | None = None) -> Outcome:
    """Do a night's work: plan it, run what no earlier run did, verify, publish.

    Args:
        night: what is asked for.
        connect: starts or joins a Ray; called only if there is something to render and no Ray is there.
        execute: renders the plan's rows; on Ray if not given.

    Raises:
        ConfigError, InfrastructureError: before or while it runs; nothing is published.
        TooManyUnexpected, TooManyVanished: a person has to look; nothing is published.
    """
    while True:
        started = time.time()
        made = make_plan(night)
        unfinished = [manifest.run_uri(night.output_uri, number) for number in made.runs.unfinished]
        if any(lease.wait_for_the_dead(uri) for uri in unfinished):
            continue  # by now there is more to take over, or nothing left to do
        if not len(made.rows(RENDER)) and not _anything_else_changed(made):
            counts, failed = made.counts(), _failed(made)
            notes = (
                "nothing to do: the newest run is this catalogue already",
                *_too_many_failed(night, counts, failed),
            )
            return Outcome(_exit_code(night, counts, failed), None, "", counts, notes)
        if question := _vanished_question(night, made):
            raise TooManyVanished(question)
        try:
            with _owned(made) as (made, held):
                return _do(night, made, held, started, execute or partial(_on_ray, connect=connect))
        except Owned:  # by a process that does the very same work: once it is done or dead, see what is left
            lease.wait_for_the_dead(made.run_uri)


def _do(night: Night, made: Plan, held: Lease, started: float, execute: Execute) -> Outcome:
    plan.put(made)
    planned = time.time()
    if len(made.rows(RENDER)):
        execute(night, made, held)
    rendered = time.time()
    facts = publish(night, made, {"plan": planned - started, "run": rendered - planned}, held)
    counts = facts["counts"]
    notes = (*made.notes, *_too_many_failed(night, counts, counts[FAILED]))
    return Outcome(_exit_code(night, counts, counts[FAILED]), made.run_id, made.run_uri, counts, notes)


@contextmanager
def _owned(made: Plan) -> Iterator[tuple[Plan, Lease]]:
    """Own the plan's run, or the next one that no other process owns.

    Raises:
        Owned: another process took that number for work of the same digest.
    """
    while True:
        try:
            with lease.held(made.run_uri, made.digest) as held:
                yield made, held
                return
        except Owned as rival:
            if rival.digest == made.digest:
                raise
            made = made.as_run(made.run_id + 1)


def _exit_code(night: Night, counts: dict[str, int], failed: int) -> int:
    return 1 if failed > night.max_failed * counts["planned"] else 3 if counts[PENDING] else 0


def _too_many_failed(night: Night, counts: dict[str, int], failed: int) -> tuple[str, ...]:
    if failed <= night.max_failed * counts["planned"]:
        return ()
    return (
        f"exit code 1: {failed:,} of {counts['planned']:,} items stand as failed, more than `--max-failed` "
        f"{night.max_failed:g}; `packshot report {night.output_uri}` shows which, why, and what to do",
    )


def _failed(made: Plan) -> int:
    return int(made.table["status"].to_pylist().count(FAILED))


def _vanished_question(night: Night, made: Plan) -> str | None:
    """What a person is asked before so many items leave; None if they may go without a question."""
    if not made.vanished or made.runs.newest is None:
        return None
    before = made.runs.newest.facts["counts"]["planned"]
    allowed = math.ceil(night.allow_vanished * before)
    if len(made.vanished) <= allowed:
        return None
    return (
        f"{len(made.vanished):,} of the {before:,} items of run {made.runs.newest.run_id} are not in "
        f"{night.catalogue_uri} ({plan.named(made.vanished)}); `--allow-vanished` {night.allow_vanished:g} lets "
        f"{allowed:,} go without asking, so nothing is rendered or published. Is it a whole export of the same "
        "catalogue? If they are to leave, say `--allow-vanished 1`"
    )


def _graph(night: Night) -> Graph:
    return build(night.recipe, Store(night.output_uri))


def _anything_else_changed(made: Plan) -> bool:
    """Whether items came, went or changed their values although none has to be rendered; then a new run says so."""
    last = made.runs.newest
    if last is None or made.adopted:
        return True
    # `seconds` and `node_keys` are what the last run wrote; what the catalogue says is compared.
    columns = ["item_key", "columns", "status"]
    before = pa.concat_tables(list(manifest.read(last, "items", columns))).select(columns).to_pylist()
    after = made.table.select(columns).to_pylist()
    return sorted(map(str, before)) != sorted(map(str, after))


def _on_ray(night: Night, made: Plan, held: Lease, connect: Callable[[], object] | None) -> None:
    # ray is imported here, so that planning and `packshot try` need none of it.
    import ray

    from pipelines.executors import data, progress

    if not ray.is_initialized():
        if connect is None:
            raise InfrastructureError("Ray is not started; call `ray.init` before a night is rendered")
        connect()
    to_render = made.rows(RENDER)
    rows_uri = storage.join(made.run_uri, "render.parquet")
    storage.write(rows_uri, manifest.to_parquet(to_render))
    graph = _graph(night)
    ledger = data.Ledger.remote(len(to_render), [node.name for node in graph.nodes])  # type: ignore[attr-defined]  # ray adds it
    held.on_lapse = lambda error: ray.get(ledger.stop.remote(error))
    with progress.watch(lambda: ray.get(ledger.snapshot.remote()), sys.stderr):
        data.run(
            graph,
            night.placement,
            rows_uri,
            storage.join(made.run_uri, "parts"),
            ledger,
            night.unexpected_allowed(len(to_render)),
        )


def publish(night: Night, made: Plan, seconds: dict[str, float], held: Lease) -> dict[str, Any]:
    """Verify the parts against the plan, write the manifest's tables, and put `run.json` last.

    Raises:
        InfrastructureError: rows are missing, the counts do not add up, the run is published already, or the lease
            lapsed, so that another process may be doing the same work; nothing is published.
    """
    started = time.time()
    held.check()
    if storage.exists(storage.join(made.run_uri, "run.json")):
        raise InfrastructureError(f"run {made.run_id} is published already; it is not written over")
    failed, graph = _verify(made), _graph(night)
    last = plan.results_of(made.runs.newest, failed, graph) if made.runs.newest and failed else {}
    recipe = night.recipe.model_dump(mode="json")
    checkpoints = [
        {"node": node, "uri": checkpoint.uri, "revision": checkpoint.revision, "sha256": weights_hash(checkpoint)}
        for node, checkpoint in night.recipe.checkpoints().items()
    ]
    files, counts, reasons, totals = [], Counter[str](), Counter[str](), Counter[str]()
    duplicates = Counter[str]()
    rendered_s: defaultdict[str, list[float]] = defaultdict(list)
    for number, table in enumerate(_files(made, graph.manifest_schema(), duplicates, rendered_s)):
        table = _with_pictures(table, last)
        images = manifest.images_table(table, recipe, checkpoints)
        held.check()
        files += [
            manifest.write_file(made.run_uri, f"items/{number:05d}.parquet", manifest.items_table(table)),
            manifest.write_file(made.run_uri, f"images/{number:05d}.parquet", images),
        ]
        statuses = table["status"].to_pylist()
        counts.update(statuses)
        told = zip(statuses, table["reason"].to_pylist(), strict=True)
        reasons.update(reason for status, reason in told if status in (REJECTED, FAILED))
        totals.update({"painted": len(images), "kept": images["kept"].to_pylist().count(True)})
        totals["changed_outside"] += pa.compute.sum(images["changed_outside"]).as_py() or 0
    planned = len(made.table)
    equation = {status: counts[status] for status in (OK, REJECTED, FAILED, PENDING)}
    if sum(equation.values()) != planned:
        raise InfrastructureError(f"{planned} items were planned and {equation} came out; nothing is published")
    as_planned = made.counts()
    before = made.runs.newest.facts if made.runs.newest else {}
    facts = {
        "run_id": made.run_id,
        "catalogue": night.catalogue_uri,
        "limit": night.limit,
        "recipe": recipe,
        "checkpoints": checkpoints,
        "sample_world_only": night.recipe.uses_embedded(),
        "counts": {
            "planned": planned,
            **equation,
            KEEP: as_planned[KEEP],
            "rendered": as_planned[RENDER],
            "adopted": made.adopted,
            "vanished": len(made.vanished),
            **duplicates,
        },
        "reasons": dict(reasons),
        "variants": dict(totals),
        "node_seconds": {node: sum(each) for node, each in rendered_s.items()},
        # Of a node that did not run tonight, what it took when it last did.
        "node_s": {**before.get("node_s", {}), **{node: fmean(each) for node, each in rendered_s.items()}},
        "seconds": {**seconds, "publish": time.time() - started},
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "files": files,
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "notes": list(made.notes),
    }
    held.check()
    if not manifest.publish(made.run_uri, facts):
        raise InfrastructureError(f"another process published run {made.run_id} in the meantime; open that one")
    logger.info("run %d is published at %s: %s", made.run_id, made.run_uri, equation)
    return facts


def _verify(made: Plan) -> set[str]:
    """Compare the parts with the plan, and answer the keys of all rows that stand as failed."""
    wanted = set(made.rows(RENDER)["item_key"].to_pylist())
    statuses: dict[str, str] = {}
    for table in manifest.read_parts(made.run_uri, ["item_key", "status"]):
        statuses |= dict(zip(table["item_key"].to_pylist(), table["status"].to_pylist(), strict=True))
    if wanted != statuses.keys():
        missing, unplanned = wanted - statuses.keys(), statuses.keys() - wanted
        raise InfrastructureError(
            f"{len(missing)} of {len(wanted)} rows are missing from {made.run_uri}/parts, {len(unplanned)} "
            "are there that were not planned; nothing is published; the same command renders what is missing and takes "
            "over the rest"
        )
    kept = made.rows(KEEP)
    statuses |= dict(zip(kept["item_key"].to_pylist(), kept["status"].to_pylist(), strict=True))
    return {key for key, status in statuses.items() if status == FAILED}


def _with_pictures(table: pa.Table, last: dict[str, dict[str, Any]]) -> pa.Table:
    """Failed rows without a picture get what the newest published run shows of their items.

    One hiccup must not take a product's pictures off the shop; why it failed stands in the row.
    """
    told = zip(table["item_key"].to_pylist(), table["status"].to_pylist(), table["image_uris"].to_pylist(), strict=True)
    bare = [
        place
        for place, (key, status, uris) in enumerate(told)
        if status == FAILED and key in last and not any(uris or ())
    ]
    if not bare:
        return table
    rows = [{**row, **last[row["item_key"]]} for row in table.take(pa.array(bare)).to_pylist()]
    others = sorted(set(range(len(table))) - set(bare))
    return pa.concat_tables([table.take(pa.array(others, pa.int64())), to_table(rows, table.schema)])


def _files(
    made: Plan, schema: pa.Schema, duplicates: Counter[str], rendered_s: defaultdict[str, list[float]]
) -> Iterator[pa.Table]:
    """Kept-over rows and parts as tables of at most `ROWS_A_FILE` rows; a key's second copy is dropped and counted."""
    seen: set[str] = set()
    waiting: list[pa.Table] = []

    def full() -> bool:
        return sum(len(table) for table in waiting) >= ROWS_A_FILE

    for is_part, table in chain(
        [(False, made.rows(KEEP))], ((True, part) for part in manifest.read_parts(made.run_uri))
    ):
        keys = table["item_key"].to_pylist()
        fresh = [place for place, key in enumerate(keys) if key not in seen and not seen.add(key)]  # type: ignore[func-returns-value]  # add answers None
        duplicates["duplicates"] += len(keys) - len(fresh)
        table = table.take(pa.array(fresh, pa.int64())).select(schema.names).cast(schema)
        if is_part:
            for node, seconds in chain.from_iterable(pairs or () for pairs in table["seconds"].to_pylist()):
                rendered_s[node].append(seconds)
        for start in range(0, len(table), ROWS_A_FILE):
            waiting.append(table.slice(start, ROWS_A_FILE))
            if full():
                yield pa.concat_tables(waiting)
                waiting.clear()
    if waiting:
        yield pa.concat_tables(waiting)
