"""One night: plan -> run -> verify -> publish."""

from __future__ import annotations

import io
import logging
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import catalogue, lease, manifest, plan, storage
from pipelines.catalogue import Products
from pipelines.errors import ConfigError, InfrastructureError
from pipelines.executors.worker import DEFAULT_MAX_UNEXPECTED
from pipelines.graph import Graph, build
from pipelines.lease import Lease
from pipelines.models import words
from pipelines.models.loading import weights_hash
from pipelines.placement import LOCAL, Placement
from pipelines.plan import KEEP, RENDER, Forecast, Plan
from pipelines.recipe import Recipe
from pipelines.rows import FAILED, OK, PENDING, REJECTED, Row
from pipelines.stages.deliver import Store

logger = logging.getLogger(__name__)

ROWS_A_FILE = 20_000
LIBRARIES = ("packshot", "ray", "torch", "diffusers", "transformers", "segment-anything", "pyarrow", "pillow", "numpy")


@dataclass(frozen=True)
class Night:
    """What is asked for: a catalogue, a recipe, where results go, and how far a run may go wrong."""

    catalogue_uri: str
    output_uri: str
    recipe: Recipe
    placement: Placement = LOCAL
    limit: int | None = None
    allow_embedded: bool = False
    max_unexpected: int = DEFAULT_MAX_UNEXPECTED
    max_failed: float = 0.02


@dataclass(frozen=True)
class Outcome:
    """What became of a night.

    `exit_code` is 0 published or nothing to do, 1 published but a person is needed, 3 published in part. Without a run
    of its own, since there was nothing to do, `run_id` is None.
    """

    exit_code: int
    run_id: int | None
    run_uri: str
    counts: dict[str, int]
    notes: tuple[str, ...] = field(default=())


def make_plan(night: Night) -> Plan:
    """What the night would do; writes nothing.

    Raises:
        ConfigError: the catalogue or the recipe cannot be used, or embedded models meet a foreign catalogue.
        InfrastructureError: storage or weights are not there.
    """
    return _plan(night, catalogue.products(night.catalogue_uri, night.recipe))


def preview(night: Night) -> tuple[Plan, Forecast]:
    """As `make_plan`, and what the items to render will take; writes nothing and starts no Ray."""
    products = catalogue.products(night.catalogue_uri, night.recipe)
    made = _plan(night, products)
    return made, plan.forecast(made, products.listed, manifest.newest(night.output_uri), night.placement)


def _plan(night: Night, products: Products) -> Plan:
    if night.recipe.uses_embedded() and not (products.is_sample or night.allow_embedded):
        raise ConfigError(
            f"recipe {night.recipe.name!r} uses the embedded models, which know the sample catalogue's world alone, "
            f"and {night.catalogue_uri} is another catalogue; name checkpoints of your own (`models: own`), or say "
            "`--allow-embedded` to see what they make of it"
        )
    graph = _graph(night)
    asked = {"catalogue": night.catalogue_uri, "limit": night.limit, "recipe": night.recipe.model_dump(mode="json")}
    last = manifest.newest(night.output_uri)
    limits_changed = last is not None and last.facts["recipe"]["read"] != night.recipe.read.model_dump(mode="json")
    made = plan.make(graph, products.rows, night.output_uri, plan.digest(graph, asked), limits_changed, night.limit)
    return replace(made, notes=(*made.notes, *_unknown_words(night.recipe, products.rows)))


def _unknown_words(recipe: Recipe, rows: list[Row]) -> tuple[str, ...]:
    find = {row["find_prompt"] for row in rows if row["find_prompt"]}
    paint = {prompt for row in rows for prompt in row["paint_prompts"] or ()}
    return words.warnings(recipe, find, paint)


def render(night: Night, connect: Callable[[], object] | None = None) -> Outcome:
    """Do a night's work: plan it, or take an unfinished one up again, run it on Ray, verify, publish.

    Args:
        night: what is asked for.
        connect: starts or joins a Ray; called only if there is something to render and no Ray is there.

    Raises:
        ConfigError, InfrastructureError: before or while it runs; nothing is published.
        TooManyUnexpected: more rows than `max_unexpected` broke; nothing is published.
    """
    started = time.time()
    made = make_plan(night)
    if not len(made.rows(RENDER)) and not _anything_else_changed(made, night):
        return Outcome(0, None, "", made.counts(), ("nothing to do: the newest run is this catalogue already",))
    made = plan.commit(made)
    with lease.held(made.run_uri) as held:
        planned = time.time()
        _run(night, made, connect)
        rendered = time.time()
        facts = publish(night, made, {"plan": planned - started, "run": rendered - planned}, held)
    counts = facts["counts"]
    too_many = counts[FAILED] > night.max_failed * counts["planned"]
    exit_code = 1 if too_many else 3 if counts[PENDING] else 0
    return Outcome(exit_code, made.run_id, made.run_uri, counts, made.notes)


def _graph(night: Night) -> Graph:
    return build(night.recipe, Store(night.output_uri))


def _anything_else_changed(made: Plan, night: Night) -> bool:
    """Whether items came, went or changed their values although none has to be rendered; then a new run says so."""
    if made.resumed:
        return True
    last = manifest.newest(night.output_uri)
    if last is None:
        return True
    # `seconds` and `node_keys` are what the last run wrote; what the catalogue says is compared.
    columns = ["item_key", "columns", "status"]
    before = pa.concat_tables(list(manifest.read(last, "items", columns))).select(columns).to_pylist()
    after = made.table.select(columns).to_pylist()
    return sorted(map(str, before)) != sorted(map(str, after))


