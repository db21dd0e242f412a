"""What a stranger sends takes seconds and megabytes at most, whatever it is; each in a process that can be ended."""

import subprocess
import sys

import pytest

from tests.hostile import DOORS, FILES


def run(*arguments, limit_s):
    try:
        return subprocess.run(
            [sys.executable, "-m", "tests.hostile", *arguments], capture_output=True, text=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"{arguments} took more than {limit_s} s")


@pytest.mark.parametrize("name", DOORS)
def test_no_text_or_file_holds_a_worker(name):
    told = run(name, limit_s=120)

    assert told.returncode == 0, told.stderr[-3000:]


@pytest.mark.parametrize("name", FILES)
def test_cost_of_a_file_is_bounded_whatever_it_says_of_itself(tmp_path, name):
    make, expected = FILES[name]
    (tmp_path / "a.bin").write_bytes(make())

    told = run("file", str(tmp_path / "a.bin"), limit_s=60)

    assert told.returncode == 0, told.stderr[-3000:]
    seconds, peak_bytes, reason = told.stdout.split()
    assert reason == str(expected)
    assert float(seconds) < 3
    assert int(peak_bytes) < 250_000_000
