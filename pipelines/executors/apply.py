"""The one broad `except`: whatever a stage raises enters the rows as data, as its answers and named errors do."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.rows import FAILED, OK, REJECTED, ItemError, Row, Update, as_seen_by, plain, step_of
from pipelines.stages import Stage
from pipelines.strict import Settings

logger = logging.getLogger(__name__)

MAX_DETAIL_CHARACTERS = 4000
SAY_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""What torch says of memory in errors that have no class of their own: its CPU allocator's, CUDA's and cuBLAS's."""
TAKE_LESS = {
    "read": ("`read.max_pixels`",),
    "detect": ("`detect.side_px`",),
    "find": ("`find.points_per_side`",),
    "paint": ("`mask.crop_px`",),
}
"""What else than the number of samples a call lets a node take less memory."""


def apply(
    name: str,
    stage: Stage,
    rows: Sequence[Row],
    passes_by: Callable[[Row], bool] = lambda row: False,
    step: int = 1,
    settings: Settings | None = None,
) -> list[Row]:
    """Run one stage over rows and give back as many, in the same order, none of them changed in place.

    A node of a later step sees that step's columns under their plain names, and what it adds gets the step's number if
    the node's own name carries it.

    Rows that are not ok, and those that `passes_by` says begin later in the graph, go through untouched. An `ItemError`
    makes its row failed; an Update that carries `reason` makes it rejected and keeps the update's columns. When the
    call raises, the batch is halved until the row that broke it is alone: that one is failed, reason `unexpected`, with
    the traceback.

    Raises:
        ConfigError, InfrastructureError: from the stage; no row is to blame.
        InfrastructureError: memory ran out; with the node's `settings` it names those that help. A smaller batch would
            not: networks are called in one shape, and another shape gives other bits (docs/decisions/0013).
    """
    live = [index for index, row in enumerate(rows) if row["status"] == OK and not passes_by(row)]
    done = list(rows)
    started = time.perf_counter()
    seen = [as_seen_by(rows[index], step) for index in live]
    for index, answer in zip(live, _answers(name, stage, seen, settings), strict=True):
        done[index] = _enter(name, rows[index], answer)
    seconds = (time.perf_counter() - started) / max(1, len(live))
    for index in live:
        done[index] = {**done[index], "seconds": {**dict(done[index].get("seconds") or {}), name: seconds}}
    return done


def _answers(name: str, stage: Stage, rows: list[Row], settings: Settings | None) -> list[Update | ItemError]:
    if not rows:
        return []
    try:
        answers = list(stage(rows))
        if len(answers) != len(rows):
            raise RuntimeError(f"stage {name!r} gave {len(answers)} answers for {len(rows)} rows")
        return answers
    except (ConfigError, InfrastructureError):
        raise
    except Exception as error:  # any bug of a stage: the row that meets it fails, its neighbours do not
        if _is_out_of_memory(error):
            _free_device_memory()
            raise InfrastructureError(_out_of_memory(name, settings, error)) from error
        if len(rows) == 1:
            logger.error("%s broke on item %r: %r", name, rows[0]["item_key"], error)
            return [ItemError("unexpected", traceback.format_exc()[-MAX_DETAIL_CHARACTERS:])]
    half = len(rows) // 2
    return _answers(name, stage, rows[:half], settings) + _answers(name, stage, rows[half:], settings)


def _enter(name: str, row: Row, answer: Update | ItemError) -> Row:
    if isinstance(answer, ItemError):
        return {**row, "status": FAILED, "reason": answer.reason, "detail": answer.detail, "node": name}
    _, dot, step = name.partition(".")
    added = {f"{column}{dot}{step}": value for column, value in answer.items() if column != "reason"}
    if answer.get("reason"):
        return {**row, **added, "status": REJECTED, "reason": answer["reason"], "node": name}
    return {**row, **added}


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which may not be loaded
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAY_NO_MEMORY)


def _out_of_memory(name: str, settings: Settings | None, error: Exception) -> str:
    section, where = plain(name), f" of step {step_of(name)}" if step_of(name) > 1 else ""
    sizes = {one: getattr(settings, one, 1) for one in ("call_size", "encoder_call_size")}
    fewer = [f"`{section}.{one}`{where}, now {size}" for one, size in sizes.items() if size > 1]
    lower = " or ".join([*fewer, *TAKE_LESS.get(section, ())])
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"memory ran out in `{name}` ({said}); {f'lower {lower}, or ' if lower else ''}"
        "give its process more memory, or run fewer at once (`--placement`)"
    )


def _free_device_memory() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()
