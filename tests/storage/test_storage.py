"""What S3 and local folders do alike."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines import storage
from pipelines.errors import Changed, Missing, TooManyBytes

ODD_KEYS = ["a b.jpg", "é/ü 漢.jpg", "100%.jpg", "a%2Fb.jpg", "1+1=2&x.jpg", "q?x#y.jpg", "it's;@:,.jpg"]


@pytest.fixture(params=["local", "s3"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "base")
    return f"s3://{request.getfixturevalue('bucket')}/base"


def test_what_is_written_is_read_back(base):
    uri = storage.join(base, "deep", "er.bin")

    empty, full = storage.write(storage.join(base, "empty"), b""), storage.write(uri, b"first")

    assert empty
    assert full
    assert storage.read(storage.join(base, "empty")) == b""
    assert storage.read(uri) == b"first"
    assert storage.write(uri, b"second")
    assert storage.read(uri) == b"second"


def test_deleting_twice_is_fine(base):
    uri = storage.join(base, "x")
    storage.write(uri, b"x")

    storage.delete(uri)
    storage.delete(uri)

    assert not storage.exists(uri)


def test_only_the_very_file_exists(base):
    storage.write(storage.join(base, "folder", "file.jpg"), b"x")

    assert storage.exists(storage.join(base, "folder", "file.jpg"))
    assert not storage.exists(storage.join(base, "folder"))
    assert not storage.exists(storage.join(base, "folder", "file"))


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_names_come_back_as_they_were(base, key):
    uri = storage.join(base, key)

    storage.write(uri, key.encode())

    (listed,) = storage.list_files(base)
    assert listed.uri == uri
    assert storage.read(listed.uri, listed.version) == key.encode()
    file_system, path = storage.arrow(uri)
    with file_system.open_input_file(path) as file:
        assert file.read() == key.encode()


def test_listing_is_ordered_and_stays_in_its_folder(base):
    names = ["cat/b.jpg", "cat/a/z.jpg", "cat/a-1.jpg", "cat/a.jpg", "catalogue2/x.jpg", "cat.jpg"]
    for name in names:
        storage.write(storage.join(base, name), name.encode())

    listed = list(storage.list_files(storage.join(base, "cat")))

    expected = ["cat/a-1.jpg", "cat/a.jpg", "cat/a/z.jpg", "cat/b.jpg"]
    assert [file.uri for file in listed] == [storage.join(base, name) for name in expected]
    assert [file.size_bytes for file in listed] == [len(name) for name in expected]
    assert [file.uri for file in storage.list_files(storage.join(base, "cat") + "/")] == [file.uri for file in listed]
    shallow = storage.list_files(storage.join(base, "cat"), deep=False)
    assert [file.uri for file in shallow] == [storage.join(base, n) for n in expected if n != "cat/a/z.jpg"]


def test_a_file_lists_itself(base):
    storage.write(storage.join(base, "one.jpg"), b"x")
    storage.write(storage.join(base, "one.jpg2"), b"x")

    assert [file.uri for file in storage.list_files(storage.join(base, "one.jpg"))] == [storage.join(base, "one.jpg")]


def test_another_version_than_planned_is_refused(base):
    uri = storage.join(base, "a.jpg")
    storage.write(uri, b"old")
    (planned,) = storage.list_files(base)

    storage.write(uri, b"newer")

    with pytest.raises(Changed, match="no longer the version"):
        storage.read(uri, planned.version)
    (now,) = storage.list_files(base)
    assert storage.read(uri, now.version) == b"newer"


def test_missing_file_is_told(base):
    storage.write(storage.join(base, "there"), b"x")

    for gone in ("gone", "there/gone", "x" * 2000):
        with pytest.raises(Missing, match="is not there"):
            storage.read(storage.join(base, gone))
    with pytest.raises(Missing):
        storage.read(storage.join(base, "gone"), version="0123")


def test_too_many_bytes_are_refused_and_just_enough_are_read(base):
    uri = storage.join(base, "a.bin")
    storage.write(uri, b"12345")

    assert storage.read(uri, max_bytes=5) == b"12345"
    with pytest.raises(TooManyBytes, match=r"has 5 bytes; at most 4"):
        storage.read(uri, max_bytes=4)


def test_put_if_absent_leaves_the_first_one(base):
    uri = storage.join(base, "run.json")

    first, second = storage.write(uri, b"first", if_absent=True), storage.write(uri, b"second", if_absent=True)

    assert (first, second) == (True, False)
    assert storage.read(uri) == b"first"


def test_of_rivals_exactly_one_writes(base):
    uri = storage.join(base, "lease")
    gate = threading.Barrier(6)

    def rival(number: int) -> bool:
        gate.wait()
        return storage.write(uri, f"{number}".encode(), if_absent=True)

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(rival, range(6)))

    assert won.count(True) == 1
    assert storage.read(uri) == f"{won.index(True)}".encode()


def test_storage_loads_neither_torch_nor_ray():
    asked = "import sys, pipelines.storage, pipelines.catalogue; print(sorted({'torch', 'ray'} & set(sys.modules)))"

    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"
