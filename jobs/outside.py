"""Errors of Ray, Arrow, the store and the machine: each in one sentence, since a retry may help; not bugs of ours.

Only libraries that are loaded already are looked at: no other can have raised an error.
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
    """Say what failed and what to do; None if the error is neither a library's nor the machine's, so it is a bug.

    Ray wraps an error that our own code raised in a worker; the inner error counts.
    """
    inner = _unwrapped(error)
    if inner is None or isinstance(inner, BrokenPipeError):  # nobody reads our output any more; typer handles it
        return None
    for module, name, failure in LIBRARIES:
        if module in sys.modules and isinstance(inner, getattr(sys.modules[module], name)):
            return _sentence(failure, inner)
    if isinstance(inner, MemoryError):
        return _sentence("the machine's memory is full", inner)
    return _sentence("the system refused", inner) if isinstance(inner, OSError) else None


def keep_traceback(error: Exception) -> str:
    """Write the traceback into a file of `pipelines.executors.logs` and return the sentence that says where.

    If no file can be written, as on a full disk, return the traceback itself.
    """
    lines = "".join(traceback.format_exception(error))
    try:
        path = logs.new_file("traceback", ".txt")
        path.write_text(lines, encoding="utf-8")
    except OSError:
        return lines
    return f"the traceback is in {path}"


def _unwrapped(error: BaseException) -> BaseException | None:
    """The error of a worker's code without Ray's wrappers; None if Ray kept only its text."""
    rays = sys.modules.get("ray.exceptions")
    while rays and isinstance(error, rays.RayTaskError | rays.UserCodeException):
        inner = getattr(error, "cause", None) or error.__cause__
        if inner is None:
            return None
        error = inner
    return None if rays and isinstance(error, rays.RayActorError) and error.actor_init_failed else error


def _sentence(failure: str, error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    words = f"{failure} ({type(error).__name__})" + (f": {first}" if first else "")
    return f"{words}; run the same command again, and if it stays so, mend what it names"
