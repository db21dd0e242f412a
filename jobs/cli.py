"""`packshot`: one function a command.

Exit codes: 0 published, or nothing to do; 1 a person is needed, also for a bug, which shows its traceback; 2 usage or
infrastructure; 3 stopped early and published in part.

Each command imports what it needs when it runs, so that `packshot --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from jobs import outside
from pipelines.errors import ConfigError, NeedsAPerson, PackshotError

if TYPE_CHECKING:
    from pipelines.night.run import Night
    from pipelines.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Re-render product catalogues.",
)
recipe_app = typer.Typer(no_args_is_help=True, help="Check a recipe, or print the schema for an editor.")
train_app = typer.Typer(no_args_is_help=True, help="Train the models that ship with the package.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure the models that ship with the package.")
app.add_typer(recipe_app, name="recipe")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
out = Console()
err = Console(stderr=True)

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
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object in place of text.")]


@dataclass(frozen=True)
class Asked:
    """What every command about a night takes."""

    catalogue: CatalogueUri
    recipe: RecipeName
    output: OutputUri
    limit: Limit = None
    allow_embedded: AllowEmbedded = False
    placement: PlacementName = "local"
    as_json: AsJson = False

    def night(self, **tolerance: Any) -> Night:
        """The night that is asked for; `tolerance` is how far it may go wrong."""
        from pipelines.executors.placement import named
        from pipelines.night.run import Night
        from pipelines.recipe import load

        return Night(
            self.catalogue,
            self.output,
            load(self.recipe),
            named(self.placement),
            self.limit,
            self.allow_embedded,
            **tolerance,
        )


def about_a_night(command: Callable[..., None]) -> Callable[..., None]:
    """Put the arguments and options of `Asked` before a command's own; it gets them as its first argument."""
    asked = signature(Asked, eval_str=True).parameters
    _, *own = signature(command, eval_str=True).parameters.values()

    def run(**given: Any) -> None:
        command(Asked(**{name: given.pop(name) for name in asked}), **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = Signature([*asked.values(), *own])  # type: ignore[attr-defined]  # what typer looks at
    return run


def plainly(command: Callable[..., None]) -> Callable[..., None]:
    """Turn our own errors, and those of what we stand on, into a plain message and an exit code.

    Any other is a bug, keeps its traceback and leaves with Python's own 1: a person is needed.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except NeedsAPerson as error:
            err.print(f"stopped: {error}", markup=False, highlight=False)
            raise typer.Exit(1) from None
        except PackshotError as error:
            err.print(f"error: {error}", markup=False, highlight=False)
            raise typer.Exit(2) from None
        except Exception as error:
            told = outside.sentence(error)
            if told is None:
                raise
            where = outside.keep_traceback(error)
            err.print(f"error: {told}\n{where}", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None

    return run


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
@about_a_night
def plan(asked: Asked) -> None:
    """Show what tonight's run would do; write nothing."""
    from pipelines.night.run import preview

    made, forecast = preview(asked.night())
    counts = made.counts()
    facts = {"run_id": made.run_id, "counts": counts, "notes": list(made.notes), **asdict(forecast)}
    counted = ", ".join(f"{n} {what}" for what, n in counts.items())
    foretold = forecast.sentences() if counts["render"] else ()
    _show(facts, asked.as_json, "\n".join([*made.notes, f"run {made.run_id}: {counted}", *foretold]))


@app.command()
@plainly
@about_a_night
def render(
    asked: Asked,
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

    outcome = render_night(
        asked.night(max_failed=max_failed, max_unexpected=max_unexpected, allow_vanished=allow_vanished), _ray
    )
    facts = {
        "run_id": outcome.run_id,
        "run_uri": outcome.run_uri,
        "counts": outcome.counts,
        "notes": list(outcome.notes),
    }
    _show(facts, asked.as_json, _sentence(outcome.run_id, outcome.run_uri, outcome.counts, outcome.notes))
    raise typer.Exit(outcome.exit_code)


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
        _show(summary(published), as_json, "")
    else:
        path = write_report(published, html, max_items=limit)
        _show({}, as_json, f"report of run {published.run_id}: {path.resolve()}")


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
    from jobs.try_one import EMBEDDED, recipe_of, try_picture, uses_embedded, where_of
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
    _show(facts, as_json, text)
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
    _show({"findings": [vars(finding) for finding in findings]}, as_json, as_text(findings))
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
    _show(recipe.model_dump(mode="json"), as_json, recipes.dump(recipe) + verdict)
    if findings:
        err.print(as_text(findings), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2)


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from pipelines.recipe import json_schema

    out.print_json(data=json_schema())


@train_app.command("embedded")
@plainly
def train_embedded(
    part: Annotated[str, typer.Argument(help="detector, segmenter, encoder, vae, painter, judge or all.")] = "all",
    work: Annotated[
        Path, typer.Option(help="Where examples, checkpoints and curves lie; an interrupted training goes on.")
    ] = Path("training"),
    minutes: Annotated[float | None, typer.Option(help="Time for each part; its own default if not given.")] = None,
) -> None:
    """Train the embedded models on rendered sample scenes, and put them into the package."""
    from sample_world.training.embedded import DEFAULT_MINUTES, train

    if part not in (*DEFAULT_MINUTES, "all"):
        raise ConfigError(f"there is no part {part!r} to train; known: {', '.join(DEFAULT_MINUTES)}, all")
    train([part], work, minutes)


@evaluate_app.command("embedded")
@plainly
def evaluate_embedded(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            exists=True,
            file_okay=False,
            help="A folder of such models; those of the package if not given.",
        ),
    ] = None,
    scenes: Annotated[
        int, typer.Option(min=1, help="Held-out scenes; a fifth as many pictures a painting task.")
    ] = 500,
    sheet: Annotated[Path | None, typer.Option(help="Also write 64 repaints, as they come, into this PNG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the embedded models on drawn scenes that no training has seen, beside the bars; 0 whatever they are."""
    from sample_world.evaluation.bars import as_facts, as_table
    from sample_world.evaluation.embedded import BARS, evaluate

    measured = evaluate(folder, scenes, sheet)
    if as_json:
        _show(as_facts(measured.figures, BARS, measured.notes), as_json, "")
    else:
        out.print(as_table(measured.figures, BARS, measured.notes))


@evaluate_app.command("tasks")
@plainly
def evaluate_tasks(
    recipe: Annotated[list[str] | None, typer.Argument(help="Ready recipes; all if none is named.")] = None,
    scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes, shared out over the recipes.")] = 200,
    sheets: Annotated[Path | None, typer.Option(help="A folder for a contact sheet a recipe.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what every ready recipe does on drawn scenes that no training has seen; 0 whatever the figures are."""
    from sample_world.evaluation import paste_backs
    from sample_world.evaluation.bars import as_facts, as_table
    from sample_world.evaluation.tasks import BARS, evaluate

    measured = evaluate(scenes, recipe or (), sheets)
    if as_json:
        facts = as_facts(measured.figures, BARS, measured.notes)
        _show({**facts, "paste_backs": paste_backs.as_facts(measured.paste_backs)}, as_json, "")
    else:
        out.print(as_table(measured.figures, BARS, measured.notes))
        if measured.paste_backs:
            out.print(paste_backs.as_table({"as found": measured.paste_backs}))


@evaluate_app.command("masks")
@plainly
def evaluate_masks(
    scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Measure finding by text and by reference, and the edges of cut-outs, on drawn scenes; 0 whatever they are."""
    from sample_world.evaluation.bars import as_facts, as_table
    from sample_world.evaluation.masks import BARS, evaluate

    figures = evaluate(scenes)
    if as_json:
        _show(as_facts(figures, BARS, ()), as_json, "")
    else:
        out.print(as_table(figures, BARS, ()))


def _ray() -> Any:
    """A Ray to run on: the job's cluster inside `ray job submit`, else one on this machine."""
    import ray

    if "RAY_ADDRESS" in os.environ:
        return ray.init(log_to_driver=False)
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default workers give way to everything else here
    cpus = max(4, os.cpu_count() or 4)  # what the local placement takes, Ray's own reads and writes among it
    return ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)


def _warn_of_unknown_words(recipe: Recipe) -> None:
    from pipelines.models.words import warnings

    paint = [_without_columns(template) for template in recipe.prompts.paint]
    for warning in warnings(recipe, [_without_columns(recipe.prompts.find)], paint):
        err.print(f"warning: {warning}", highlight=False)


def _without_columns(template: str) -> str:
    from pipelines.recipe.templates import template_columns

    for column in template_columns(template):
        template = template.replace(f"{{{column}}}", "")
    return template


def _sentence(run_id: int | None, run_uri: str, counts: dict[str, int], notes: tuple[str, ...]) -> str:
    if not run_uri:
        return "; ".join(notes)
    equation = " + ".join(f"{counts[status]} {status}" for status in ("ok", "rejected", "failed", "pending"))
    lines = [*notes, f"run {run_id} is published: {counts['planned']} planned = {equation}", run_uri]
    return "\n".join(lines)


def _show(facts: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        out.print_json(json.dumps(facts, default=str))
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    app()
