"""What a person or a log sees while a run goes on.

Workers report what each node did to each batch; a `Meter` adds it up wherever it lives (in Ray, in an actor); `watch`
asks it now and then and writes: a table that stays in place on a terminal, else a sentence every 15 seconds. What is
known of every node goes into a file beside it, a JSON line each time.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from pipelines.executors import logs
from pipelines.executors.worker import CountUnexpected, Progress

EVERY_S = 15.0
MIN_BATCHES = 5
REMEMBERED_ROUNDS = 5.0
"""The time constant of all smoothing, in times that a batch takes through all nodes."""
ROUNDING = 0.1
"""So much of a round is taken for an error of measurement."""


@dataclass(frozen=True)
class NodeProgress:
    """How far one node is.

    `rows_per_s`: rows that it worked on, a second of the run; those that passed it by are not in it. `through_per_s`:
    rows that came through it, a second. `left_s`: until it is done; 0 when it is. None while nothing is known. `again`:
    rows beyond the total, of batches that were run again after a crash; `rows_done` leaves them out.
    """

    node: str
    rows_done: int
    rows_total: int
    rows_per_s: float | None
    left_s: float | None
    unexpected: int = 0
    through_per_s: float | None = None
    again: int = 0


Snapshot = list[NodeProgress]


@dataclass
class _Tally:
    """One node's sums. Rows count from one batch's end to the next one's, the longer ago the less.

    The first batches have no end before them: the time until then counts from the run's first beginning, or as the one
    round that a batch takes through all nodes, whichever is longer.
    """

    rows: int = 0
    unexpected: set[str] = field(default_factory=set)
    batches: int = 0
    batch_s: float = 0.0
    first_end: float = 0.0
    last_end: float = 0.0
    first_s: float = 0.0
    first_weight: float = 1.0
    recent_rows: float = 0.0
    recent_worked: float = 0.0
    recent_s: float = 0.0

    def add(self, ended: float, began: float, progress: Progress, round_s: float) -> None:
        """Enter a batch; `began` is when the run's first batch did, `round_s` a batch's time through all nodes."""
        if self.batches == 0:
            self.first_end, self.first_s = ended, ended - began
        else:
            since = max(0.0, ended - self.last_end)
            keep = math.exp(-since / (REMEMBERED_ROUNDS * max(round_s, 1e-6)))
            self.first_weight *= keep
            self.recent_rows, self.recent_worked = self.recent_rows * keep, self.recent_worked * keep
            self.recent_s = self.recent_s * keep + since
        self.batches += 1
        self.batch_s += (progress.seconds - self.batch_s) / min(self.batches, MIN_BATCHES)
        self.last_end = ended
        self.rows += progress.rows
        self.unexpected.update(progress.unexpected_keys)
        self.recent_rows += progress.rows
        self.recent_worked += progress.rows if progress.worked is None else progress.worked

    def seconds(self, waited_s: float, round_s: float) -> float | None:
        """The time in which the recent rows came, and what is beyond a round since then; None while it is too early.

        After the first ends it is too early until those of other processes had time to come.
        """
        if self.batches < MIN_BATCHES and self.last_end + waited_s - self.first_end < round_s / 2:
            return None
        first_s = max(self.first_s, round_s) * self.first_weight
        return max(first_s + self.recent_s + max(0.0, waited_s - round_s), 1e-6)


class Meter:
    """Adds up what workers report; threads may share it. `add` is an `executors.worker.Report`.

    `rows_total` is what is left to do when it is made, and `nodes` all nodes in the graph's order.
    """

    def __init__(self, rows_total: int, nodes: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.rows_total = rows_total
        self.clock = clock
        self.began: float | None = None
        self.unexpected = CountUnexpected()
        self.tallies = {node: _Tally() for node in nodes}
        self.lock = threading.Lock()

    def add(self, progress: Progress) -> int:
        """Enter a batch, and answer how many rows of the whole run have failed unexpectedly so far."""
        ended = self.clock()
        with self.lock:
            began = ended - progress.seconds
            self.began = began if self.began is None else min(self.began, began)
            self.tallies[progress.node].add(ended, self.began, progress, self._round_s())
            return self.unexpected(progress)

    def snapshot(self) -> Snapshot:
        """How far every node is, in the graph's order."""
        now = self.clock()
        with self.lock:
            round_s = self._round_s()
            return [self._node(node, tally, now, round_s) for node, tally in self.tallies.items()]

    def _round_s(self) -> float:
        return sum(tally.batch_s for tally in self.tallies.values())

    def _node(self, node: str, tally: _Tally, now: float, round_s: float) -> NodeProgress:
        done = min(tally.rows, self.rows_total)
        left = self.rows_total - done
        waited_s = now - tally.last_end if left and tally.batches else 0.0
        seconds = tally.seconds(waited_s, round_s) if tally.batches else None
        through = tally.recent_rows / seconds if seconds else None
        worked = tally.recent_worked / seconds if seconds and tally.recent_worked else None
        left_s = 0.0 if left == 0 else _left_s(left, through, round_s, waited_s) if through else None
        return NodeProgress(
            node, done, self.rows_total, worked, left_s, len(tally.unexpected), through, again=tally.rows - done
        )


