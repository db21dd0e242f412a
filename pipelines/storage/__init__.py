"""S3 (boto3) and local files behind the functions of this page; a URI says which of the two it is.

A URI is `s3://bucket/key`, the key as it is (nothing is percent-decoded), or a local path. Endpoint, region and
credentials come from the normal AWS environment (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID` ...), so that
any S3 endpoint works. Reading checks the length, boto3's checksum, and the MD5 where the ETag is one.

Errors: `Missing`, `Changed` and `TooManyBytes` are about one file; `StorageError` is about the bucket, the folder, the
credentials or the network, and stops a run. No message holds a credential.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.storage import local, s3
from pipelines.storage.file import File
from pipelines.storage.uris import S3, absolute, is_below, is_s3, join, name, parent, resolve, shown, unsigned

if TYPE_CHECKING:
    import pyarrow.fs

__all__ = [
    "S3",
    "File",
    "Store",
    "absolute",
    "arrow",
    "delete",
    "exists",
    "is_below",
    "is_s3",
    "join",
    "list_files",
    "list_folders",
    "name",
    "parent",
    "read",
    "resolve",
    "shown",
    "unsigned",
    "write",
]


def list_files(uri: str, deep: bool = True, missing_ok: bool = False) -> Iterator[File]:
    """List everything below a prefix or folder, or the one file itself, ordered by URI; no file is opened.

    A prefix is a folder: `s3://b/cat` does not list `s3://b/catalogue2/x`. An empty one lists nothing. Errors are
    raised when the first item is asked for.

    Args:
        uri: an `s3://` prefix or object, or a local folder or file.
        deep: whether folders within the folder are listed too.
        missing_ok: a local folder that does not exist lists nothing, as a prefix of S3 does.

    Raises:
        StorageError: the bucket or the local folder does not exist, refuses the credentials, or does not answer.
    """
    if is_s3(uri):
        return s3.list_files(uri, deep)
    return iter(()) if missing_ok and not os.path.exists(uri) else local.list_files(uri, deep)


def list_folders(uri: str) -> list[str]:
    """List the folders that lie directly in a prefix or folder, in order; one that does not exist has none.

    Raises:
        StorageError: the bucket does not exist, refuses the credentials, or does not answer.
    """
    return s3.list_folders(uri) if is_s3(uri) else local.list_folders(uri)


def read(uri: str, version: str | None = None, max_bytes: int | None = None) -> bytes:
    """Read a whole file and check it.

    Args:
        uri: the file.
        version: the version that a listing gave; another one is refused. None takes any.
        max_bytes: a larger file is refused by its announced length; None sets no bound.

    Raises:
        Missing, Changed, TooManyBytes: the file does not exist, has another version by now, or is too large.
        StorageError: the store refuses or does not answer, or the body came damaged five times.
    """
    return s3.read(uri, version, max_bytes) if is_s3(uri) else local.read(uri, version, max_bytes)


def write(uri: str, data: bytes, if_absent: bool = False) -> bool:
    """Put a whole file; a reader sees all of it or nothing. Missing local parent folders are made.

    Args:
        uri: the file.
        data: its bytes.
        if_absent: leave a file that exists alone; of several rivals exactly one writes.

    Returns:
        True if this call wrote the file, False if `if_absent` and it existed.

    Raises:
        StorageError: the store refuses, is full, or does not answer.
    """
    return s3.write(uri, data, if_absent) if is_s3(uri) else local.write(uri, data, if_absent)


def delete(uri: str) -> None:
    """Remove a file; a missing one is fine.

    Raises:
        StorageError: the store refuses or does not answer.
    """
    if is_s3(uri):
        s3.delete(uri)
    else:
        local.delete(uri)


def exists(uri: str) -> bool:
    """Whether there is a file of exactly this URI; a folder is not a file.

    Raises:
        StorageError: the bucket does not exist, refuses the credentials, or does not answer.
    """
    return s3.exists(uri) if is_s3(uri) else os.path.isfile(uri)


def arrow(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The URI for pyarrow and Ray Data: a file system with boto3's endpoint, region and keys, and the path in it.

    Raises:
        StorageError: there are no credentials.
    """
    return s3.arrow(uri) if is_s3(uri) else local.arrow(uri)


@dataclass(frozen=True)
class Store:
    """Puts each picture at the sha256 of its own bytes, if absent: a row that is done again writes nothing again."""

    root_uri: str

    def put(self, folder: str, data: bytes, suffix: str) -> str:
        """Put a file under `folder` (images, crops or variants) and return its URI."""
        digest = hashlib.sha256(data).hexdigest()
        uri = join(self.root_uri, folder, digest[:2], f"{digest}.{suffix}")
        write(uri, data, if_absent=True)
        return uri

    def holds(self, folder: str, uri: str) -> bool:
        """Whether a URI lies below `folder` of this store; only the names are compared."""
        return uri.startswith(join(self.root_uri, folder) + "/")
