"""One file of a listing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """A file as a listing gives it.

    `version` is S3's ETag without quotes, or a local file's size and time of change: `1024-1700000000000000000`.
    """

    uri: str
    size_bytes: int
    version: str