def _left_s(rows: float, rows_per_s: float, round_s: float, waited_s: float) -> float:
    """The time until so many rows have come through, when the last ones did `waited_s` ago.

    Processes work side by side, and together bring so many rows a round: the last round takes as long as any other,
    however few rows it has.
    """
    a_round = rows_per_s * round_s
    if a_round > 1e-9:
        rows = max(1, math.ceil(rows / a_round - ROUNDING)) * a_round
    return max(0.0, rows / rows_per_s - min(waited_s, round_s))


def show(
    snapshot_fn: Callable[[], Snapshot],
    stop: threading.Event,
    stream: TextIO,
    is_terminal: bool,
    every_s: float = EVERY_S,
    record: TextIO | None = None,
) -> None:
    """Write how far the run is at once, until `stop` is set, and once more then.

    Args:
        snapshot_fn: `Meter.snapshot`, or what asks one elsewhere.
        stop: set when the run has ended.
        stream: where to write.
        is_terminal: a table in place, drawn fifteen times as often; otherwise a sentence.
        every_s: seconds between two sentences.
        record: gets a JSON line with every node as often as that (`progress`, the last one `progress_end`).
    """
    started = time.monotonic()
    turns_a_line = 15 if is_terminal else 1
    live = Live(console=Console(file=stream, force_terminal=True), auto_refresh=False) if is_terminal else None
    with live or nullcontext():
        turn, ended = 0, False
        while True:
            snapshot, elapsed_s = snapshot_fn(), time.monotonic() - started
            is_due = ended or turn % turns_a_line == 0
            if live is not None:
                live.update(_table(snapshot, elapsed_s), refresh=True)
            elif is_due:
                _write(stream, sentence(snapshot, elapsed_s, ended))
            if record is not None and is_due:
                _write(record, json.dumps(as_facts(snapshot, elapsed_s, ended)))
            if ended:
                return
            ended = stop.wait(every_s / turns_a_line)
            turn += 1


@contextmanager
def watch(
    snapshot_fn: Callable[[], Snapshot], stream: TextIO | None = None, every_s: float = EVERY_S
) -> Iterator[Path | None]:
    """Show progress in a thread of its own while the body runs; on standard error unless a stream is given.

    The body gets the path of the record, a file of `executors.logs`, which is also told first; None where none can be
    written. What goes wrong with showing is told once and never disturbs the run.
    """
    stream = sys.stderr if stream is None else stream
    stop = threading.Event()
    path = _new_record(stream)

    def run() -> None:
        with path.open("a", encoding="utf-8") if path else nullcontext() as record:
            show(snapshot_fn, stop, stream, stream.isatty(), every_s, record)

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield path
    finally:
        stop.set()
        # A snapshot that hangs, since its actor died, must not hang the run that is over.
        thread.join(timeout=13)


