"""S3 by boto3: what `pipelines.storage` does in a bucket; its functions are documented there.

boto3 retries in standard mode. Reads whose body broke off, and put-if-absent writes that met a rival's, are retried
here, since boto3 retries neither.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import mimetypes
import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tenacity
from botocore import exceptions as aws  # type: ignore[import-untyped, unused-ignore]  # botocore ships no types

from pipelines.errors import StorageError, TooManyBytes
from pipelines.storage.file import File
from pipelines.storage.s3_client import client, plain_errors, status_of
from pipelines.storage.uris import S3, bucket_and_key

if TYPE_CHECKING:
    import pyarrow.fs

_PIECE_BYTES = 1 << 20
_DIRECTORY_BUCKET = "--x-s3"  # ends the names of S3 Express buckets
_OWN_ENDPOINT = re.compile(r"s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?")


class _Damaged(Exception):
    """The body was shorter, or other bytes, than announced; asking again may help."""


# --- listing


def list_files(uri: str, deep: bool) -> Iterator[File]:
    """List the objects below a prefix, and the object of that very key; folder markers are none."""
    bucket, key = bucket_and_key(uri)
    itself = _object(bucket, key, uri) if key and not key.endswith("/") else None
    if itself:
        yield itself
    below = _below(uri, bucket, key, deep)
    # AWS lists in the order of the keys; SeaweedFS goes folder by folder, and a directory bucket has no order.
    is_ordered = _is_own_endpoint() and not bucket.endswith(_DIRECTORY_BUCKET)
    yield from below if is_ordered else sorted(below, key=lambda file: file.uri)


def list_folders(uri: str) -> list[str]:
    """List the common prefixes directly below a prefix."""
    bucket, key = bucket_and_key(uri)
    with plain_errors(uri):
        pages = _pages(bucket, key, deep=False)
        found = [prefix["Prefix"] for page in pages for prefix in page.get("CommonPrefixes", ())]
    return sorted(f"{S3}{bucket}/{prefix.rstrip('/')}" for prefix in found)


def exists(uri: str) -> bool:
    """Ask for an object's head; where there is none, make sure that there is the bucket."""
    bucket, key = bucket_and_key(uri)
    if _object(bucket, key, uri):
        return True
    with plain_errors(uri):  # a HEAD answers 404 for a missing bucket as well; a listing tells them apart
        client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    return False


def _below(uri: str, bucket: str, key: str, deep: bool) -> Iterator[File]:
    with plain_errors(uri):
        for page in _pages(bucket, key, deep):
            for found in page.get("Contents", ()):
                if not (found["Key"].endswith("/") and found["Size"] == 0):
                    yield _file(bucket, found["Key"], found["Size"], found["ETag"])


def _pages(bucket: str, key: str, deep: bool) -> Any:
    wanted = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else ""} | ({} if deep else {"Delimiter": "/"})
    return client().get_paginator("list_objects_v2").paginate(**wanted)


def _object(bucket: str, key: str, uri: str) -> File | None:
    with plain_errors(uri):
        try:
            head = client().head_object(Bucket=bucket, Key=key)
        except aws.ClientError as error:
            if status_of(error) == 404:
                return None
            raise
    return _file(bucket, key, head["ContentLength"], head["ETag"])


def _file(bucket: str, key: str, size_bytes: int, etag: str) -> File:
    return File(f"{S3}{bucket}/{key}", size_bytes, etag.strip('"'))


def _is_own_endpoint() -> bool:
    return bool(_OWN_ENDPOINT.fullmatch(urlsplit(client().meta.endpoint_url).hostname or ""))


# --- reading


def read(uri: str, version: str | None, max_bytes: int | None) -> bytes:
    """Read an object, up to five times where its body came damaged."""
    # boto3 asks again for an answer, never for a body that broke off.
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_Damaged),
        stop=tenacity.stop_after_attempt(5),
        wait=tenacity.wait_random_exponential(0.1, max=2),
        reraise=True,
    )
    try:
        data: bytes = retrying(_read_once, uri, version, max_bytes)
    except _Damaged as error:
        raise StorageError(f"{uri} came damaged five times: {error}; check the network and the store") from error
    return data


