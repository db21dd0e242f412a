"""S3 (boto3) and local files behind a handful of functions; no class tree.

A URI is `s3://bucket/key`, the key as it is (nothing is percent-decoded), or a local path. Endpoint, region and
credentials come from the normal AWS environment (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID` ...), so that
any S3 endpoint works. What is read is checked: length, boto3's checksum, and the MD5 where the ETag is one.

Errors: `Missing`, `Changed` and `TooManyBytes` are about one file; `StorageError` is about the bucket, the folder, the
credentials or the network, and stops a run. No message holds a credential.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import mimetypes
import os
import re
import stat
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tenacity
from botocore import exceptions as aws  # type: ignore[import-untyped, unused-ignore]  # botocore ships no types

from pipelines.errors import Changed, ConfigError, Missing, PackshotError, StorageError, TooManyBytes

if TYPE_CHECKING:
    import pyarrow.fs

S3 = "s3://"
DEFAULT_REGION = "us-east-1"
_PIECE_BYTES = 1 << 20
_UNFINISHED = ".packshot-"  # begins the name of a local file that is still being written
_DIRECTORY_BUCKET = "--x-s3"  # ends the names of S3 Express buckets
_OWN_ENDPOINT = re.compile(r"s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?")
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}  # AWS: some of them with 400
_ABSENT = {"NoSuchKey", "NotFound", "404", "KeyTooLongError"}
_NO_CREDENTIALS = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError, aws.SSOError)
_NO_ANSWER = (aws.ConnectionError, aws.HTTPClientError)
_NOWHERE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}  # a link that is broken, or leads to itself
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SIGNED = re.compile(r"[?&](X-Amz-(Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig|token)=", re.I)
_PASSWORD = re.compile(r"://[^\s/@'\"]+@")
_QUERY = re.compile(r"((?<!s3)://[^\s?'\"]*\?)[^\s'\"]+")
_SIGNATURE = re.compile(rf"({_SIGNED.pattern})[^&\s'\"]+", re.I)
MAX_PATH = 4096
MAX_SHOWN = 300
_LOCK = threading.Lock()


@dataclass(frozen=True)
class File:
    """A file as a listing tells it.

    `version` is S3's ETag without quotes, or a local file's size and time of change: `1024-1700000000000000000`.
    """

    uri: str
    size_bytes: int
    version: str


class _Damaged(Exception):
    """The body came short or with other bytes than were announced; asking again may help."""


def list_files(uri: str, deep: bool = True, missing_ok: bool = False) -> Iterator[File]:
    """Everything below a prefix or folder, or the one file itself, ordered by URI; only listings are asked for.

    A prefix is a folder: `s3://b/cat` does not list `s3://b/catalogue2/x`. One that holds nothing lists nothing. Errors
    come with the first item.

    Args:
        uri: an `s3://` prefix or object, or a local folder or file.
        deep: whether folders within the folder are listed too.
        missing_ok: a local folder that does not exist lists nothing, as a prefix of S3 does.

    Raises:
        StorageError: the bucket or the local folder does not exist, refuses the credentials, or does not answer.
    """
    if uri.startswith(S3):
        return _list_s3(uri, deep)
    return iter(()) if missing_ok and not os.path.exists(uri) else _list_local(uri, deep)


def list_folders(uri: str) -> list[str]:
    """The folders that lie directly in a prefix or folder, in order; one that is not there has none.

    Raises:
        StorageError: the bucket does not exist, refuses the credentials, or does not answer.
    """
    if not uri.startswith(S3):
        if not os.path.isdir(uri):
            return []
        with os.scandir(uri) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())
    bucket, key = _split(uri)
    with _plain_words(uri):
        pages = (
            client()
            .get_paginator("list_objects_v2")
            .paginate(Bucket=bucket, Prefix=f"{key.rstrip('/')}/" if key else "", Delimiter="/")
        )
        found = [prefix["Prefix"] for page in pages for prefix in page.get("CommonPrefixes", ())]
    return sorted(f"{S3}{bucket}/{prefix.rstrip('/')}" for prefix in found)


def read(uri: str, version: str | None = None, max_bytes: int | None = None) -> bytes:
    """A whole file, checked.

    Args:
        uri: the file.
        version: what a listing told; another one is refused. None takes any.
        max_bytes: a larger file is refused by its announced length; None sets no bound.

    Raises:
        Missing, Changed, TooManyBytes: the file is not there, is another one by now, or is too large.
        StorageError: the store refuses or does not answer, or the body came damaged again and again.
    """
    if not uri.startswith(S3):
        return _read_local(uri, version, max_bytes)
    # boto3 asks again for an answer, never for a body that broke off.
    patient = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_Damaged),
        stop=tenacity.stop_after_attempt(5),
        wait=tenacity.wait_random_exponential(0.1, max=2),
        reraise=True,
    )
    try:
        data: bytes = patient(_read_s3, uri, version, max_bytes)
    except _Damaged as error:
        raise StorageError(f"{uri} came damaged five times: {error}; check the network and the store") from error
    return data


def write(uri: str, data: bytes, if_absent: bool = False) -> bool:
    """Put a whole file; a reader sees all of it or nothing. Local parent folders are made.

    Args:
        uri: the file.
        data: its bytes.
        if_absent: leave a file alone that is there already; of several rivals exactly one writes.

    Returns:
        True if this call wrote it, False if `if_absent` and it was there.

    Raises:
        StorageError: the store refuses, is full, or does not answer.
    """
    return _write_s3(uri, data, if_absent) if uri.startswith(S3) else _write_local(uri, data, if_absent)


def delete(uri: str) -> None:
    """Remove a file; one that is missing is fine.

    Raises:
        StorageError: the store refuses or does not answer.
    """
    if uri.startswith(S3):
        bucket, key = _split(uri)
        with _plain_words(uri):
            client().delete_object(Bucket=bucket, Key=key)
        return
    try:
        os.unlink(uri)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unusable(uri, error) from error


def exists(uri: str) -> bool:
    """Whether there is a file of exactly this URI; a folder is none.

    Raises:
        StorageError: the bucket does not exist, refuses the credentials, or does not answer.
    """
    if not uri.startswith(S3):
        return os.path.isfile(uri)
    bucket, key = _split(uri)
    if _object(bucket, key, uri):
        return True
    with _plain_words(uri):  # a HEAD answers 404 for a missing bucket as well, a listing tells
        client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    return False


def join(uri: str, *parts: str) -> str:
    """A URI below another: `join("s3://b/out/", "runs", "1")` is `s3://b/out/runs/1`."""
    path = "/".join(part.strip("/") for part in parts)
    return f"{uri.rstrip('/')}/{path}" if uri and path else uri or path


def resolve(base_uri: str | None, path: str) -> str:
    """What a table's cell means: `s3://` and absolute paths stay, a relative one lies below the base.

    Whether a catalogue may read there is another question: see `is_below`.

    Args:
        base_uri: a prefix or folder; None or "" is the folder that the program runs in.
        path: `s3://bucket/key`, or a local path, or a path relative to the base.

    Returns:
        An `s3://` URI or an absolute local path.

    Raises:
        ConfigError: the path is empty, has a control character or a `..` segment, is of another scheme, longer than any
            path, or carries the signature of a presigned URL.
    """
    _check_path(path)
    if ".." in path.replace("\\", "/").split("/"):
        raise ConfigError(
            f"the path {shown(path)!r} has a `..` segment, which could lead out of the catalogue; write it out"
        )
    if base_uri and base_uri.startswith(S3) and not path.startswith((S3, "/")):
        return join(base_uri, re.sub(r"^(\./+)+", "", path))
    return path if path.startswith(S3) else os.path.abspath(os.path.join(base_uri or "", path))


def absolute(path: str) -> str:
    """What a person typed: an `s3://` URI as it is, or a local path made absolute, in which `..` is fine.

    Raises:
        ConfigError: as `resolve` does, but for `..` in a local path.
    """
    _check_path(path)
    return resolve(None, path) if path.startswith(S3) else os.path.abspath(path)


def shown(text: str) -> str:
    """What a stranger wrote, as a message may quote it: shortened, of web addresses no password and no query."""
    short = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    return _QUERY.sub(r"\1...", unsigned(short))


def unsigned(text: str) -> str:
    """A text without what opens doors: an address's password, the signature of a presigned URL."""
    return _SIGNATURE.sub(r"\1...", _PASSWORD.sub("://", text))


