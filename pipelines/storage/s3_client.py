"""The S3 client of this process, and its errors in plain words."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as aws  # type: ignore[import-untyped, unused-ignore]  # botocore ships no types

from pipelines.errors import Changed, Missing, PackshotError, StorageError
from pipelines.storage.uris import S3

DEFAULT_REGION = "us-east-1"
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}  # AWS: some of them with 400
_ABSENT = {"NoSuchKey", "NotFound", "404", "KeyTooLongError"}
_NO_CREDENTIALS = (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError, aws.SSOError)
_NO_ANSWER = (aws.ConnectionError, aws.HTTPClientError)
_LOCK = threading.Lock()


def client() -> Any:
    """This process's S3 client; a new one is made when an `AWS_...` variable of the environment has changed.

    Raises:
        StorageError: the environment's profile, region or endpoint cannot be used.
    """
    names = sorted(name for name in os.environ if name.startswith("AWS_"))
    return _client_for(tuple((name, os.environ.get(name)) for name in names))


@functools.lru_cache(maxsize=1)
def _client_for(environment: tuple[tuple[str, str | None], ...]) -> Any:
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


@contextlib.contextmanager
def plain_errors(uri: str) -> Iterator[None]:
    """Raise boto3's errors about a URI as errors of Packshot."""
    try:
        yield
    except (aws.ClientError, aws.BotoCoreError) as error:
        raise _error(uri, error) from error


def status_of(error: Any) -> int:
    """The HTTP status of a client error; 0 if it has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _error(uri: str, error: Exception) -> PackshotError:
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
    code, status = str(error.response.get("Error", {}).get("Code", "")), status_of(error)
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
