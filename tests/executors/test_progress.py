import io
import json
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.executors.progress import Board, Meter, NodeProgress, Pace, sentence, watch
from pipelines.executors.worker import Progress

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


@pytest.fixture(autouse=True)
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where records go."""
    monkeypatch.setenv("PACKSHOT_LOG_FOLDER", str(tmp_path))
    return tmp_path


class Run:
    """A run of which a log's board is told every second, as `show` does."""

    def __init__(self, rows: int, nodes: Sequence[str] = NODES) -> None:
        self.clock = Clock()
        self.meter = Meter(rows, nodes)
        self.board = Board(io.StringIO(), False, self.clock)

    def go_on(self, seconds: float) -> list[Pace]:
        for _ in range(int(seconds)):
            self.clock.now += 1
            paces = self.board.enter(self.meter.snapshot(), self.clock.now)
        return paces

    def render(self, batches: int, rows: int = 10, seconds: int = 5) -> list[Pace]:
        """So many batches one after the other, each read in no time and painted for so long."""
        for _ in range(batches):
            self.meter.add(Progress("read", rows, 0.0))
            self.go_on(seconds - 1)
            self.meter.add(Progress("paint", rows, seconds))
            paces = self.go_on(1)
        return paces


def test_meter_that_heard_nothing_knows_no_rate() -> None:
    run = Run(10)

    assert run.meter.snapshot() == [NodeProgress("read", 0, 10), NodeProgress("paint", 0, 10)]
    assert run.go_on(3) == [Pace(), Pace()]


def test_run_without_rows_is_done() -> None:
    assert [one.left_s for one in Run(0).go_on(1)] == [0.0, 0.0]


def test_rate_and_time_left_follow_what_was_done_lately() -> None:
    run = Run(2000)
    run.render(20, seconds=2)
    paces = run.render(80, seconds=5)

    assert paces[1].rows_per_s == pytest.approx(2.0, rel=0.02)
    assert paces[1].left_s == pytest.approx(500.0, rel=0.05)


def test_batches_that_take_a_minute_have_a_rate_too() -> None:
    paces = Run(100).render(3, rows=4, seconds=60)

    assert paces[1].rows_per_s == pytest.approx(4 / 60)
    assert paces[1].left_s == pytest.approx(88 * 15)


def test_node_that_is_done_keeps_its_rate_and_has_nothing_left() -> None:
    run = Run(200)
    at_its_end = run.render(20)

    assert run.go_on(1000) == at_its_end
    assert (at_its_end[1].left_s, at_its_end[1].rows_per_s) == (0.0, pytest.approx(2.0))


def test_rows_that_pass_a_stage_by_are_done_and_in_no_rate() -> None:
    run = Run(200)
    for _ in range(16):
        run.meter.add(Progress("read", 10, 4.0))
        run.meter.add(Progress("paint", 10, 0.0, worked=0))
        paces = run.go_on(4)

    assert run.meter.snapshot()[1].rows_done == 160
    assert paces[1].worked_per_s is None
    assert paces[1].left_s == pytest.approx(16.0)


def test_batch_that_was_run_again_counts_no_more_than_all_rows_and_says_so() -> None:
    meter = Meter(10, NODES)
    meter.add(Progress("read", 8, 0.1))
    meter.add(Progress("read", 8, 0.1))

    assert (meter.snapshot()[0].rows_done, meter.snapshot()[0].again) == (10, 6)


# --- the time left, of nights that are simulated

SECONDS = {
    "read": 0.3,
    "detect": 2,
    "segment": 3,
    "mask": 0.7,
    "paint": 16,
    "score": 1.5,
    "judge": 0.01,
    "deliver": 1.2,
}
"""A batch of four, node by node."""


def said_and_true(
    items: int, processes: int, jitter: float = 0.0, stagger_s: float = 0.0
) -> tuple[list[tuple[float, float]], float]:
    """What is said every second after a tenth of a night, beside the truth; and how long a batch takes."""
    chance, run = random.Random(0), Run(items, list(SECONDS))
    began = run.clock.now
    free = [began + stagger_s * number / processes for number in range(processes)]
    events: list[tuple[float, Progress]] = []
    for start in range(0, items, 4):
        process = free.index(min(free))
        pace = chance.uniform(1 - jitter, 1 + jitter)
        for node, seconds in SECONDS.items():
            free[process] += seconds * pace
            events.append((free[process], Progress(node, min(4, items - start), seconds * pace)))
    events.sort(key=lambda event: event[0])
    ends, said = max(free), []
    while run.clock.now + 1 < ends:
        while events and events[0][0] <= run.clock.now + 1:
            run.meter.add(events.pop(0)[1])
        left_s = run.go_on(1)[-1].left_s
        if left_s is not None and run.clock.now - began >= (ends - began) / 10:
            said.append((left_s, ends - run.clock.now))
    return said, sum(SECONDS.values())


@pytest.mark.parametrize(("jitter", "stagger_s"), [(0.0, 0.0), (0.2, 8.0)])
@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("items", [200, 1000])
def test_time_left_is_about_right_until_the_last_two_rounds(
    items: int, processes: int, jitter: float, stagger_s: float
) -> None:
    said, batch_s = said_and_true(items, processes, jitter, stagger_s)

    assert said
    assert all(true / 1.6 <= left_s <= true * 1.6 for left_s, true in said if true > 2 * batch_s)


