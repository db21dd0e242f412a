from collections.abc import Sequence

import pytest

from pipelines.errors import InfrastructureError
from pipelines.executors.apply import apply
from pipelines.recipe.settings import FindSettings, PaintSettings, ReadSettings
from pipelines.rows import FAILED, OK, REJECTED, ItemError, Row, Update


def a_row(key: str, status: str = OK) -> Row:
    return {"item_key": key, "status": status, "reason": None, "detail": None, "node": None, "seconds": {}}


class Upper:
    """Adds the key in capitals; breaks when `poison` is in the batch; remembers its batches."""

    def __init__(self, poison: str | None = None) -> None:
        self.poison = poison
        self.batches: list[list[str]] = []

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        keys = [row["item_key"] for row in rows]
        self.batches.append(keys)
        if self.poison in keys:
            raise ValueError(f"cannot bear {self.poison}")
        return [{"upper": key.upper()} for key in keys]


def test_no_rows_call_no_stage():
    stage = Upper()

    assert apply("upper", stage, []) == []
    assert stage.batches == []


def test_updates_enter_their_rows_in_order_and_the_given_rows_stay():
    rows = [a_row("a"), a_row("b")]

    done = apply("upper", Upper(), rows)

    assert [row["upper"] for row in done] == ["A", "B"]
    assert "upper" not in rows[0]
    assert rows[0]["seconds"] == {}
    assert set(done[0]["seconds"]) == {"upper"}


def test_rows_that_are_not_ok_pass_by_untouched():
    rows = [a_row("a", REJECTED), a_row("b"), a_row("c", FAILED)]
    stage = Upper()

    done = apply("upper", stage, rows)

    assert stage.batches == [["b"]]
    assert done[0] is rows[0]
    assert done[2] is rows[2]


@pytest.mark.parametrize("place", range(8))
def test_bad_row_in_a_batch_of_eight_is_the_only_one_that_fails(place):
    rows = [a_row(f"k{index}") for index in range(8)]

    done = apply("upper", Upper(poison=f"k{place}"), rows)

    assert [row["status"] for row in done] == [FAILED if index == place else OK for index in range(8)]
    assert done[place]["reason"] == "unexpected"
    assert done[place]["node"] == "upper"
    assert f"cannot bear k{place}" in done[place]["detail"]
    assert "Traceback" in done[place]["detail"]
    assert [row["upper"] for index, row in enumerate(done) if index != place] == [
        f"K{i}" for i in range(8) if i != place
    ]


def test_item_error_fails_its_row_with_reason_and_detail():
    def stage(rows):
        return [ItemError("truncated_image", "ends at byte 12")]

    (done,) = apply("read", stage, [a_row("a")])

    assert (done["status"], done["reason"], done["detail"], done["node"]) == (
        FAILED,
        "truncated_image",
        "ends at byte 12",
        "read",
    )


def test_update_with_a_reason_rejects_the_row_and_keeps_its_columns():
    def stage(rows):
        return [{"boxes_xyxy": [], "reason": "nothing_found"}]

    (done,) = apply("detect", stage, [a_row("a")])

    assert (done["status"], done["reason"], done["node"], done["boxes_xyxy"]) == (
        REJECTED,
        "nothing_found",
        "detect",
        [],
    )


def test_wrong_number_of_answers_is_a_bug_of_the_stage_and_fails_the_rows():
    def stage(rows):
        return []

    (done,) = apply("detect", stage, [a_row("a")])

    assert done["status"] == FAILED
    assert "gave 0 answers for 1 rows" in done["detail"]


def test_infrastructure_error_is_nobodys_row_and_goes_on():
    def stage(rows):
        raise InfrastructureError("the weights are gone")

    with pytest.raises(InfrastructureError, match="weights are gone"):
        apply("detect", stage, [a_row("a"), a_row("b")])


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own, which begins so."""


OUT_OF_MEMORY = [
    OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nSee documentation"),
    MemoryError(),
    RuntimeError(
        "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."
    ),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


class Hungry:
    """Breaks for want of memory, and counts how often it was asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=repr)
def test_memory_that_runs_out_stops_the_run_at_once_and_names_the_settings_that_help(error):
    settings, stage = PaintSettings(checkpoint="embedded:painter", call_size=4), Hungry(error)

    with pytest.raises(InfrastructureError) as stopped:
        apply("paint.2", stage, [a_row(key) for key in "abcd"], step=2, settings=settings)

    assert "`paint.call_size` of step 2, now 4 or `mask.crop_px`" in str(stopped.value)
    assert len(str(stopped.value).splitlines()) == 1
    assert stage.calls == 1


@pytest.mark.parametrize(
    ("name", "settings", "advice"),
    [
        (
            "find",
            FindSettings(checkpoint="embedded:segmenter", encoder="embedded:encoder"),
            "lower `find.call_size`, now 64 or `find.encoder_call_size`, now 8 or `find.points_per_side`, or give",
        ),
        ("read", ReadSettings(), "lower `read.max_pixels`, or give"),
        ("paint", PaintSettings(checkpoint="embedded:painter", call_size=1), "(MemoryError); lower `mask.crop_px`, or"),
        ("compose", None, "(MemoryError); give its process more memory, or run fewer at once (`--placement`)"),
    ],
)
def test_advice_is_of_the_node_s_own_section_and_never_to_lower_a_call_of_one(name, settings, advice):
    with pytest.raises(InfrastructureError) as stopped:
        apply(name, Hungry(MemoryError()), [a_row("a")], settings=settings)

    assert advice in str(stopped.value)


def test_other_error_of_a_library_is_still_a_row_s():
    (done,) = apply("paint", Hungry(RuntimeError("mat1 and mat2 shapes cannot be multiplied")), [a_row("a")])

    assert done["reason"] == "unexpected"


def test_unknown_reason_word_is_refused():
    with pytest.raises(ValueError, match=r"not a word of rows\.REASONS"):
        ItemError("somehow_bad", "")
