import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.executors.worker import Progress
from pipelines.progress import Meter, NodeProgress, show, watch

NODES = ("read", "paint")


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines_of(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_meter_that_heard_nothing_knows_no_rate() -> None:
    assert Meter(10, NODES).snapshot() == [
        NodeProgress("read", 0, 10, None, None),
        NodeProgress("paint", 0, 10, None, None),
    ]


def test_run_without_rows_is_done() -> None:
    assert [one.left_s for one in Meter(0, NODES).snapshot()] == [0.0, 0.0]


def test_rate_and_time_left_come_from_what_was_done_lately() -> None:
    clock = Clock()
    meter = Meter(100, NODES, clock)
    meter.add(Progress("paint", 10, 1.0, 0))  # fast, long ago
    clock.now += 100
    for _ in range(4):
        clock.now += 5
        meter.add(Progress("paint", 10, 5.0, 0))

    painted = meter.snapshot()[1]

    assert painted.rows_done == 50
    assert painted.rows_per_s == pytest.approx(2.0)
    assert painted.left_s == pytest.approx(25.0)


def test_batches_that_take_longer_than_the_window_still_have_a_rate() -> None:
    clock = Clock()
    meter = Meter(100, NODES, clock)
    for _ in range(3):
        clock.now += 100
        meter.add(Progress("paint", 10, 100.0, 0))
    clock.now += 60

    assert meter.snapshot()[1].rows_per_s == pytest.approx(30 / 360)


def test_rate_falls_while_nothing_comes() -> None:
    clock = Clock()
    meter = Meter(100, NODES, clock)
    clock.now += 10
    meter.add(Progress("paint", 10, 10.0, 0))
    fresh = meter.snapshot()[1].rows_per_s
    clock.now += 10

    assert fresh == pytest.approx(1.0)
    assert meter.snapshot()[1].rows_per_s == pytest.approx(0.5)


def test_node_that_is_done_keeps_its_rate_and_has_nothing_left() -> None:
    clock = Clock()
    meter = Meter(20, NODES, clock)
    clock.now += 10
    meter.add(Progress("read", 20, 10.0, 0))
    clock.now += 1000

    assert meter.snapshot()[0] == NodeProgress("read", 20, 20, pytest.approx(2.0), 0.0)


def test_batch_that_was_run_again_counts_no_more_than_all_rows() -> None:
    meter = Meter(10, NODES)
    meter.add(Progress("read", 8, 0.1, 0))
    meter.add(Progress("read", 8, 0.1, 0))

    assert meter.snapshot()[0].rows_done == 10


def test_meter_answers_how_many_rows_broke_in_the_whole_run() -> None:
    meter = Meter(10, NODES)

    assert [meter.add(Progress("read", 4, 0.1, 1)), meter.add(Progress("paint", 4, 0.1, 2))] == [1, 3]


def test_threads_may_report_side_by_side() -> None:
    meter = Meter(8000, NODES)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: meter.add(Progress("read", 1, 0.0, 0)), range(8000)))

    assert meter.snapshot()[0].rows_done == 8000


def test_log_gets_json_lines_and_a_last_one_at_the_end() -> None:
    meter, stream = Meter(10, NODES), io.StringIO()

    with watch(meter.snapshot, stream, every_s=0.05):
        meter.add(Progress("read", 10, 0.5, 0))
        time.sleep(0.12)
        meter.add(Progress("paint", 10, 0.5, 1))

    lines = lines_of(stream)
    assert len(lines) >= 2
    assert [line["event"] for line in lines[-2:]] == ["progress", "progress_end"]
    assert lines[0]["left_s"] is None
    assert (lines[-1]["rows_done"], lines[-1]["rows_total"], lines[-1]["left_s"]) == (10, 10, 0.0)
    assert lines[-1]["unexpected"] == 1
    assert list(lines[-1]["stages"]) == ["read", "paint"]


def test_terminal_gets_a_line_a_stage_with_rows_rate_and_time_left() -> None:
    clock = Clock()
    meter, stream, stop = Meter(1200, NODES, clock), Terminal(), threading.Event()
    clock.now += 10
    meter.add(Progress("read", 1200, 10.0, 0))
    meter.add(Progress("paint", 200, 10.0, 1))
    stop.set()

    show(meter.snapshot, stop, stream, is_terminal=True)

    text = stream.getvalue()
    assert "1,200/1,200" in text
    assert "200/1,200" in text
    assert "20.0/s" in text
    assert "0:50 left" in text
    assert "1 failed unexpectedly" in text


def test_terminal_is_told_apart_from_a_log() -> None:
    stream = Terminal()

    with watch(Meter(1, NODES).snapshot, stream, every_s=0.05):
        pass

    assert "waiting" in stream.getvalue()


def test_error_of_the_run_goes_through_after_a_last_line() -> None:
    stream = io.StringIO()

    with pytest.raises(KeyError), watch(Meter(1, NODES).snapshot, stream):
        raise KeyError("the run broke")

    assert lines_of(stream)[-1]["event"] == "progress_end"
