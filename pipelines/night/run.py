"""One night: plan -> run -> verify -> publish."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import pyarrow as pa

from pipelines import catalogue, storage
from pipelines.errors import ConfigError, InfrastructureError, TooManyVanished
from pipelines.executors import words
from pipelines.night import lease, manifest, plan
from pipelines.night.compare import RENDER
from pipelines.night.forecast import Forecast, forecast
from pipelines.night.lease import Lease, Owned
from pipelines.night.options import Night
from pipelines.night.plan import Plan
from pipelines.night.publish import publish
from pipelines.recipe import Recipe
from pipelines.rows import FAILED, PENDING, Row

Execute = Callable[[Night, Plan, Lease], None]
"""Renders a plan's rows into `parts/` of its run; the lease tells it when to stop."""


@dataclass(frozen=True)
class Outcome:
    """What became of a night.

    `exit_code` is 0 (published, or nothing to do), 1 (a person is needed: too many items are failed) or 3 (published in
    part). `run_id` is None if there was nothing to do.
    """

    exit_code: int
    run_id: int | None
    run_uri: str
    counts: dict[str, int]
    notes: tuple[str, ...] = field(default=())


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
        if _waited_for_unfinished(night, made):
            continue  # by now there is more to take over, or nothing left to do
        if not len(made.rows(RENDER)) and not _anything_else_changed(made):
            return _nothing_to_do(night, made)
        if question := _vanished_question(night, made):
            raise TooManyVanished(question)
        try:
            with _owned(made) as (owned, held):
                return _run_and_publish(night, owned, held, started, execute or partial(_on_ray, connect=connect))
        except Owned:  # by a process that does the very same work: once it is done or dead, see what is left
            lease.wait_for_the_dead(made.run_uri)


def _run_and_publish(night: Night, made: Plan, held: Lease, started: float, execute: Execute) -> Outcome:
    plan.put(made)
    planned = time.time()
    if len(made.rows(RENDER)):
        execute(night, made, held)
    seconds = {"plan": planned - started, "run": time.time() - planned}
    counts = publish(night, made, seconds, held)["counts"]
    notes = (*made.notes, *_too_many_failed(night, counts, counts[FAILED]))
    return Outcome(_exit_code(night, counts, counts[FAILED]), made.run_id, made.run_uri, counts, notes)


# --- plan


def make_plan(night: Night) -> Plan:
    """Compare today's catalogue with earlier runs and say what the night would do; writes nothing.

    Raises:
        ConfigError: the catalogue or the recipe cannot be used, embedded models meet a foreign catalogue, or the output
            cannot be where it is asked for.
        InfrastructureError: storage or weights do not answer.
    """
    _check_places(night)
    return _plan(night, catalogue.products(night.catalogue_uri, night.recipe))


def preview(night: Night) -> tuple[Plan, Forecast]:
    """`make_plan`, and what the items to render will take; writes nothing and starts no Ray."""
    _check_places(night)
    products = catalogue.products(night.catalogue_uri, night.recipe)
    made = _plan(night, products)
    node_s = made.runs.newest.facts.get("node_s", {}) if made.runs.newest else {}
    question = _vanished_question(night, made)
    made = replace(made, notes=(*made.notes, *([f"render will refuse this: {question}"] if question else [])))
    return made, forecast(made, night.graph(), products.listed, node_s, night.placement)


def _plan(night: Night, products: catalogue.Products) -> Plan:
    if night.recipe.uses_embedded() and not (products.is_sample or night.allow_embedded):
        raise ConfigError(
            f"recipe {night.recipe.name!r} uses the embedded models, which know the sample catalogue's world alone, "
            f"and {night.catalogue_uri} is another catalogue; name checkpoints of your own (`models: own`), or say "
            "`--allow-embedded` to see what they make of it"
        )
    graph, runs = night.graph(), manifest.runs(night.output_uri)
    last = runs.newest
    limits_changed = last is not None and last.facts["recipe"]["read"] != night.recipe.read.model_dump(mode="json")
    digest = plan.digest_of(graph, night.catalogue_uri, products.rows)
    made = plan.make(graph, products.rows, night.output_uri, digest, runs, limits_changed, night.limit)
    return replace(made, notes=(*made.notes, *_unknown_words(night.recipe, products.rows)))


def _check_places(night: Night) -> None:
    output, source = night.output_uri, night.catalogue_uri
    if "?" in output:
        raise ConfigError(f"the output {output!r} has a `?`, at which Ray cuts paths off; choose another name")
    if catalogue.is_table(source):
        return
    if storage.is_below(output, storage.absolute(source)):
        raise ConfigError(
            f"the output {output} lies in the catalogue {source}, so every night would take the pictures of the one "
            "before for new items; choose an output outside it"
        )


def _unknown_words(recipe: Recipe, rows: list[Row]) -> tuple[str, ...]:
    find = {row["find_prompt"] for row in rows if row["find_prompt"]}
    paint = {prompt for row in rows for prompt in row["paint_prompts"] or ()}
    return (told,) if (told := words.warning(recipe, find, paint)) else ()


def _vanished_question(night: Night, made: Plan) -> str | None:
    """The question to a person before so many items leave the manifest; None if they may go without asking."""
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


def _anything_else_changed(made: Plan) -> bool:
    """Whether items came, went or changed their values although none has to be rendered; a new run then says so."""
    last = made.runs.newest
    if last is None or made.adopted:
        return True
    # `seconds` and `node_keys` are what the last run wrote; what the catalogue says is compared.
    columns = ["item_key", "columns", "status"]
    before = pa.concat_tables(list(manifest.read(last, "items", columns))).select(columns).to_pylist()
    after = made.table.select(columns).to_pylist()
    return sorted(map(str, before)) != sorted(map(str, after))


# --- run


def _waited_for_unfinished(night: Night, made: Plan) -> bool:
    """Wait until nobody works on the unfinished runs any more; whether there was anybody to wait for."""
    unfinished = [manifest.run_uri(night.output_uri, number) for number in made.runs.unfinished]
    return any(lease.wait_for_the_dead(uri) for uri in unfinished)


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
    graph = night.graph()
    run_state = data.RunState.remote(len(to_render), [node.name for node in graph.nodes])  # type: ignore[attr-defined]  # ray adds it
    held.on_lapse = lambda error: ray.get(run_state.stop.remote(error))
    with progress.watch(lambda: ray.get(run_state.snapshot.remote()), sys.stderr):
        data.run(
            graph,
            night.placement,
            rows_uri,
            storage.join(made.run_uri, "parts"),
            run_state,
            night.unexpected_allowed(len(to_render)),
        )


# --- the outcome


def _nothing_to_do(night: Night, made: Plan) -> Outcome:
    counts, failed = made.counts(), made.table["status"].to_pylist().count(FAILED)
    notes = ("nothing to do: the newest run is this catalogue already", *_too_many_failed(night, counts, failed))
    return Outcome(_exit_code(night, counts, failed), None, "", counts, notes)


def _exit_code(night: Night, counts: dict[str, int], failed: int) -> int:
    return 1 if failed > night.max_failed * counts["planned"] else 3 if counts[PENDING] else 0


def _too_many_failed(night: Night, counts: dict[str, int], failed: int) -> tuple[str, ...]:
    if failed <= night.max_failed * counts["planned"]:
        return ()
    return (
        f"exit code 1: {failed:,} of {counts['planned']:,} items stand as failed, more than `--max-failed` "
        f"{night.max_failed:g}; `packshot report {night.output_uri}` shows which, why, and what to do",
    )