def _read_once(uri: str, version: str | None, max_bytes: int | None) -> bytes:
    bucket, key = bucket_and_key(uri)
    with plain_errors(uri):
        answer = client().get_object(Bucket=bucket, Key=key, **({"IfMatch": f'"{version}"'} if version else {}))
    length = answer.get("ContentLength")
    with contextlib.closing(answer["Body"]) as body:
        if max_bytes is not None and length is not None and length > max_bytes:
            raise TooManyBytes(f"{uri} has {length:,} bytes; at most {max_bytes:,} are read")
        try:
            data = _bounded(body, uri, max_bytes)
        except (aws.BotoCoreError, OSError) as error:
            raise _Damaged(type(error).__name__) from error
    if length is not None and len(data) != length:
        raise _Damaged(f"{len(data):,} bytes of {length:,}")
    etag = answer["ETag"].strip('"')
    if _is_md5(etag, bucket, answer) and hashlib.md5(data, usedforsecurity=False).hexdigest() != etag:
        raise _Damaged("its MD5 is not its ETag")
    return data


def _bounded(body: Any, uri: str, max_bytes: int | None) -> bytes:
    pieces, size = [], 0
    # The last, empty piece is where botocore compares length and checksum.
    while piece := body.read(_PIECE_BYTES if max_bytes is None else min(_PIECE_BYTES, max_bytes + 1 - size)):
        pieces.append(piece)
        size += len(piece)
        if max_bytes is not None and size > max_bytes:
            raise TooManyBytes(f"{uri} has more than {max_bytes:,} bytes, which is the most that is read")
    return b"".join(pieces)


def _is_md5(etag: str, bucket: str, answer: Any) -> bool:
    # Uploads in parts, objects under KMS or a customer's key, and directory buckets have ETags of their own making.
    encrypted = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in answer
    return bool(re.fullmatch(r"[0-9a-f]{32}", etag)) and not encrypted and not bucket.endswith(_DIRECTORY_BUCKET)


# --- writing


def write(uri: str, data: bytes, if_absent: bool) -> bool:
    """Put an object."""
    bucket, key = bucket_and_key(uri)
    kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
    wanted = {"Bucket": bucket, "Key": key, "Body": data, "ContentType": kind}
    with plain_errors(uri):
        if if_absent:
            return _put_if_absent(wanted)
        client().put_object(**wanted)
    return True


def _put_if_absent(wanted: dict[str, Any]) -> bool:
    mark = {"packshot-write": uuid.uuid4().hex}
    # 409: a rival is writing the same key; afterwards the key is taken, or is free because that write failed.
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, aws.ClientError) and status_of(error) == 409),
        stop=tenacity.stop_after_attempt(8),
        wait=tenacity.wait_random_exponential(0.1, max=5),
        reraise=True,
    )
    try:
        retrying(functools.partial(client().put_object, **wanted, IfNoneMatch="*", Metadata=mark))
    except aws.ClientError as error:
        if status_of(error) != 412:
            raise
        retries = error.response["ResponseMetadata"].get("RetryAttempts", 0) + retrying.statistics["attempt_number"] - 1
        # An earlier attempt of this very call may have written it, its answer lost on the way.
        return bool(retries) and _has_mark(wanted, mark)
    return True


def _has_mark(wanted: dict[str, Any], mark: dict[str, str]) -> bool:
    head = client().head_object(Bucket=wanted["Bucket"], Key=wanted["Key"])
    return bool(head.get("Metadata", {}).items() >= mark.items())


def delete(uri: str) -> None:
    """Remove an object."""
    bucket, key = bucket_and_key(uri)
    with plain_errors(uri):
        client().delete_object(Bucket=bucket, Key=key)


# --- pyarrow


def arrow(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Pyarrow's S3 with this client's endpoint, region and keys, and the path `bucket/key`."""
    import pyarrow.fs

    bucket_and_key(uri)
    made = client()
    endpoint = urlsplit(made.meta.endpoint_url)
    own = {} if _is_own_endpoint() else {"endpoint_override": endpoint.netloc}
    file_system = pyarrow.fs.S3FileSystem(
        region=made.meta.region_name,
        scheme=endpoint.scheme,
        # pyarrow's own three attempts lost 8 % of the writes under injected faults.
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=10),
        **own,
        **_keys(made),
    )
    return file_system, uri.removeprefix(S3)


def _keys(made: Any) -> dict[str, Any]:
    from botocore.credentials import RefreshableCredentials  # type: ignore[import-untyped, unused-ignore]  # botocore ships no types

    with plain_errors(S3):
        credentials = made._request_signer._credentials
        if credentials is None:
            raise aws.NoCredentialsError
        frozen = credentials.get_frozen_credentials()
    # Keys of a role expire within a night; pyarrow finds and renews those itself.
    if isinstance(credentials, RefreshableCredentials):
        return {}
    return {"access_key": frozen.access_key, "secret_key": frozen.secret_key, "session_token": frozen.token}
