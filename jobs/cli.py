"""`packshot`: one function a command.

Exit codes: 0 published, or nothing to do; 1 a person is needed, also for a bug, which shows its traceback; 2 usage or
infrastructure; 3 stopped early and published in part.

Each command imports what it needs when it runs, so that `packshot --help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.console import AsJson, err, out, plainly, show
from jobs.embedded import evaluate_app, train_app
from pipelines.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.night.options import Night
    from pipelines.night.run import Outcome
    from pipelines.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Re-render product catalogues.",
)
recipe_app = typer.Typer(no_args_is_help=True, help="Check a recipe, or print the schema for an editor.")
app.add_typer(recipe_app, name="recipe")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")

CatalogueUri = Annotated[
    str, typer.Argument(help="A product table (.parquet, .csv, .jsonl) or a prefix of pictures; s3:// or a path.")
]
RecipeName = Annotated[str, typer.Option("--recipe", help="A ready recipe's name, or a YAML file.")]
OutputUri = Annotated[str, typer.Option("--output", help="Where runs and pictures go; s3:// or a path.")]
PlacementName = Annotated[str, typer.Option("--placement", help="local (two processes) or gpu (a pool a group).")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most N items; a render leaves others pending.")]
AllowEmbedded = Annotated[
    bool, typer.Option("--allow-embedded", help="Let the embedded models loose on a foreign catalogue.")
]


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        out.print(f"packshot {version('packshot')}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and leave.")
    ] = False,
) -> None:
    """Log to the standard error, a line an event."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for chatty in ("httpx", "botocore", "boto3", "urllib3", "matplotlib", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@app.command()
@plainly
def plan(
    catalogue: CatalogueUri,
    recipe: RecipeName,
    output: OutputUri,
    limit: Limit = None,
    allow_embedded: AllowEmbedded = False,
    placement: PlacementName = "local",
    as_json: AsJson = False,
) -> None:
    """Show what tonight's run would do; write nothing."""
    from pipelines.night.run import preview

    made, forecast = preview(_night(catalogue, recipe, output, limit, allow_embedded, placement))
    counts = made.counts()
    facts = {"run_id": made.run_id, "counts": counts, "notes": list(made.notes), **asdict(forecast)}
    counted = ", ".join(f"{n} {what}" for what, n in counts.items())
    foretold = forecast.sentences() if counts["render"] else ()
    show(facts, as_json, "\n".join([*made.notes, f"run {made.run_id}: {counted}", *foretold]))


@app.command()
@plainly
def render(
    catalogue: CatalogueUri,
    recipe: RecipeName,
    output: OutputUri,
    limit: Limit = None,
    allow_embedded: AllowEmbedded = False,
    placement: PlacementName = "local",
    as_json: AsJson = False,
    max_failed: Annotated[
        float, typer.Option(min=0, max=1, help="More failed rows than this share: exit code 1.")
    ] = 0.02,
    max_unexpected: Annotated[
        int, typer.Option(min=0, help="More rows that broke unexpectedly (and more than 0.1 % of them) stop the run.")
    ] = 10,
    allow_vanished: Annotated[
        float,
        typer.Option(min=0, max=1, help="More items gone than this share, and than one: no run, exit code 1."),
    ] = 0.05,
) -> None:
    """Render a catalogue: plan, run on Ray, verify, publish."""
    from pipelines.night.run import render as render_night

    night = replace(
        _night(catalogue, recipe, output, limit, allow_embedded, placement),
        max_failed=max_failed,
        max_unexpected=max_unexpected,
        allow_vanished=allow_vanished,
    )
    outcome = render_night(night, _ray)
    facts = {name: getattr(outcome, name) for name in ("run_id", "run_uri", "counts", "notes")}
    show(facts, as_json, _sentence(outcome))
    raise typer.Exit(outcome.exit_code)


