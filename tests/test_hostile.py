"""What a stranger sends takes seconds and megabytes at most, whatever it is; each in a process that can be ended."""

import multiprocessing

import pytest

from tests import hostile

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.hostile"])  # imported once: each process is forked from one that has it


def run(work, *arguments, limit_s):
    with PROCESSES.Pool(1) as process:
        try:
            return process.apply_async(work, arguments).get(limit_s)
        except multiprocessing.TimeoutError:
            pytest.fail(f"{work.__name__} of {arguments} took more than {limit_s} s, or its process died")


@pytest.mark.parametrize("name", hostile.DOORS)
def test_no_text_or_file_holds_a_worker(name):
    run(hostile.try_door, name, limit_s=120)


@pytest.mark.parametrize("name", hostile.FILES)
def test_cost_of_a_file_is_bounded_whatever_it_says_of_itself(tmp_path, name):
    make, expected = hostile.FILES[name]
    (tmp_path / "a.bin").write_bytes(make())

    seconds, peak_bytes, reason = run(hostile.read_file, tmp_path / "a.bin", limit_s=60)

    assert reason == expected
    assert seconds < 3
    assert peak_bytes < 250_000_000
