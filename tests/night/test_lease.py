import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.errors import ConfigError, InfrastructureError
from pipelines.night import lease

SHORT_S = 0.8


def make_unwritable(held):
    """From now on the storage refuses to write the lease, really: a folder has its name."""
    file = Path(held.uri)
    while not file.is_dir():  # a renewal may come between
        file.unlink(missing_ok=True)
        file.mkdir(exist_ok=True)


def wait_until(moment):
    while time.time() < moment:
        time.sleep(0.02)


def put_lease(run, until, digest=""):
    content = {"owner": "another host, process 1", "until": until, "digest": digest}
    storage.write(storage.join(run, "lease.json"), json.dumps(content).encode())


def test_run_has_one_owner_and_who_comes_second_hears_what_it_works_on(tmp_path):
    run = str(tmp_path / "run")

    with lease.held(run, "the digest"), pytest.raises(lease.Owned) as refused, lease.held(run):
        pass

    assert refused.value.digest == "the digest"


def test_run_of_a_dead_owner_is_never_owned_again(tmp_path):
    run = str(tmp_path / "run")
    with lease.held(run):
        pass

    with pytest.raises(lease.Owned), lease.held(run):
        pass


def test_nobody_is_waited_for_where_the_lease_was_given_up_or_lapsed_or_never_put(tmp_path):
    runs = [str(tmp_path / name) for name in ("none", "given-up", "lapsed")]
    with lease.held(runs[1]):
        pass
    put_lease(runs[2], until=time.time() - 1)

    assert [lease.wait_for_the_dead(run) for run in runs] == [False, False, False]


def test_dead_holder_is_waited_for_until_its_lease_lapses(tmp_path, caplog):
    run = str(tmp_path / "run")
    caplog.set_level("INFO")
    put_lease(run, until=time.time() + SHORT_S)
    started = time.time()

    assert lease.wait_for_the_dead(run, look_every_s=0.1)

    assert SHORT_S - 0.1 < time.time() - started < SHORT_S + 2
    assert "another host, process 1 held the lease" in caplog.text


def test_holder_that_renews_is_alive_and_refuses_others(tmp_path):
    run = str(tmp_path / "run")

    with (
        lease.held(run, lease_s=SHORT_S),
        pytest.raises(ConfigError, match=r"process \d+ is working on .*run, and its lease is being renewed"),
    ):
        lease.wait_for_the_dead(run, look_every_s=0.1)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"nonsense", b'{"owner": 1, "until": "soon"}'])
def test_file_that_is_no_lease_holds_nobody_up(tmp_path, content, caplog):
    run = str(tmp_path / "run")
    storage.write(storage.join(run, "lease.json"), content)

    assert not lease.wait_for_the_dead(run)
    assert "is no lease of this version" in caplog.text
    with pytest.raises(lease.Owned), lease.held(run):
        pass


def test_lease_is_renewed_as_long_as_the_work_goes_on(tmp_path):
    with lease.held(str(tmp_path / "run"), lease_s=SHORT_S) as held:
        wait_until(held.until + SHORT_S)

        held.check()
        assert json.loads(storage.read(held.uri))["until"] > time.time()


def test_renewal_that_failed_is_tried_again(tmp_path):
    with lease.held(str(tmp_path / "run"), lease_s=SHORT_S) as held:
        first = held.until
        make_unwritable(held)
        wait_until(first - SHORT_S / 2)
        Path(held.uri).rmdir()
        wait_until(first + SHORT_S / 4)

        held.check()
        assert held.until > first


def test_lease_that_cannot_be_renewed_stops_its_holder_and_tells_it_while_it_works(tmp_path, caplog):
    told = []

    with lease.held(str(tmp_path / "run"), lease_s=SHORT_S) as held:
        held.on_lapse = told.append
        make_unwritable(held)
        wait_until(held.until + SHORT_S / 2)
        Path(held.uri).rmdir()

        with pytest.raises(InfrastructureError, match=r"could not be renewed and lapsed \d+ s ago.*nothing is pub"):
            held.check()

    assert [type(error) for error in told] == [InfrastructureError]
    assert "could not be written" in caplog.text


def test_storage_that_fails_at_the_end_hides_no_error(tmp_path):
    def fail(held):
        make_unwritable(held)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), lease.held(str(tmp_path / "run")) as held:
        fail(held)


def test_process_that_is_told_to_end_gives_its_lease_up(tmp_path):
    run = str(tmp_path / "run")
    lines = (
        "import time",
        "from pipelines.night import lease",
        f"with lease.held({run!r}):",
        " print('working', flush=True)",
    )
    work = "\n".join((*lines, " time.sleep(60)"))
    holder = subprocess.Popen([sys.executable, "-c", work], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "working\n"

    os.kill(holder.pid, signal.SIGTERM)

    assert holder.wait(timeout=30) == 128 + signal.SIGTERM
    assert json.loads(storage.read(storage.join(run, "lease.json")))["until"] == 0
    assert not lease.wait_for_the_dead(run)
