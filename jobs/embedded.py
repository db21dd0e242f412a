"""`packshot train` and `packshot evaluate`: the models that ship with the package, and the drawn world they know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.console import AsJson, out, plainly, show
from pipelines.errors import ConfigError

train_app = typer.Typer(no_args_is_help=True, help="Train the models that ship with the package.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure the models that ship with the package.")


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
        show(as_facts(measured.figures, BARS, measured.notes), as_json, "")
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
        show({**facts, "paste_backs": paste_backs.as_facts(measured.paste_backs)}, as_json, "")
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
        show(as_facts(figures, BARS, ()), as_json, "")
    else:
        out.print(as_table(figures, BARS, ()))