def _new_record(stream: TextIO) -> Path | None:
    try:
        path = logs.new_file("progress", ".jsonl")
    except OSError as error:
        _write(stream, f"the progress of each stage is not kept: {error}")
        return None
    _write(stream, f"the progress of each stage goes to {path}")
    return path


def _write(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


# --- what is said


def sentence(snapshot: Snapshot, elapsed_s: float, ended: bool = False) -> str:
    """How far the run is, for a person who reads a log. The last node decides: what it has done is rendered."""
    last, unexpected = snapshot[-1], sum(one.unexpected for one in snapshot)
    counted = f"{last.rows_done:,} of {last.rows_total:,}"
    share = f" ({100 * last.rows_done // max(1, last.rows_total)} %)"
    broke = [f"{unexpected:,} failed unexpectedly"] if unexpected else []
    if ended:
        did = "rendered" if last.rows_done >= last.rows_total else "stopped at"
        return ", ".join([f"{did} {counted} after {_clock(elapsed_s)}", *broke])
    begun = [one for one in snapshot if one.rows_done]
    if not begun:
        return f"loading models, {_clock(elapsed_s)} so far; {last.rows_total:,} to render"
    if not last.rows_done:
        return ", ".join(
            [f"rendering {counted}{share}, the first {begun[-1].rows_done:,} are past {begun[-1].node}", *broke]
        )
    rate = [_speed(last.through_per_s)] if last.through_per_s else []
    left = [] if last.left_s is None else [f"about {_clock(last.left_s)} left"]
    return ", ".join([f"rendering {counted}{share}", *rate, *left, *broke])


def as_facts(snapshot: Snapshot, elapsed_s: float, ended: bool = False) -> dict[str, object]:
    """How far every node is, as plain data for JSON."""
    last = snapshot[-1]
    return {
        "event": "progress_end" if ended else "progress",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "elapsed_s": round(elapsed_s, 1),
        "rows_done": last.rows_done,
        "rows_total": last.rows_total,
        "rows_per_s": _rounded(last.through_per_s),
        "left_s": _rounded(last.left_s),
        "unexpected": sum(one.unexpected for one in snapshot),
        "stages": {
            one.node: {
                "done": one.rows_done,
                "rows_per_s": _rounded(one.rows_per_s),
                "left_s": _rounded(one.left_s),
                "again": one.again,
            }
            for one in snapshot
        },
    }


def _table(snapshot: Snapshot, elapsed_s: float) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(5):
        table.add_column(no_wrap=True)
    table.columns[2].justify = table.columns[3].justify = "right"
    has_begun = any(one.rows_done for one in snapshot)
    for one in snapshot:
        bar = ProgressBar(total=max(1, one.rows_total), completed=one.rows_done if one.rows_total else 1, width=20)
        rate = "" if one.rows_per_s is None else _speed(one.rows_per_s)
        table.add_row(one.node, bar, f"{one.rows_done:,}/{one.rows_total:,}", rate, _left(one))
    unexpected = sum(one.unexpected for one in snapshot)
    broke = f"{unexpected:,} failed unexpectedly" if unexpected else "" if has_begun else "loading models"
    table.add_row("", broke, "", "", f"{_clock(elapsed_s)} so far")
    return table


def _left(one: NodeProgress) -> str:
    if one.rows_done >= one.rows_total:
        return "done"
    return "waiting" if one.left_s is None else f"{_clock(one.left_s)} left"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _speed(rows_per_s: float) -> str:
    for per_s, unit in ((1, "second"), (60, "minute")):
        if rows_per_s * per_s >= 0.95:
            return f"{rows_per_s * per_s:,.1f} a {unit}"
    return f"{rows_per_s * 3600:,.1f} an hour"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
