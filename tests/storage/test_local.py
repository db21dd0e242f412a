"""What only local folders do."""

from __future__ import annotations

import os

import pytest

from pipelines import storage
from pipelines.errors import Missing, StorageError


def test_local_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StorageError, match="there is no folder or file"):
        list(storage.list_files(str(tmp_path / "nowhere")))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "taken").mkdir()

    for uri in (tmp_path / "file" / "below", tmp_path / "taken"):
        with pytest.raises(StorageError, match="cannot be used"):
            storage.write(str(uri), b"y")

    assert sorted(os.listdir(tmp_path)) == ["file", "taken"]


def test_a_link_that_leads_to_itself_is_not_there(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")

    assert list(storage.list_files(str(tmp_path))) == []
    with pytest.raises(Missing, match="is not there"):
        storage.read(str(tmp_path / "loop.jpg"))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")

    assert list(storage.list_files(str(tmp_path))) == []
    with pytest.raises(Missing, match="not a file"):
        storage.read(str(tmp_path / "pipe.jpg"))
