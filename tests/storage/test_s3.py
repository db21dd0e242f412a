"""What only S3 does, and what is said when it refuses, breaks off or does not answer."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobs.local_s3 import LocalS3
from pipelines import storage
from pipelines.errors import StorageError


def test_bucket_without_the_prefix_lists_nothing(bucket):
    assert list(storage.list_files(f"s3://{bucket}")) == []
    assert list(storage.list_files(f"s3://{bucket}/nothing/here")) == []


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
