"""What an operator asks in the morning: which items are not as they were yesterday."""

import json

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from pipelines.errors import ConfigError
from pipelines.night.diff import Difference, difference, runs_to_compare
from tests.night.test_manifest import published

OLD = {"gone": "ok", "same": "ok", "fell": "ok", "rose": "failed"}
NEW = {"new": "ok", "same": "ok", "fell": "rejected", "rose": "ok"}


@pytest.fixture
def nights(tmp_path):
    """Two published runs, 2 and 5; a third one, 6, broke off."""
    (tmp_path / "runs" / "00000006").mkdir(parents=True)
    return (
        published(tmp_path, 2, OLD, {"same": "1", "fell": "2"}),
        published(tmp_path, 5, NEW, {"same": "1", "rose": "3"}),
    )


def test_a_run_differs_in_nothing_from_itself(nights):
    assert difference(nights[0], nights[0]) == Difference([], [], {}, [])


def test_items_are_told_by_what_happened_to_them(nights):
    assert difference(*nights) == Difference(
        added=["new"],
        gone=["gone"],
        changed_status={"failed -> ok": ["rose"], "ok -> rejected": ["fell"]},
        changed_pictures=["fell", "rose"],
    )


@pytest.mark.parametrize(
    ("asked", "opened"), [((None, None), (2, 5)), ((2, None), (2, 5)), ((5, 2), (5, 2))], ids=["none", "one", "two"]
)
def test_the_newest_run_is_compared_with_the_one_before_unless_others_are_named(nights, tmp_path, asked, opened):
    assert tuple(run.run_id for run in runs_to_compare(str(tmp_path), *asked)) == opened


def test_one_run_alone_cannot_be_compared(tmp_path):
    published(tmp_path, 1, OLD)

    with pytest.raises(ConfigError, match="1 runs are published"):
        runs_to_compare(str(tmp_path), None, None)


def test_the_command_counts_and_names_the_items(nights, tmp_path):
    text = CliRunner().invoke(app, ["diff", str(tmp_path)])
    told = CliRunner().invoke(app, ["diff", str(tmp_path), "2", "5", "--json"])
    missing = CliRunner().invoke(app, ["diff", str(tmp_path), "7"])

    lines = [line.split() for line in text.stdout.splitlines()]
    assert text.exit_code == told.exit_code == 0
    assert ["gone", "1", "gone"] in lines
    assert ["ok", "->", "rejected", "1", "fell"] in lines
    assert ["other", "pictures", "2", "fell,", "rose"] in lines
    assert json.loads(told.stdout)["changed_status"] == {"failed -> ok": ["rose"], "ok -> rejected": ["fell"]}
    assert missing.exit_code == 2