def _check_path(path: str) -> None:
    if not path or _CONTROL.search(path):
        raise ConfigError(
            f"the path {shown(path)!r} is empty or has control characters; expected `s3://bucket/key` or a path"
        )
    if len(path) > MAX_PATH:
        raise ConfigError(f"the path {shown(path)!r} has {len(path):,} characters; expected at most {MAX_PATH:,}")
    if not path.startswith(S3) and _SCHEME.match(path):
        raise ConfigError(
            f"{shown(path)!r} is of a scheme that is not read here; expected `s3://bucket/key` or a local path"
        )
    if _SIGNED.search(path):
        raise ConfigError(f"{shown(path)!r} is a presigned URL; write the plain `s3://bucket/key` or path in its place")


def is_below(uri: str, folder_uri: str) -> bool:
    """Whether a URI names a folder itself or something below it: `s3://b/catalogue2/x` is not below `s3://b/cat`.

    Args:
        uri: an `s3://` URI or an absolute local path. A local one counts where its links lead.
        folder_uri: the same, of a folder or prefix; `s3://b` is the whole bucket.
    """
    if uri.startswith(S3) != folder_uri.startswith(S3):
        return False
    own, folder = (each if each.startswith(S3) else os.path.realpath(each) for each in (uri, folder_uri))
    return f"{own.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def arrow(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The URI for pyarrow and Ray Data: a file system and the path in it, with boto3's endpoint, region and keys.

    Raises:
        StorageError: there are no credentials.
    """
    import pyarrow.fs

    if not uri.startswith(S3):
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(uri)
    _split(uri)
    return _arrow_s3(), uri.removeprefix(S3)


@functools.lru_cache(maxsize=1)
def client() -> Any:
    """The process's one S3 client; after a change of the environment call `client.cache_clear()`.

    Raises:
        StorageError: the environment's profile, region or endpoint cannot be.
    """
    import boto3  # type: ignore[import-untyped, unused-ignore]  # boto3 ships no types
    from botocore.config import Config  # type: ignore[import-untyped, unused-ignore]  # the same

    # Standard mode with 5 attempts lost nothing under injected faults; adaptive took six times as long.
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=64,
    )
    try:
        with _LOCK:  # making a client is not thread-safe, using one is
            session = boto3.session.Session()
            return session.client("s3", region_name=_region(session), config=config)
    except (aws.BotoCoreError, ValueError) as error:
        raise StorageError(
            f"the AWS settings of this environment make no S3 client ({type(error).__name__}); "
            f"check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL"
        ) from error


def _region(session: Any) -> str:
    # boto3 itself reads AWS_DEFAULT_REGION alone; every other SDK reads AWS_REGION.
    return os.environ.get("AWS_REGION") or session.region_name or DEFAULT_REGION


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not bucket:
        raise ConfigError(f"{uri!r} names no bucket; expected `s3://bucket/key`")
    return bucket, key


# --- S3


def _list_s3(uri: str, deep: bool) -> Iterator[File]:
    bucket, key = _split(uri)
    itself = _object(bucket, key, uri) if key and not key.endswith("/") else None
    if itself:
        yield itself
    below = _below(uri, bucket, key, deep)
    # AWS lists in the order of the keys; SeaweedFS goes folder by folder, and a directory bucket has no order.
    is_ordered = _is_own_endpoint() and not bucket.endswith(_DIRECTORY_BUCKET)
    yield from below if is_ordered else sorted(below, key=lambda file: file.uri)


def _below(uri: str, bucket: str, key: str, deep: bool) -> Iterator[File]:
    wanted = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else ""} | ({} if deep else {"Delimiter": "/"})
    with _plain_words(uri):
        for page in client().get_paginator("list_objects_v2").paginate(**wanted):
            for found in page.get("Contents", ()):
                if not (found["Key"].endswith("/") and found["Size"] == 0):
                    yield _file(bucket, found["Key"], found["Size"], found["ETag"])


def _object(bucket: str, key: str, uri: str) -> File | None:
    with _plain_words(uri):
        try:
            told = client().head_object(Bucket=bucket, Key=key)
        except aws.ClientError as error:
            if _status(error) == 404:
                return None
            raise
    return _file(bucket, key, told["ContentLength"], told["ETag"])


def _file(bucket: str, key: str, size_bytes: int, etag: str) -> File:
    return File(f"{S3}{bucket}/{key}", size_bytes, etag.strip('"'))


def _is_own_endpoint() -> bool:
    return bool(_OWN_ENDPOINT.fullmatch(urlsplit(client().meta.endpoint_url).hostname or ""))


def _read_s3(uri: str, version: str | None, max_bytes: int | None) -> bytes:
    bucket, key = _split(uri)
    with _plain_words(uri):
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


def _write_s3(uri: str, data: bytes, if_absent: bool) -> bool:
    bucket, key = _split(uri)
    kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
    if not if_absent:
        with _plain_words(uri):
            client().put_object(Bucket=bucket, Key=key, Body=data, ContentType=kind)
        return True
    mark = uuid.uuid4().hex
    # 409: a rival's write of the same key is under way; afterwards it is there, or it failed and the key is free.
    patient = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, aws.ClientError) and _status(error) == 409),
        stop=tenacity.stop_after_attempt(8),
        wait=tenacity.wait_random_exponential(0.1, max=5),
        reraise=True,
    )
    put = functools.partial(client().put_object, Bucket=bucket, Key=key, Body=data, ContentType=kind, IfNoneMatch="*")
    with _plain_words(uri):
        try:
            patient(put, Metadata={"packshot-write": mark})
        except aws.ClientError as error:
            if _status(error) != 412:
                raise
            # An earlier attempt of this very call may have written it, its answer lost on the way.
            retried = (
                error.response["ResponseMetadata"].get("RetryAttempts", 0) + patient.statistics["attempt_number"] - 1
            )
            if not retried:
                return False
            there = client().head_object(Bucket=bucket, Key=key)
            return bool(there.get("Metadata", {}).get("packshot-write") == mark)
    return True


def _arrow_s3() -> pyarrow.fs.FileSystem:
    import pyarrow.fs
    from botocore.credentials import RefreshableCredentials  # type: ignore[import-untyped, unused-ignore]  # botocore ships no types

    made = client()
    endpoint = urlsplit(made.meta.endpoint_url)
    own = {} if _is_own_endpoint() else {"endpoint_override": endpoint.netloc}
    with _plain_words(S3):
        credentials = made._request_signer._credentials
        if credentials is None:
            raise aws.NoCredentialsError
        frozen = credentials.get_frozen_credentials()
    # Keys of a role expire within a night; pyarrow finds and renews those itself.
    keys = (
        {}
        if isinstance(credentials, RefreshableCredentials)
        else {
            "access_key": frozen.access_key,
            "secret_key": frozen.secret_key,
            "session_token": frozen.token,
        }
    )
    return pyarrow.fs.S3FileSystem(
        region=made.meta.region_name,
        scheme=endpoint.scheme,
        # pyarrow's own three attempts lost 8 % of the writes under injected faults.
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=10),
        **own,
        **keys,
    )


@contextlib.contextmanager
def _plain_words(uri: str) -> Iterator[None]:
    try:
        yield
    except (aws.ClientError, aws.BotoCoreError) as error:
        raise _s3_error(uri, error) from error


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _s3_error(uri: str, error: Exception) -> PackshotError:
    bucket = uri.removeprefix(S3).partition("/")[0]
    if isinstance(error, aws.ClientError):
        return _answered_error(uri, bucket, error)
    if isinstance(error, _NO_CREDENTIALS):
        return StorageError(
            f"there are no complete AWS credentials for {uri}; "
            f"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, _NO_ANSWER):
        endpoint = urlsplit(client().meta.endpoint_url)
        return StorageError(
            f"the S3 endpoint {endpoint.scheme}://{endpoint.netloc.rpartition('@')[2]} does not answer "
            f"({type(error).__name__}); check AWS_ENDPOINT_URL, AWS_REGION and the network"
        )
    if isinstance(error, aws.ParamValidationError):
        return StorageError(f"{uri!r} cannot be: {bucket!r} is no possible name of a bucket, or the key is empty")
    return StorageError(f"S3 failed at {uri} ({type(error).__name__})")


def _answered_error(uri: str, bucket: str, error: Any) -> PackshotError:
    code, status = str(error.response.get("Error", {}).get("Code", "")), _status(error)
    if code == "NoSuchBucket":
        return StorageError(f"the bucket {bucket!r} does not exist; check its name and AWS_ENDPOINT_URL")
    if code in _ABSENT:
        return Missing(f"{uri} is not there")
    if code == "InvalidObjectState":
        return Missing(f"{uri} is archived and cannot be read as it is; restore it first")
    if status == 412:
        return Changed(f"{uri} is no longer the version that was listed")
    if code in _REFUSED or status in (401, 403):
        return StorageError(
            f"S3 refuses these credentials for {uri} ({code or status}); "
            f"check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their rights "
            f"(without the right to list, a missing object is refused as well)"
        )
    return StorageError(f"S3 failed at {uri} ({code or 'no code'}, HTTP {status})")


# --- local files


def _list_local(uri: str, deep: bool) -> Iterator[File]:
    if os.path.isfile(uri):
        paths = [uri]
    elif os.path.isdir(uri):
        paths = [os.path.join(folder, name) for folder, names in _folders(uri, deep) for name in names]
    else:
        raise StorageError(f"there is no folder or file {uri!r}")
    for path in sorted(paths):
        told = _told(path)
        if told and stat.S_ISREG(told.st_mode):
            yield File(path, told.st_size, _local_version(told))


def _told(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in _NOWHERE:
            return None
        raise _unusable(path, error) from error


def _folders(uri: str, deep: bool) -> Iterator[tuple[str, list[str]]]:
    def refuse(error: OSError) -> None:
        raise _unusable(str(error.filename or uri), error) from error

    for folder, below, names in os.walk(uri, onerror=refuse):
        yield folder, [name for name in names if not name.startswith(_UNFINISHED)]
        if not deep:
            below.clear()


def _local_version(told: os.stat_result) -> str:
    return f"{told.st_size}-{told.st_mtime_ns}"


def _read_local(uri: str, version: str | None, max_bytes: int | None) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(uri).st_mode):  # opening a pipe would wait for ever
            raise Missing(f"{uri} is a folder or device, not a file")
        with open(uri, "rb") as file:
            told = os.fstat(file.fileno())
            if version and _local_version(told) != version:
                raise Changed(f"{uri} is no longer the version that was listed")
            if max_bytes is not None and told.st_size > max_bytes:
                raise TooManyBytes(f"{uri} has {told.st_size:,} bytes; at most {max_bytes:,} are read")
            data = file.read(told.st_size + 1)
            if len(data) != told.st_size or _local_version(os.fstat(file.fileno())) != _local_version(told):
                raise Changed(f"{uri} changed while it was read")
    except OSError as error:
        if error.errno in _NOWHERE:
            raise Missing(f"{uri} is not there") from error
        raise _unusable(uri, error) from error
    return data


def _write_local(uri: str, data: bytes, if_absent: bool) -> bool:
    folder = os.path.dirname(uri) or "."
    unfinished = os.path.join(folder, f"{_UNFINISHED}{uuid.uuid4().hex}")
    try:
        if if_absent and os.path.exists(uri):
            return False
        os.makedirs(folder, exist_ok=True)
        try:
            with open(unfinished, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if not if_absent:
                os.replace(unfinished, uri)
                return True
            os.link(unfinished, uri)  # unlike a rename, a link refuses a name that is taken
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
    except OSError as error:
        if if_absent and isinstance(error, FileExistsError) and os.path.exists(uri):
            return False
        raise _unusable(uri, error) from error
    return True


def _unusable(uri: str, error: OSError) -> StorageError:
    return StorageError(f"{uri} cannot be used: {error.strerror or error}")


@dataclass(frozen=True)
class Store:
    """Where pictures go: each at the sha256 of its own bytes, put if absent, so doing a row again rewrites nothing."""

    root_uri: str

    def put(self, folder: str, data: bytes, suffix: str) -> str:
        """Put a file under `folder` (images, crops or variants) and answer its URI."""
        digest = hashlib.sha256(data).hexdigest()
        uri = join(self.root_uri, folder, digest[:2], f"{digest}.{suffix}")
        write(uri, data, if_absent=True)
        return uri

    def holds(self, folder: str, uri: str) -> bool:
        """Whether a URI names a place below `folder` of this store; nothing is looked up."""
        return uri.startswith(join(self.root_uri, folder) + "/")