def _night(catalogue: str, recipe: str, output: str, limit: int | None, allow_embedded: bool, placement: str) -> Night:
    from pipelines.executors.placement import named
    from pipelines.night.options import Night
    from pipelines.recipe import load

    return Night(catalogue, output, load(recipe), named(placement), limit, allow_embedded)


def _sentence(outcome: Outcome) -> str:
    from pipelines.night.manifest import equation

    if outcome.run_id is None:
        return "; ".join(outcome.notes)
    published = f"run {outcome.run_id} is published: {equation(outcome.counts)}"
    return "\n".join([*outcome.notes, published, outcome.run_uri])


@app.command()
@plainly
def report(
    output: Annotated[str, typer.Argument(help="The --output of a render.")],
    html: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("report.html"),
    run_id: Annotated[int | None, typer.Option("--run", help="The run's number; the newest if not given.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=300, help="Show at most so many items.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Write the page that an operator reads in the morning."""
    from pipelines.night import manifest
    from pipelines.report import summary, write_report

    published = manifest.newest(output) if run_id is None else manifest.open_run(output, run_id)
    if published is None:
        raise ConfigError(f"there is no published run under {output}; render one first")
    if as_json:
        show(summary(published), as_json, "")
    else:
        path = write_report(published, html, max_items=limit)
        show({}, as_json, f"report of run {published.run_id}: {path.resolve()}")


@app.command()
@plainly
def diff(
    output: Annotated[str, typer.Argument(help="The --output of renders.")],
    before: Annotated[int | None, typer.Argument(help="A run's number; that before the newest if not given.")] = None,
    after: Annotated[int | None, typer.Argument(help="Another run's number; the newest if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show which items came, went, or have another status or other pictures since an earlier run."""
    from pipelines.night.diff import difference, runs_to_compare

    old, new = runs_to_compare(output, before, after)
    found = difference(old, new)
    lines = [f"{what:<24}{len(keys):>8,}  {_few(keys)}".rstrip() for what, keys in found.lines()]
    facts = {"before": old.run_id, "after": new.run_id, **asdict(found)}
    show(facts, as_json, "\n".join([f"run {old.run_id} -> run {new.run_id}", *lines]))


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5:,} more" if len(keys) > 5 else "")


@app.command("try")
@plainly
def try_one(
    photo: Annotated[Path, typer.Argument(help="One picture.")],
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="What to do to it: a ready recipe's name, or a YAML file; `replace` if none."),
    ] = None,
    find: Annotated[str | None, typer.Option(help="What to look for in it.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What to paint.")] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="In place of --find, a picture of the same size: white (or transparent) may change. That is the "
            "product, but what lies round it for the recipes studio, background and place."
        ),
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="In place of --find: left,top,right,bottom of the product, pixels.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, what the product's table would say, such as colour=red; several times."),
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="The model set; `embedded` knows drawn scenes only. The recipe's if not given.")
    ] = None,
    negative: Annotated[str | None, typer.Option(help="What to keep away from.")] = None,
    variants: Annotated[int | None, typer.Option(min=1, max=16, help="Candidates.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Another number gives other candidates.")] = None,
    folder: Annotated[Path, typer.Option("--output", help="Where to write.")] = Path("try"),
    as_json: AsJson = False,
) -> None:
    """Render one picture here and now: no Ray, no S3, no YAML."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries draw a bar a file of weights
    from jobs.try_one import try_picture
    from jobs.try_one.options import EMBEDDED, recipe_of, uses_embedded, where_of
    from pipelines.recipe import DEFAULT_RECIPE

    where = where_of(mask, box)
    asked = recipe_of(
        recipe or DEFAULT_RECIPE, models, {"find": find, "paint": prompt, "negative": negative}, variants, seed
    )
    with_embedded = uses_embedded(asked, where)
    if with_embedded and models != "embedded":
        raise ConfigError(f"{EMBEDDED}; to see what they make of this picture, say `--models embedded`")
    if with_embedded:
        err.print(f"note: {EMBEDDED}", markup=False, highlight=False, soft_wrap=True)
    facts, text = try_picture(photo, asked, folder, where, _columns(column or []))
    show(facts, as_json, text)
    raise typer.Exit(0 if facts["status"] == "ok" else 1)


def _columns(given: list[str]) -> dict[str, str]:
    wrong = [one for one in given if not one.partition("=")[0].strip() or "=" not in one]
    if wrong:
        raise ConfigError(f"`--column` is {wrong[0]!r}; expected NAME=VALUE, such as colour=red")
    return {name.strip(): value for name, _, value in (one.partition("=") for one in given)}


@app.command()
@plainly
def doctor(
    catalogue: Annotated[str | None, typer.Option(help="A catalogue to read.")] = None,
    output: Annotated[str | None, typer.Option(help="An output to write to; a small file is put and removed.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Whose weights to look for; `replace`'s if none.")
    ] = None,
    placement: PlacementName = "local",
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Check what a render would need: weights, storage, devices."""
    from jobs.doctor import as_text, examine
    from pipelines.recipe import DEFAULT_RECIPE, load

    findings = examine(load(recipe or DEFAULT_RECIPE), placement, catalogue, output, limit)
    show({"findings": [vars(finding) for finding in findings]}, as_json, as_text(findings))
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 2)


