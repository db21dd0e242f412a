"""What a person or a log sees while a run goes on.

Workers report what each node did to each batch; a `Meter` adds it up wherever it lives (in Ray, in an actor); `watch`
asks it every few seconds and writes: a table that stays in place on a terminal, else a JSON line, as `ray job logs`
wants it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from pipelines.executors.worker import Progress

WINDOW_S = 30.0
MIN_BATCHES = 3


@dataclass(frozen=True)
class NodeProgress:
    """How far one node is: rows a second over the last half minute, and the seconds left at that rate.

    Both are None while nothing is known; `left_s` is 0 when the node is done.
    """

    node: str
    rows_done: int
    rows_total: int
    rows_per_s: float | None
    left_s: float | None
    unexpected: int = 0


Snapshot = list[NodeProgress]


@dataclass
class _Tally:
    """One node's sums, and when its last batches began and ended."""

    rows: int = 0
    unexpected: int = 0
    began: float | None = None
    ended: float = 0.0
    recent: deque[tuple[float, float, int]] = field(default_factory=deque)

    def add(self, began: float, ended: float, progress: Progress) -> None:
        self.rows += progress.rows
        self.unexpected += progress.unexpected
        self.began = began if self.began is None else min(self.began, began)
        self.ended = ended
        self.recent.append((began, ended, progress.rows))
        while len(self.recent) > MIN_BATCHES and self.recent[0][1] < ended - WINDOW_S:
            self.recent.popleft()

    def rate(self, now: float, is_done: bool) -> float | None:
        """Rows a second: recent ones while it works, falling while it waits; over all its time once it is done."""
        if self.began is None:
            return None
        since, until, rows = self.began, self.ended, self.rows
        if not is_done:
            recent = [batch for batch in self.recent if batch[1] >= now - WINDOW_S] or list(self.recent)[-MIN_BATCHES:]
            since, until, rows = min(batch[0] for batch in recent), now, sum(batch[2] for batch in recent)
        return rows / max(until - since, 1e-6)


class Meter:
    """Adds up what workers report; threads may share it. `add` is an `executors.worker.Report`."""

    def __init__(self, rows_total: int, nodes: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.rows_total = rows_total
        self.clock = clock
        self.tallies = {node: _Tally() for node in nodes}
        self.lock = threading.Lock()

    def add(self, progress: Progress) -> int:
        """Enter a batch, and answer how many rows of the whole run have failed unexpectedly so far."""
        ended = self.clock()
        with self.lock:
            self.tallies[progress.node].add(ended - progress.seconds, ended, progress)
            return sum(tally.unexpected for tally in self.tallies.values())

    def snapshot(self) -> Snapshot:
        """How far every node is, in the graph's order."""
        now = self.clock()
        with self.lock:
            return [self._node(node, tally, now) for node, tally in self.tallies.items()]

    def _node(self, node: str, tally: _Tally, now: float) -> NodeProgress:
        done = min(tally.rows, self.rows_total)  # a batch that is run again after a crash counts twice
        left = self.rows_total - done
        rate = tally.rate(now, left == 0)
        left_s = 0.0 if left == 0 else left / rate if rate else None
        return NodeProgress(node, done, self.rows_total, rate, left_s, tally.unexpected)


def show(
    snapshot_fn: Callable[[], Snapshot],
    stop: threading.Event,
    stream: TextIO,
    is_terminal: bool,
    every_s: float = 3.0,
) -> None:
    """Write how far the run is until `stop` is set, and once more then.

    Args:
        snapshot_fn: `Meter.snapshot`, or what asks one elsewhere.
        stop: set when the run has ended.
        stream: where to write.
        is_terminal: a table in place; otherwise a JSON line (`progress`, the last one `progress_end`).
        every_s: seconds between two lines; a table is drawn three times as often.
    """
    started = time.monotonic()
    if is_terminal:
        _show_table(snapshot_fn, stop, stream, every_s / 3, started)
        return
    while not stop.wait(every_s):
        _write_line(stream, "progress", snapshot_fn(), time.monotonic() - started)
    _write_line(stream, "progress_end", snapshot_fn(), time.monotonic() - started)


@contextmanager
def watch(snapshot_fn: Callable[[], Snapshot], stream: TextIO | None = None, every_s: float = 3.0) -> Iterator[None]:
    """Show progress in a thread of its own while the body runs; on standard error unless a stream is given.

    What goes wrong with showing is told once and never disturbs the run.
    """
    stream = sys.stderr if stream is None else stream
    stop = threading.Event()
    told = (snapshot_fn, stop, stream, stream.isatty(), every_s)
    thread = threading.Thread(target=show, args=told, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        # A snapshot that hangs, since its actor died, must not hang the run that is over.
        thread.join(timeout=10 + every_s)


def _show_table(
    snapshot_fn: Callable[[], Snapshot], stop: threading.Event, stream: TextIO, every_s: float, started: float
) -> None:
    console = Console(file=stream, force_terminal=True)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            ending = stop.wait(every_s)
            live.update(_table(snapshot_fn(), time.monotonic() - started), refresh=True)
            if ending:
                return


def _table(snapshot: Snapshot, elapsed_s: float) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(5):
        table.add_column(no_wrap=True)
    table.columns[2].justify = table.columns[3].justify = "right"
    for one in snapshot:
        bar = ProgressBar(total=max(1, one.rows_total), completed=one.rows_done if one.rows_total else 1, width=20)
        rate = "" if one.rows_per_s is None else f"{one.rows_per_s:,.1f}/s"
        table.add_row(one.node, bar, f"{one.rows_done:,}/{one.rows_total:,}", rate, _left(one))
    unexpected = sum(one.unexpected for one in snapshot)
    broke = f"{unexpected:,} failed unexpectedly" if unexpected else ""
    table.add_row("", broke, "", "", f"{_clock(elapsed_s)} so far")
    return table


def _left(one: NodeProgress) -> str:
    if one.rows_done >= one.rows_total:
        return "done"
    return "waiting" if one.left_s is None else f"{_clock(one.left_s)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _write_line(stream: TextIO, event: str, snapshot: Snapshot, elapsed_s: float) -> None:
    known = [one.left_s for one in snapshot if one.left_s is not None]
    last = snapshot[-1] if snapshot else None
    line = {
        "event": event,
        "elapsed_s": round(elapsed_s, 1),
        "rows_done": last.rows_done if last else 0,
        "rows_total": last.rows_total if last else 0,
        "rows_per_s": _rounded(last.rows_per_s if last else None),
        # The slowest node decides; before each has begun nobody can tell.
        "left_s": _rounded(max(known)) if known and len(known) == len(snapshot) else None,
        "unexpected": sum(one.unexpected for one in snapshot),
        "stages": {
            one.node: {"done": one.rows_done, "rows_per_s": _rounded(one.rows_per_s), "left_s": _rounded(one.left_s)}
            for one in snapshot
        },
    }
    stream.write(json.dumps(line) + "\n")
    stream.flush()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
