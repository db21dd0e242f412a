"""What the cells of a table mean."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from pipelines import catalogue, rows
from pipelines.errors import ConfigError
from tests.catalogue.given import a_recipe, a_table, words_of


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pa.array([7, None]), ["7", None]),
        (pa.array([7.0, 8.5, float("nan"), None, -0.0, 1e300]), ["7", "8.5", None, None, "0", "1e+300"]),
        (pa.array([0.1, 16777216.0, 2.5], pa.float32()), ["0.1", "16777216", "2.5"]),
        (pa.array([float("inf")]), ["inf"]),
        (pa.array([True, False]), ["True", "False"]),
        (pa.array([Decimal("7.00"), Decimal("8.50")]), ["7.00", "8.50"]),
        (pa.array([19000], pa.date32()), ["2022-01-08"]),
        (pa.array([0], pa.timestamp("ns")), ["1970-01-01 00:00:00"]),
        (pa.array([0], pa.timestamp("us", tz="UTC")), ["1970-01-01 00:00:00+00:00"]),
        (pa.array([1 << 62], pa.timestamp("s")), None),
        (pa.array(["a"]).dictionary_encode(), ["a"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array([{"a": 1}]), ["{'a': 1}"]),
    ],
)
def test_a_value_has_the_form_that_it_has_alone(values, words):
    made = words_of(values)

    assert made == words if words is not None else all(made)


def test_seeds_come_from_the_table_before_the_recipe():
    seeded = a_recipe(paint={"variants": 2, "seeds": [5, 6], "seed_by": "sku"})

    first, second = catalogue.rows(seeded, a_table(given_seeds=[[1, 2], None]), "/data")
    written = catalogue.rows(seeded, a_table(given_seeds=["1, 2", ""]), "/data")

    assert (first["given_seeds"], second["given_seeds"]) == ([1, 2], [5, 6])
    assert second["seed_basis"] == "2"
    assert [row["given_seeds"] for row in written] == [[1, 2], [5, 6]]


@pytest.mark.parametrize("seeds", [[1], [1, -2], [1, None], [1, 2**63], "1", "one, two", "[[1, 2]]", 7])
def test_seeds_that_do_not_fit_are_their_row_alone(seeds):
    kind = pa.list_(pa.uint64()) if isinstance(seeds, list) and max(filter(None, seeds)) >= 2**63 else None
    good = None if not isinstance(seeds, str) else ""
    table = a_table(given_seeds=pa.array([good, seeds], kind))

    first, second = catalogue.rows(a_recipe(paint={"variants": 2}), table, "/data")

    assert (first["status"], first["given_seeds"]) == ("ok", None)
    assert (second["reason"], second["given_seeds"]) == ("bad_value", None)
    assert "expected 2 integers, one a variant, from 0 to 9223372036854775807" in second["detail"]


@pytest.mark.parametrize("seeds", [[2**63], [-1]])
def test_seeds_of_a_recipe_fit_the_manifest(seeds):
    with pytest.raises(ConfigError, match=r"paint.seeds"):
        a_recipe(paint={"variants": 1, "seeds": seeds})


@pytest.mark.parametrize(
    ("column", "cell", "places"),
    [
        ("given_boxes_xyxy", "10,20,110,220", [[10, 20, 110, 220]]),
        ("given_boxes_xyxy", " 10 20.5  110, 220 ", [[10, 20.5, 110, 220]]),
        ("given_boxes_xyxy", "[10, 20, 110, 220]", [[10, 20, 110, 220]]),
        ("given_boxes_xyxy", "[[10,20,110,220], [0,0,5,5]]", [[10, 20, 110, 220], [0, 0, 5, 5]]),
        ("given_boxes_xyxy", [[10.0, 20.0, 110.0, 220.0]], [[10, 20, 110, 220]]),
        ("given_boxes_xyxy", [10, 20, 110, 220], [[10, 20, 110, 220]]),
        ("given_boxes_xyxy", " ", None),
        ("given_points", "60,120,1", [[60, 120, 1]]),
        ("given_points", "[[60,120,1],[3,4,0]]", [[60, 120, 1], [3, 4, 0]]),
    ],
)
def test_a_place_may_be_a_list_or_text(column, cell, places):
    (row,) = catalogue.rows(a_recipe(), a_table(**{column: [cell, None]}).slice(0, 1), "/data")

    assert (row["status"], row[column]) == ("ok", places)
    rows.to_table([row], pa.schema(list(rows.CATALOGUE_COLUMNS.items())))


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("given_boxes_xyxy", [[1.0, 2.0, 3.0]]),
        ("given_boxes_xyxy", [[50.0, 40.0, 10.0, 5.0]]),
        ("given_boxes_xyxy", [[float("nan")] * 4]),
        ("given_boxes_xyxy", [[0.0, 0.0, 1e30, 5.0]]),
        ("given_boxes_xyxy", [[0, None, 3, 4]]),
        ("given_boxes_xyxy", 7.5),
        ("given_boxes_xyxy", {"left": 1}),
        ("given_boxes_xyxy", "x"),
        ("given_boxes_xyxy", "10,20,110"),
        ("given_boxes_xyxy", f"[[{'9' * 400},2,3,4]]"),
        ("given_boxes_xyxy", "[" * 100_000),
        ("given_boxes_xyxy", "[[1,2,3,4], 5]"),
        ("given_points", [[50.0, 40.0]]),
        ("given_points", "50,40"),
        ("given_points", "50,40,2"),
    ],
)
def test_a_place_that_cannot_be_is_its_row_alone(column, cell):
    good, bad = catalogue.rows(a_recipe(), a_table(**{column: [None, cell]}), "/data")

    assert good["status"] == "ok"
    assert (bad["status"], bad["reason"], bad[column]) == ("failed", "bad_value", None)
    assert f"column {column!r} holds" in bad["detail"]
    assert len(bad["detail"]) < 600
