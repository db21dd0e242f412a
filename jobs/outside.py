"""Errors of what we stand on: Ray, Arrow, the store, the machine. They are told in a sentence, and a retry may help.

Whether an error is one of theirs is asked only of libraries that are loaded already: nothing else can have raised it.
"""

from __future__ import annotations

import sys
import traceback

from pipelines.executors import logs

LIBRARIES = (
    ("ray.exceptions", "RayError", "Ray failed"),
    ("pyarrow", "ArrowException", "Arrow could not read or write a table"),
    ("botocore.exceptions", "BotoCoreError", "the store did not answer as it should"),
    ("botocore.exceptions", "ClientError", "the store refused"),
)


def sentence(error: Exception) -> str | None:
    """What failed, and what to do; None where it is neither a library's failure nor the machine's: that is a bug.

    An error that our own code raised in a worker comes wrapped into errors of Ray's; it is judged by what it is.
    """
    inner = _unwrapped(error)
    if inner is None or isinstance(inner, BrokenPipeError):  # who reads our output has gone: typer knows what to do
        return None
    for module, name, said in LIBRARIES:
        if module in sys.modules and isinstance(inner, getattr(sys.modules[module], name)):
            return _told(said, inner)
    if isinstance(inner, MemoryError):
        return _told("the machine's memory is full", inner)
    return _told("the system refused", inner) if isinstance(inner, OSError) else None


def keep_traceback(error: Exception) -> str:
    """Write the traceback into a file of `pipelines.executors.logs`, and say where.

    Where no file can be written, as on a full disk, the traceback itself is the answer.
    """
    lines = "".join(traceback.format_exception(error))
    try:
        path = logs.new_file("traceback", ".txt")
        path.write_text(lines, encoding="utf-8")
    except OSError:
        return lines
    return f"the traceback is in {path}"


def _unwrapped(error: BaseException) -> BaseException | None:
    """The error without what Ray puts round those of a worker's code; None where Ray kept only their words."""
    rays = sys.modules.get("ray.exceptions")
    while rays and isinstance(error, rays.RayTaskError | rays.UserCodeException):
        inner = getattr(error, "cause", None) or error.__cause__
        if inner is None:
            return None
        error = inner
    return None if rays and isinstance(error, rays.RayActorError) and error.actor_init_failed else error


def _told(said: str, error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    words = f"{said} ({type(error).__name__})" + (f": {first}" if first else "")
    return f"{words}; run the same command again, and if it stays so, mend what it names"
