"""What a person or a log sees while a run goes on.

Workers report what each node did to each batch; a `Meter` adds it up wherever it lives (in Ray, in an actor); `watch`
asks it now and then and writes: a table that stays in place on a terminal, else a sentence every 15 seconds. What is
known of every node goes into a file beside it, a JSON line each time. Rates and times left are rich's estimates.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from pipelines.executors import logs
from pipelines.executors.worker import CountUnexpected, Progress

EVERY_S = 15.0
DRAWN_EVERY_S = 1.0
SPEED_PERIOD_S = 300.0  # on a CPU a batch may take a minute; in rich's 30 seconds there would be one or none
FIRST_SPEED_AFTER_S = 60.0  # several processes end their first batches at nearly one time, which looks fast


@dataclass(frozen=True)
class NodeProgress:
    """How far one node is.

    `rows_worked`: rows that its stage was called on; the others passed it by. `unexpected`: items that failed
    unexpectedly. `again`: rows beyond the total, of batches that were run again after a crash; `rows_done` leaves them
    out.
    """

    node: str
    rows_done: int
    rows_total: int
    rows_worked: int = 0
    unexpected: int = 0
    again: int = 0


Snapshot = list[NodeProgress]


@dataclass
class _Count:
    rows: int = 0
    worked: int = 0
    unexpected: set[str] = field(default_factory=set)


class Meter:
    """Adds up what workers report; threads may share it. `add` is an `executors.worker.Report`.

    `rows_total` is what is left to do when it is made, and `nodes` all nodes in the graph's order.
    """

    def __init__(self, rows_total: int, nodes: Sequence[str]) -> None:
        self.rows_total = rows_total
        self.unexpected = CountUnexpected()
        self.counts = {node: _Count() for node in nodes}
        self.lock = threading.Lock()

    def add(self, progress: Progress) -> int:
        """Enter a batch, and answer how many items of the whole run have failed unexpectedly so far."""
        with self.lock:
            count = self.counts[progress.node]
            count.rows += progress.rows
            count.worked += progress.rows if progress.worked is None else progress.worked
            count.unexpected.update(progress.unexpected_keys)
            return self.unexpected(progress)

    def snapshot(self) -> Snapshot:
        """How far every node is, in the graph's order."""
        with self.lock:
            return [self._node(node, count) for node, count in self.counts.items()]

    def _node(self, node: str, count: _Count) -> NodeProgress:
        done = min(count.rows, self.rows_total)
        return NodeProgress(node, done, self.rows_total, count.worked, len(count.unexpected), count.rows - done)


@dataclass(frozen=True)
class Pace:
    """How fast one node is, by its batches of the last five minutes.

    `rows_per_s`: rows that came through it, a second. `worked_per_s`: those of them that its stage was called on.
    `left_s`: until it is done; 0 when it is. None while nothing is known.
    """

    rows_per_s: float | None = None
    worked_per_s: float | None = None
    left_s: float | None = None