def _run(night: Night, made: Plan, connect: Callable[[], object] | None) -> None:
    # ray is imported here, so that planning and `packshot try` need none of it.
    import ray

    from pipelines import progress
    from pipelines.executors import data

    to_render = made.rows(RENDER)
    if not len(to_render):
        return
    if not ray.is_initialized():
        if connect is None:
            raise InfrastructureError("Ray is not started; call `ray.init` before a night is rendered")
        connect()
    rows_uri = storage.join(made.run_uri, "render.parquet")
    storage.write(rows_uri, manifest.to_parquet(to_render))
    graph = _graph(night)
    ledger = data.Ledger.remote(len(to_render), [node.name for node in graph.nodes])  # type: ignore[attr-defined]  # ray adds it
    with progress.watch(lambda: ray.get(ledger.snapshot.remote()), sys.stderr):
        data.run(
            graph,
            night.placement,
            rows_uri,
            storage.join(made.run_uri, "parts"),
            storage.join(made.run_uri, "checkpoint"),
            ledger,
            night.max_unexpected,
        )


def publish(night: Night, made: Plan, seconds: dict[str, float], held: Lease) -> dict[str, Any]:
    """Verify the parts against the plan, write the manifest's tables, and put `run.json` last.

    Raises:
        InfrastructureError: rows are missing, the counts do not add up, or the lease lapsed, so that another process
            may be publishing; nothing is published.
    """
    started = time.time()
    held.check()
    _verify(made)
    graph = _graph(night)
    recipe = night.recipe.model_dump(mode="json")
    checkpoints = [
        {"node": node, "uri": checkpoint.uri, "revision": checkpoint.revision, "sha256": weights_hash(checkpoint)}
        for node, checkpoint in night.recipe.checkpoints().items()
    ]
    files, counts, reasons, totals = [], Counter[str](), Counter[str](), Counter[str]()
    duplicates = Counter[str]()
    rendered_seconds: Counter[str] = Counter()
    for number, table in enumerate(_files(made, graph.manifest_schema(), duplicates, rendered_seconds)):
        images = manifest.images_table(table, recipe, checkpoints)
        held.check()
        files += [
            manifest.write_file(made.run_uri, f"items/{number:05d}.parquet", manifest.items_table(table)),
            manifest.write_file(made.run_uri, f"images/{number:05d}.parquet", images),
        ]
        counts.update(table["status"].to_pylist())
        reasons.update(reason for reason in table["reason"].to_pylist() if reason)
        totals.update({"painted": len(images), "kept": images["kept"].to_pylist().count(True)})
        totals["changed_outside"] += pa.compute.sum(images["changed_outside"]).as_py() or 0
    planned = len(made.table)
    equation = {status: counts[status] for status in (OK, REJECTED, FAILED, PENDING)}
    if sum(equation.values()) != planned:
        raise InfrastructureError(f"{planned} items were planned and {equation} came out; nothing is published")
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
            KEEP: len(made.rows(KEEP)),
            "rendered": len(made.rows(RENDER)),
            **duplicates,
        },
        "reasons": dict(reasons),
        "variants": dict(totals),
        "node_seconds": dict(rendered_seconds),
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


def _verify(made: Plan) -> None:
    wanted = set(made.rows(RENDER)["item_key"].to_pylist())
    came = {key for table in _parts(made, ["item_key"]) for key in table["item_key"].to_pylist()}
    if wanted != came:
        raise InfrastructureError(
            f"{len(wanted - came)} of {len(wanted)} rows are missing from {made.run_uri}/parts, {len(came - wanted)} "
            "are there that were not planned; nothing is published; the same command takes the run up again"
        )


def _parts(made: Plan, columns: list[str] | None = None) -> Iterator[pa.Table]:
    folder = storage.join(made.run_uri, "parts")
    for file in storage.list_files(folder, missing_ok=True):
        if file.uri.endswith(".parquet"):
            data = storage.read(file.uri, file.version)
            yield pq.read_table(io.BytesIO(data), columns=columns, page_checksum_verification=True)


def _files(
    made: Plan, schema: pa.Schema, duplicates: Counter[str], rendered_seconds: Counter[str]
) -> Iterator[pa.Table]:
    """Kept-over rows and parts as tables of at most `ROWS_A_FILE` rows; a key's second copy is dropped and counted."""
    seen: set[str] = set()
    waiting: list[pa.Table] = []

    def full() -> bool:
        return sum(len(table) for table in waiting) >= ROWS_A_FILE

    for is_part, table in chain([(False, made.rows(KEEP))], ((True, part) for part in _parts(made))):
        keys = table["item_key"].to_pylist()
        fresh = [place for place, key in enumerate(keys) if key not in seen and not seen.add(key)]  # type: ignore[func-returns-value]  # add answers None
        duplicates["duplicates"] += len(keys) - len(fresh)
        table = table.take(pa.array(fresh, pa.int64())).select(schema.names).cast(schema)
        if is_part:
            for pairs in table["seconds"].to_pylist():
                rendered_seconds.update(dict(pairs or []))
        for start in range(0, len(table), ROWS_A_FILE):
            waiting.append(table.slice(start, ROWS_A_FILE))
            if full():
                yield pa.concat_tables(waiting)
                waiting.clear()
    if waiting:
        yield pa.concat_tables(waiting)
