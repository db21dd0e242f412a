"""URIs as text: joined, resolved, compared, and shown without secrets."""

from __future__ import annotations

import os
import time

import pytest

from pipelines import storage
from pipelines.errors import ConfigError


def test_what_a_person_types_may_lead_upwards(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    assert storage.absolute("../there/a.csv") == str(tmp_path / "there" / "a.csv")
    assert storage.absolute("s3://b/cat/") == "s3://b/cat/"
    for path in ("", "https://x/a.csv", "s3://b/../c", "a\n"):
        with pytest.raises(ConfigError):
            storage.absolute(path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("s3://b/q?x#y.jpg", "s3://b/q?x#y.jpg"),
        ("https://me:secret@shop/a.jpg?v=1&sig=secret", "https://shop/a.jpg?..."),
        ("1,https://shop/a?Signature=secret,mug", "1,https://shop/a?..."),
        ("a.jpg?v=1&X-Amz-Signature=secret&w=2", "a.jpg?v=1&X-Amz-Signature=...&w=2"),
        ("s3://b/a.jpg?awsaccesskeyid=secret", "s3://b/a.jpg?awsaccesskeyid=..."),
        ("x" * 1000, "x" * 300 + "..."),
    ],
)
def test_no_signature_is_shown(text, shown):
    assert storage.shown(text) == shown


@pytest.mark.parametrize("piece", ["://", "?sig=", "https://a", "?", "@", "&token=&", "a", "://x?"])
def test_what_strangers_write_is_shown_at_once(piece):
    started = time.process_time()

    storage.shown(piece * 200_000)
    storage.unsigned(piece * 20_000)

    assert time.process_time() - started < 1


@pytest.mark.parametrize("root", ["s3://b", "/data"])
def test_below_a_folder_is_the_folder_and_what_lies_in_it(root):
    folder = f"{root}/cat"

    assert all(storage.is_below(uri, folder) for uri in (folder, f"{folder}/", f"{folder}/a.jpg", f"{folder}/a/b/c"))
    assert storage.is_below(f"{folder}/a.jpg", f"{folder}/")
    assert storage.is_below(f"{folder}/a.jpg", root)
    assert not any(storage.is_below(uri, folder) for uri in (root, f"{root}/catalogue2/a.jpg", f"{root}/Cat/a.jpg"))


def test_nothing_in_a_bucket_is_below_a_local_folder_or_another_bucket():
    assert not storage.is_below("s3://b/cat/a.jpg", "/")
    assert not storage.is_below("/b/cat/a.jpg", "s3://b")
    assert not storage.is_below("s3://bb/cat/a.jpg", "s3://b")
    assert storage.is_below("/b/cat/a.jpg", "/")


def test_a_local_path_is_where_its_links_lead(tmp_path):
    for name in ("cat", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "cat" / "out").symlink_to(tmp_path / "other")
    (tmp_path / "same").symlink_to(tmp_path / "cat")

    assert not storage.is_below(str(tmp_path / "cat" / "out" / "a.jpg"), str(tmp_path / "cat"))
    assert storage.is_below(str(tmp_path / "same" / "a.jpg"), str(tmp_path / "cat"))
    assert storage.is_below(str(tmp_path / "cat" / "a.jpg"), str(tmp_path / "same"))


def test_joined_paths_have_one_slash_between():
    assert storage.join("s3://b", "runs", "1") == "s3://b/runs/1"
    assert storage.join("s3://b/out/", "/runs/", "1") == "s3://b/out/runs/1"
    assert storage.join("/", "tmp") == "/tmp"
    assert storage.join("s3://b/out/") == "s3://b/out/"


def test_relative_paths_lie_below_the_base_and_absolute_ones_stay():
    assert storage.resolve("s3://b/cat", "./img/a b.jpg") == "s3://b/cat/img/a b.jpg"
    assert storage.resolve("s3://b/cat", "s3://c/a.jpg") == "s3://c/a.jpg"
    assert storage.resolve("s3://b/cat", "/data/a.jpg") == "/data/a.jpg"
    assert storage.resolve("/data", "img/./a.jpg") == "/data/img/a.jpg"
    assert storage.resolve(None, "a.jpg") == os.path.join(os.getcwd(), "a.jpg")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "empty"),
        ("a\0.jpg", "control characters"),
        ("a\n.jpg", "control characters"),
        ("../a.jpg", "segment"),
        ("img/../../a.jpg", "segment"),
        ("s3://c/../a.jpg", "segment"),
        ("https://example.com/a.jpg", "scheme"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path, words):
    with pytest.raises(ConfigError, match=words):
        storage.resolve("s3://b/cat", path)
