import io

import numpy as np
import pytest
from rich.console import Console

from sample_world.evaluation.bars import Bar, as_facts, as_table
from sample_world.evaluation.figures import Figure

BARS = {"found": Bar(0.9, 0.99), "missed ones": Bar(0.05, 0.01, at_most=True), "not asked": Bar(1, 2)}
FIGURES = {
    "a ceiling": Figure(1.0, 0.9, 1.0, 10),
    "missed ones": Figure(0.2, 0.1, 0.3, 10),
    "found": Figure(0.95, 0.9, 0.98, 10),
}


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.89, "missed"), (0.9, "met"), (0.99, "stretch met"), (np.nan, "not measured")]
)
def test_a_bar_is_met_from_its_own_number_on(value, verdict):
    assert Bar(0.9, 0.99).verdict(value) == verdict


@pytest.mark.parametrize(("value", "verdict"), [(0.06, "missed"), (0.05, "met"), (0.01, "stretch met")])
def test_a_bar_of_at_most_turns_round(value, verdict):
    assert Bar(0.05, 0.01, at_most=True).verdict(value) == verdict


def test_table_shows_bars_first_and_notes_and_leaves_out_what_was_not_measured():
    told = io.StringIO()
    Console(file=told, width=120).print(as_table(FIGURES, BARS, ["no judge"]))

    lines = told.getvalue().splitlines()
    at = {name: next(number for number, line in enumerate(lines) if line.strip().startswith(name)) for name in FIGURES}
    assert at["found"] < at["missed ones"] < at["a ceiling"]
    assert lines[at["found"]].rstrip().endswith("met")
    assert lines[at["missed ones"]].rstrip().endswith("missed")
    assert "<= 0.05" in lines[at["missed ones"]]
    assert "no judge" in told.getvalue()
    assert "not asked" not in told.getvalue()


def test_facts_have_null_for_what_is_no_number():
    facts = as_facts({"found": Figure(np.nan, np.nan, np.nan, 0), "other": Figure(1, 1, 1, 3)}, BARS, [])

    found, other = facts["figures"]
    assert found["value"] is None
    assert (found["n"], found["bar"], found["verdict"]) == (0, 0.9, "not measured")
    assert (other["value"], other["bar"]) == (1, None)
