"""Storage, the same on S3 and in local folders, and what it says when a store refuses."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs.local_s3 import LocalS3
from pipelines import storage
from pipelines.errors import Changed, ConfigError, Missing, StorageError, TooManyBytes

ODD_KEYS = ["a b.jpg", "é/ü 漢.jpg", "100%.jpg", "a%2Fb.jpg", "1+1=2&x.jpg", "q?x#y.jpg", "it's;@:,.jpg"]


@pytest.fixture(params=["local", "s3"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "base")
    return f"s3://{request.getfixturevalue('bucket')}/base"


def test_bucket_without_the_prefix_lists_nothing(bucket):
    assert list(storage.list_files(f"s3://{bucket}")) == []
    assert list(storage.list_files(f"s3://{bucket}/nothing/here")) == []


def test_local_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StorageError, match="there is no folder or file"):
        list(storage.list_files(str(tmp_path / "nowhere")))


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


def test_folder_markers_are_not_files(bucket):
    storage.write(f"s3://{bucket}/cat/", b"")
    storage.write(f"s3://{bucket}/cat/a.jpg", b"x")

    assert [file.uri for file in storage.list_files(f"s3://{bucket}/cat")] == [f"s3://{bucket}/cat/a.jpg"]


def test_listing_goes_on_past_the_first_page(bucket):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: storage.write(f"s3://{bucket}/many/{number:04}", b""), range(1_010)))

    listed = [file.uri for file in storage.list_files(f"s3://{bucket}/many")]

    assert listed == [f"s3://{bucket}/many/{number:04}" for number in range(1_010)]


def test_version_on_s3_is_the_etag(bucket):
    storage.write(f"s3://{bucket}/a.jpg", b"x")

    (listed,) = storage.list_files(f"s3://{bucket}")

    assert listed.version == hashlib.md5(b"x").hexdigest()


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


def test_missing_bucket_is_told_by_name(s3):
    for ask in (
        lambda uri: list(storage.list_files(uri)),
        storage.read,
        storage.exists,
        lambda uri: storage.write(uri, b""),
    ):
        with pytest.raises(StorageError, match="the bucket 'no-such-bucket' does not exist"):
            ask("s3://no-such-bucket/a.jpg")


def test_impossible_bucket_name_is_told(s3):
    with pytest.raises(StorageError, match="no possible name of a bucket"):
        storage.read("s3://No Bucket/a.jpg")


def test_refused_credentials_are_told_and_not_shown(bucket, monkeypatch):
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    for name, wrong in [("AWS_SECRET_ACCESS_KEY", "wrongsecret"), ("AWS_ACCESS_KEY_ID", "wrongkey")]:
        monkeypatch.setenv(name, wrong)

        with pytest.raises(StorageError, match="refuses these credentials") as refused:
            list(storage.list_files(f"s3://{bucket}"))

        assert wrong not in str(refused.value)
        assert secret not in str(refused.value)


def test_who_may_only_read_cannot_write(bucket, s3: LocalS3, monkeypatch):
    storage.write(f"s3://{bucket}/a.jpg", b"x")
    for name, value in s3.viewer_environment.items():
        monkeypatch.setenv(name, value)

    assert storage.read(f"s3://{bucket}/a.jpg") == b"x"
    with pytest.raises(StorageError, match="refuses these credentials"):
        storage.write(f"s3://{bucket}/a.jpg", b"y")


def test_no_credentials_at_all_are_told(s3, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(StorageError, match="no complete AWS credentials"):
        storage.read("s3://b/a.jpg")
    with pytest.raises(StorageError, match="no complete AWS credentials"):
        storage.arrow("s3://b/a.jpg")


def test_endpoint_that_does_not_answer_is_named(monkeypatch):
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        _point_at(monkeypatch, endpoint)

        with pytest.raises(StorageError, match=f"the S3 endpoint {endpoint} does not answer"):
            storage.read("s3://b/a.jpg")


def test_a_body_that_breaks_off_is_never_taken_for_the_file(monkeypatch):
    with _FaultyStore() as store:
        _point_at(monkeypatch, store.endpoint)

        with pytest.raises(StorageError, match="came damaged five times"):
            storage.read("s3://b/short.jpg")
        with pytest.raises(StorageError, match="its MD5 is not its ETag"):
            storage.read("s3://b/wrong.jpg", max_bytes=100)

    assert store.requests.count("GET /b/short.jpg") == 5


def test_a_write_whose_answer_was_lost_is_still_its_own(monkeypatch):
    with _FaultyStore() as store:
        _point_at(monkeypatch, store.endpoint)

        assert storage.write("s3://b/run.json", b"mine", if_absent=True) is True
        assert storage.write("s3://b/run.json", b"another's", if_absent=True) is False


def test_storage_loads_neither_torch_nor_ray():
    asked = "import sys, pipelines.storage, pipelines.catalogue; print(sorted({'torch', 'ray'} & set(sys.modules)))"

    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


def _point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name, value in [("ENDPOINT_URL", endpoint), ("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret")]:
        monkeypatch.setenv(f"AWS_{name}", value)


class _FaultyStore:
    """An HTTP server that breaks off bodies, sends wrong ones, and loses its answer to the first write."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.mark: str | None = None
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                super().handle_one_request()
                self.close_connection = True

            def do_GET(self) -> None:
                store.requests.append(f"GET {self.path}")
                is_short = "short" in self.path
                self._answer(200, {"Content-Length": "10" if is_short else "5", "ETag": f'"{"0" * 32}"'}, b"12345")

            def do_PUT(self) -> None:
                store.requests.append(f"PUT {self.path}")
                self.rfile.read(int(self.headers["Content-Length"]))
                if store.mark is None:
                    store.mark = self.headers["x-amz-meta-packshot-write"]
                    return  # written, but the answer is lost
                self._answer(412, {"Content-Length": "0"}, b"")

            def do_HEAD(self) -> None:
                self._answer(200, {"Content-Length": "4", "x-amz-meta-packshot-write": str(store.mark)}, b"")

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> _FaultyStore:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
