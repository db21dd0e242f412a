"""The S3 server of the demo: closed to strangers, and the same again at a second start."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from jobs import local_s3
from pipelines import storage


def test_its_inner_ports_give_nothing_away(s3, bucket):
    storage.write(f"s3://{bucket}/a.jpg", b"x")
    filer = json.loads((s3.log.parent / "ports.json").read_text())[1]

    for method in ("GET", "DELETE"):
        asked = urllib.request.Request(f"http://127.0.0.1:{filer}/buckets/{bucket}/a.jpg", method=method)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(asked, timeout=10)

    assert storage.read(f"s3://{bucket}/a.jpg") == b"x"


def test_a_bucket_may_be_made_twice(s3, bucket):
    s3.create_bucket(bucket)


def test_secrets_are_for_the_owner_alone_and_not_in_the_log(s3: local_s3.LocalS3):
    folder = s3.log.parent

    assert (folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (folder / "identities.json").stat().st_mode & 0o777 == 0o600
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in s3.log.read_text()
    assert s3.environment["AWS_SECRET_ACCESS_KEY"] not in repr(s3)


def test_a_second_start_finds_objects_and_credentials_again(s3, tmp_path: Path, monkeypatch):
    environments = []
    for number in range(2):
        with local_s3.start(tmp_path) as server:
            environments.append(server.environment)
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            server.create_bucket("kept")

            assert storage.write("s3://kept/a.jpg", b"x", if_absent=True) is (number == 0)

        assert server.process.returncode is not None
    monkeypatch.undo()
    assert environments[0] == environments[1]
