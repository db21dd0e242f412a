import json
import time
from pathlib import Path

import pytest

from pipelines import lease, storage
from pipelines.errors import ConfigError, InfrastructureError

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


def test_second_holder_is_refused_and_told_who_holds(tmp_path):
    run = str(tmp_path / "run")

    with lease.held(run), pytest.raises(ConfigError, match=r"process \d+ is working on this run"), lease.held(run):
        pass


def test_lease_that_was_given_up_can_be_taken_at_once(tmp_path):
    run = str(tmp_path / "run")

    for _ in range(3):
        with lease.held(run):
            pass

    assert len(list((tmp_path / "run" / "lease").glob("*.json"))) == 3


def test_lease_of_a_dead_holder_lapses(tmp_path):
    run = str(tmp_path / "run")
    old = json.dumps({"owner": "a dead host, process 1", "until": time.time() - 1}).encode()
    storage.write(storage.join(run, "lease", "00000007.json"), old)

    with lease.held(run):
        assert (tmp_path / "run" / "lease" / "00000008.json").is_file()


def test_lease_is_renewed_as_long_as_the_work_goes_on(tmp_path):
    with lease.held(str(tmp_path / "run"), SHORT_S) as held:
        wait_until(held.until + SHORT_S)

        held.check()
        assert json.loads(storage.read(held.uri))["until"] > time.time()


def test_renewal_that_failed_is_tried_again(tmp_path):
    with lease.held(str(tmp_path / "run"), SHORT_S) as held:
        first = held.until
        make_unwritable(held)
        wait_until(first - SHORT_S / 2)
        Path(held.uri).rmdir()
        wait_until(first + SHORT_S / 4)

        held.check()
        assert held.until > first


def test_lease_that_cannot_be_renewed_stops_its_holder_and_lets_another_in(tmp_path, caplog):
    run = str(tmp_path / "run")

    with lease.held(run, SHORT_S) as held:
        written = storage.read(held.uri)
        make_unwritable(held)
        wait_until(held.until + SHORT_S / 4)
        Path(held.uri).rmdir()
        storage.write(held.uri, written)
        wait_until(json.loads(written)["until"])

        with lease.held(run) as other:
            other.check()
            with pytest.raises(InfrastructureError, match=r"could not be renewed and lapsed \d+ s ago.*nothing is pub"):
                held.check()

    assert "could not be written" in caplog.text


def test_storage_that_fails_at_the_end_hides_no_error(tmp_path):
    def fail(held):
        make_unwritable(held)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), lease.held(str(tmp_path / "run")) as held:
        fail(held)