class Board(RichProgress):
    """The table: a line a node, and one of the whole; off a terminal it only estimates."""

    below: RenderableType = ""  # rich asks for it while it is being made

    def __init__(self, stream: TextIO, is_terminal: bool, clock: Callable[[], float] = time.monotonic) -> None:
        columns = "{task.description}", "{task.completed:,.0f}/{task.total:,.0f}", "{task.fields[rate]}"
        name, rows, rate = (TextColumn(text) for text in columns)
        super().__init__(
            *(name, BarColumn(bar_width=20), rows, rate, TextColumn("{task.fields[left]}")),
            console=Console(file=stream, force_terminal=is_terminal),
            auto_refresh=False,
            speed_estimate_period=SPEED_PERIOD_S,
            get_time=clock,
            disable=not is_terminal,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """The nodes, and what is said of the whole below them."""
        yield self.make_tasks_table([task for task in self.tasks if task.visible])
        yield self.below

    def enter(self, snapshot: Snapshot, elapsed_s: float) -> list[Pace]:
        """Take in how far every node is; answer how fast each is, and draw it on a terminal."""
        for one in () if self.tasks else snapshot:
            self.add_task(one.node, start=False, total=one.rows_total, rate="", left="")
            self.add_task(one.node, start=False, total=None, visible=False)  # the rows that its stage was called on
        tasks = zip(self.tasks[::2], self.tasks[1::2], strict=True)
        paces = [self._enter(one, *of_node) for one, of_node in zip(snapshot, tasks, strict=True)]
        unexpected = sum(one.unexpected for one in snapshot)
        has_begun = any(one.rows_done for one in snapshot)
        broke = f"{unexpected:,} failed unexpectedly, " if unexpected else "" if has_begun else "loading models, "
        self.below = Text(f"{broke}{_clock(elapsed_s)} so far")
        self.refresh()
        return paces

    def _enter(self, one: NodeProgress, done: Task, worked: Task) -> Pace:
        # Only where something came: rich forgets the batches before its period at every update.
        for task, rows in ((done, one.rows_done), (worked, one.rows_worked)):
            if rows > task.completed:
                self.start_task(task.id)
                self.update(task.id, completed=rows)
        is_early, is_done = (done.elapsed or 0.0) < FIRST_SPEED_AFTER_S, one.rows_done >= one.rows_total
        pace = Pace() if is_early else Pace(done.speed, worked.speed, done.time_remaining)
        pace = replace(pace, left_s=0.0) if is_done else pace
        left = "" if pace.left_s is None else f"{_clock(pace.left_s)} left"
        done.fields["rate"] = "" if pace.worked_per_s is None else _speed(pace.worked_per_s)
        done.fields["left"] = "done" if is_done else left if one.rows_done else "waiting"
        return pace


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
        snapshot_fn: `Meter.snapshot`, or what asks one elsewhere; it is called once a second.
        stop: set when the run has ended.
        stream: where to write.
        is_terminal: a table in place; otherwise a sentence.
        every_s: seconds between two sentences.
        record: gets a JSON line with every node as often as that (`progress`, the last one `progress_end`).
    """
    started, next_line_s = time.monotonic(), 0.0
    board = Board(stream, is_terminal)
    with board if is_terminal else nullcontext():
        ended = False
        while True:
            snapshot, elapsed_s = snapshot_fn(), time.monotonic() - started
            paces = board.enter(snapshot, elapsed_s)
            if ended or elapsed_s >= next_line_s:
                next_line_s = elapsed_s + every_s
                if not is_terminal:
                    _write(stream, sentence(snapshot, paces, elapsed_s, ended))
                if record is not None:
                    _write(record, json.dumps(as_facts(snapshot, paces, elapsed_s, ended)))
            if ended:
                return
            ended = stop.wait(min(DRAWN_EVERY_S, every_s))


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


def sentence(snapshot: Snapshot, paces: Sequence[Pace], elapsed_s: float, ended: bool = False) -> str:
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
    pace = paces[-1]
    rate = [_speed(pace.rows_per_s)] if pace.rows_per_s else []
    left = [] if pace.left_s is None else [f"about {_clock(pace.left_s)} left"]
    return ", ".join([f"rendering {counted}{share}", *rate, *left, *broke])


def as_facts(snapshot: Snapshot, paces: Sequence[Pace], elapsed_s: float, ended: bool = False) -> dict[str, object]:
    """How far every node is, as plain data for JSON."""
    last, pace = snapshot[-1], paces[-1]
    return {
        "event": "progress_end" if ended else "progress",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "elapsed_s": round(elapsed_s, 1),
        "rows_done": last.rows_done,
        "rows_total": last.rows_total,
        "rows_per_s": _rounded(pace.rows_per_s),
        "left_s": _rounded(pace.left_s),
        "unexpected": sum(one.unexpected for one in snapshot),
        "stages": {
            one.node: {
                "done": one.rows_done,
                "rows_per_s": _rounded(of_node.worked_per_s),
                "left_s": _rounded(of_node.left_s),
                "again": one.again,
            }
            for one, of_node in zip(snapshot, paces, strict=True)
        },
    }


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _speed(rows_per_s: float) -> str:
    for per_s, unit in ((1, "second"), (60, "minute")):
        if rows_per_s * per_s >= 0.95:
            return f"{rows_per_s * per_s:,.1f} a {unit}"
    return f"{rows_per_s * 3600:,.1f} an hour"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
