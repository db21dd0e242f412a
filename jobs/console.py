"""What every command shares: where it prints, and how an error becomes a message and an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from rich.console import Console

from jobs import outside
from pipelines.errors import NeedsAPerson, PackshotError

out = Console()
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object in place of text.")]


def plainly(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command end with a plain message and an exit code on errors of Packshot, its libraries and the machine.

    Any other error is a bug: it keeps its traceback and Python's own exit code, 1.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except NeedsAPerson as error:
            err.print(f"stopped: {error}", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except PackshotError as error:
            err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None
        except Exception as error:
            sentence = outside.sentence(error)
            if sentence is None:
                raise
            where = outside.keep_traceback(error)
            err.print(f"error: {sentence}\n{where}", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(2) from None

    return run


def show(facts: dict[str, Any], as_json: bool, text: str) -> None:
    """Print the facts as JSON, or the text."""
    if as_json:
        out.print_json(json.dumps(facts, default=str))
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True)