def test_nothing_is_said_of_the_first_batches_which_several_processes_end_together() -> None:
    run = Run(1000)
    for _ in range(8):
        run.meter.add(Progress("paint", 4, 20.0))
        run.go_on(1)

    assert run.go_on(50)[1] == Pace()
    run.meter.add(Progress("paint", 4, 20.0))
    assert run.go_on(10)[1].left_s is not None


def test_meter_answers_how_many_rows_broke_in_the_whole_run() -> None:
    meter = Meter(10, NODES)

    assert [meter.add(Progress("read", 4, 0.1, ("a",))), meter.add(Progress("paint", 4, 0.1, ("b", "c")))] == [1, 3]


def test_item_that_broke_in_a_batch_that_was_run_again_counts_once() -> None:
    meter = Meter(10, NODES)

    assert [meter.add(Progress("read", 4, 0.1, ("a",))) for _ in range(2)] == [1, 1]
    assert meter.snapshot()[0].unexpected == 1


def test_threads_may_report_side_by_side() -> None:
    meter = Meter(8000, NODES)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: meter.add(Progress("read", 1, 0.0)), range(8000)))

    assert meter.snapshot()[0].rows_done == 8000


# --- what is shown


def test_log_gets_sentences_and_the_record_every_node(log_folder: Path) -> None:
    meter, stream = Meter(10, NODES), io.StringIO()

    with watch(meter.snapshot, stream, every_s=0.05) as record:
        time.sleep(0.02)
        meter.add(Progress("read", 10, 0.5))
        time.sleep(0.12)
        meter.add(Progress("paint", 10, 0.5, ("a",)))

    assert record is not None
    assert record.parent == log_folder
    told = stream.getvalue().splitlines()
    assert told[0] == f"the progress of each stage goes to {record}"
    assert told[1] == "loading models, 0:00:00 so far; 10 to render"
    assert "rendering 0 of 10 (0 %), the first 10 are past read" in told
    assert told[-1] == "rendered 10 of 10 after 0:00:00, 1 failed unexpectedly"
    kept = [json.loads(line) for line in record.read_text().splitlines()]
    assert [line["event"] for line in kept[-2:]] == ["progress", "progress_end"]
    assert len(kept) == len(told) - 1
    assert kept[0]["left_s"] is None
    assert (kept[-1]["rows_done"], kept[-1]["rows_total"], kept[-1]["left_s"]) == (10, 10, 0.0)
    assert kept[-1]["unexpected"] == 1
    assert list(kept[-1]["stages"]) == ["read", "paint"]


def test_sentence_says_how_much_is_rendered_how_fast_and_until_when() -> None:
    nodes = [NodeProgress("read", 800, 2000), NodeProgress("paint", 412, 2000, unexpected=2)]
    paces = [Pace(17764.99, 17764.99, 1.0), Pace(3.4, 2.9, 467.6)]

    assert sentence(nodes, paces, 121) == (
        "rendering 412 of 2,000 (20 %), 3.4 a second, about 0:07:48 left, 2 failed unexpectedly"
    )
    assert sentence(nodes, paces, 121, ended=True) == "stopped at 412 of 2,000 after 0:02:01, 2 failed unexpectedly"


@pytest.mark.parametrize(
    ("rows_per_s", "told"), [(3.4, "3.4 a second"), (0.02, "1.2 a minute"), (1 / 3600, "1.0 an hour")]
)
def test_slow_rates_are_said_in_minutes_and_hours(rows_per_s: float, told: str) -> None:
    assert told in sentence([NodeProgress("paint", 1, 10)], [Pace(rows_per_s, rows_per_s, 9.0)], 1)


def test_run_goes_on_without_a_record_where_none_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACKSHOT_LOG_FOLDER", str(tmp_path / "nowhere"))
    stream = io.StringIO()

    with watch(Meter(1, NODES).snapshot, stream) as record:
        pass

    assert record is None
    assert "is not kept" in stream.getvalue()
    assert "stopped at 0 of 1" in stream.getvalue()


def test_terminal_gets_a_line_a_stage_with_rows_rate_and_time_left() -> None:
    run, stream = Run(1200), Terminal()
    with Board(stream, True, run.clock) as run.board:
        run.meter.add(Progress("read", 1200, 0.0))
        for broken in (("a",), (), (), (), ()):
            run.meter.add(Progress("paint", 40, 20.0, broken))
            run.go_on(20)

    text = stream.getvalue()
    assert "1,200/1,200" in text
    assert "200/1,200" in text
    assert "2.0 a second" in text
    assert "0:08:20 left" in text
    assert "1 failed unexpectedly" in text


def test_terminal_is_told_apart_from_a_log() -> None:
    stream = Terminal()

    with watch(Meter(1, NODES).snapshot, stream, every_s=0.05):
        pass

    assert "waiting" in stream.getvalue()
    assert "loading models" in stream.getvalue()


def test_error_of_the_run_goes_through_after_a_last_line() -> None:
    stream = io.StringIO()

    with pytest.raises(KeyError), watch(Meter(1, NODES).snapshot, stream):
        raise KeyError("the run broke")

    assert stream.getvalue().splitlines()[-1] == "stopped at 0 of 1 after 0:00:00"