@app.command()
@plainly
def serve(
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", help="What may be asked for, several times; `replace` if none.")
    ] = None,
    placement: PlacementName = "local",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
) -> None:
    """Answer single requests with the same graph: POST /v1/renders, GET /health."""
    from pipelines.recipe import DEFAULT_RECIPE
    from serve.run import run

    run(recipe or [DEFAULT_RECIPE], placement, host, port)


@app.command()
@plainly
def demo(folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo")) -> None:
    """Render the sample catalogue the way a nightly job goes: S3, a Ray head, `ray job submit`, the report."""
    from jobs.demo import run_demo

    raise typer.Exit(run_demo(folder))


@recipe_app.command("check")
@plainly
def recipe_check(
    file: Annotated[str, typer.Argument(help="A YAML file, or a ready recipe's name.")],
    catalogue: Annotated[str | None, typer.Option(help="Also check its templates against this catalogue.")] = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a recipe can be used, with every default filled in; 2 if its weights cannot be loaded here."""
    from jobs.doctor import as_text, unusable
    from pipelines import recipe as recipes
    from pipelines.catalogue import product_rows

    recipe = recipes.load(file)
    _warn_of_unknown_words(recipe)
    if catalogue is not None:
        product_rows(catalogue, recipe, limit)
    findings = unusable(recipe)
    verdict = "# this recipe can be used" if not findings else "# this recipe is sound; its weights cannot be used here"
    show(recipe.model_dump(mode="json"), as_json, recipes.dump(recipe) + verdict)
    if findings:
        err.print(as_text(findings), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2)


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from pipelines.recipe import json_schema

    out.print_json(data=json_schema())


def _ray() -> Any:
    """A Ray to run on: the job's cluster inside `ray job submit`, else one on this machine."""
    import ray

    from pipelines.executors.placement import LOCAL_CPUS

    if "RAY_ADDRESS" in os.environ:
        return ray.init(log_to_driver=False)
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default workers give way to everything else here
    cpus = max(LOCAL_CPUS, os.cpu_count() or 0)
    return ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)


def _warn_of_unknown_words(recipe: Recipe) -> None:
    from pipelines.executors.words import warning

    paint = [_without_columns(template) for template in recipe.prompts.paint]
    if told := warning(recipe, [_without_columns(recipe.prompts.find)], paint):
        err.print(f"warning: {told}", markup=False, highlight=False, soft_wrap=True)


def _without_columns(template: str) -> str:
    from pipelines.recipe.templates import template_columns

    for column in template_columns(template):
        template = template.replace(f"{{{column}}}", "")
    return template


if __name__ == "__main__":
    app()
