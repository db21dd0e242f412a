import json
import time

import pytest

from pipelines import lease, storage
from pipelines.errors import ConfigError


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
