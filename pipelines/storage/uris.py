"""URIs as text: joined, taken apart, resolved, and shown in messages without passwords and signatures.

Nothing here asks a store; only `is_below` looks at the disk, for links.
"""

from __future__ import annotations

import os
import re

from pipelines.errors import ConfigError

S3 = "s3://"
MAX_PATH = 4096
MAX_SHOWN = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SIGNED = re.compile(r"[?&](X-Amz-(Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig|token)=", re.I)
_PASSWORD = re.compile(r"://[^\s/@'\"]+@")
_QUERY = re.compile(r"((?<!s3)://[^\s?'\"]*\?)[^\s'\"]+")
_SIGNATURE = re.compile(rf"({_SIGNED.pattern})[^&\s'\"]+", re.I)


def is_s3(uri: str) -> bool:
    """Whether a URI names something on S3; everything else is a local path."""
    return uri.startswith(S3)


def bucket_and_key(uri: str) -> tuple[str, str]:
    """The bucket and the key of an `s3://` URI; the key is empty where the URI names the bucket alone.

    Raises:
        ConfigError: it names no bucket.
    """
    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not bucket:
        raise ConfigError(f"{uri!r} names no bucket; expected `s3://bucket/key`")
    return bucket, key


def join(uri: str, *parts: str) -> str:
    """A URI below another: `join("s3://b/out/", "runs", "1")` is `s3://b/out/runs/1`."""
    path = "/".join(part.strip("/") for part in parts)
    return f"{uri.rstrip('/')}/{path}" if uri and path else uri or path


def parent(uri: str) -> str:
    """The folder in which a file lies: `parent("s3://b/cat/a.jpg")` is `s3://b/cat`."""
    return uri.rpartition("/")[0] or "/"


def name(uri: str) -> str:
    """The last segment of a URI: `name("s3://b/cat/a.jpg")` is `a.jpg`."""
    return uri.rpartition("/")[2]


def resolve(base_uri: str | None, path: str) -> str:
    """The URI that a table's cell means: `s3://` and absolute paths stay, a relative path lies below the base.

    Whether a catalogue may read there is another question: see `is_below`.

    Args:
        base_uri: a prefix or folder; None or "" is the folder that the program runs in.
        path: `s3://bucket/key`, or a local path, or a path relative to the base.

    Returns:
        An `s3://` URI or an absolute local path.

    Raises:
        ConfigError: the path is empty, too long, of another scheme or a presigned URL, or has a control character or a
            `..` segment.
    """
    _check_path(path)
    if ".." in path.replace("\\", "/").split("/"):
        raise ConfigError(
            f"the path {shown(path)!r} has a `..` segment, which could lead out of the catalogue; write it out"
        )
    if base_uri and is_s3(base_uri) and not path.startswith((S3, "/")):
        return join(base_uri, re.sub(r"^(\./+)+", "", path))
    return path if is_s3(path) else os.path.abspath(os.path.join(base_uri or "", path))


def absolute(path: str) -> str:
    """The URI that a person typed: an `s3://` URI as it is, a local path made absolute; `..` is fine in a local path.

    Raises:
        ConfigError: as `resolve` does.
    """
    _check_path(path)
    return resolve(None, path) if is_s3(path) else os.path.abspath(path)


def is_below(uri: str, folder_uri: str) -> bool:
    """Whether a URI is a folder itself or lies below it: `s3://b/catalogue2/x` does not lie below `s3://b/cat`.

    Args:
        uri: an `s3://` URI or an absolute local path, whose links are followed.
        folder_uri: the same, of a folder or prefix; `s3://b` is the whole bucket.
    """
    if is_s3(uri) != is_s3(folder_uri):
        return False
    own, folder = (each if is_s3(each) else os.path.realpath(each) for each in (uri, folder_uri))
    return f"{own.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def shown(text: str) -> str:
    """A stranger's text as a message may quote it: shortened, web addresses without password and query."""
    short = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    return _QUERY.sub(r"\1...", unsigned(short))


def unsigned(text: str) -> str:
    """A text without secrets: no password of an address, no signature of a presigned URL."""
    return _SIGNATURE.sub(r"\1...", _PASSWORD.sub("://", text))


def _check_path(path: str) -> None:
    if not path or _CONTROL.search(path):
        raise ConfigError(
            f"the path {shown(path)!r} is empty or has control characters; expected `s3://bucket/key` or a path"
        )
    if len(path) > MAX_PATH:
        raise ConfigError(f"the path {shown(path)!r} has {len(path):,} characters; expected at most {MAX_PATH:,}")
    if not is_s3(path) and _SCHEME.match(path):
        raise ConfigError(
            f"{shown(path)!r} is of a scheme that is not read here; expected `s3://bucket/key` or a local path"
        )
    if _SIGNED.search(path):
        raise ConfigError(f"{shown(path)!r} is a presigned URL; write the plain `s3://bucket/key` or path in its place")
