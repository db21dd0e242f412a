"""The files that rows name, from listings: what there is, in which version, and which folders refuse."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipelines import storage
from pipelines.catalogue.cells import BESIDE
from pipelines.errors import StorageError
from pipelines.rows import FAILED, OK, Row

MAX_LISTINGS = 50
"""At most so many listings are made in a bucket; of more folders, the parents that they share are listed."""


@dataclass(frozen=True)
class Listed:
    """The files of some listings by URI, and for each folder that cannot be listed the reason."""

    files: dict[str, storage.File]
    refused: dict[str, str]


def files_of(rows: Iterable[Row], base_uri: str, known: Mapping[str, storage.File] | None = None) -> Listed:
    """Look up every picture, mask and reference that rows name, by listings only.

    Each folder is listed once, without the folders in it; of a bucket with more than `MAX_LISTINGS` folders the parents
    that they share are listed. A URI that no listing shows is left out.

    Args:
        rows: as `rows` makes them.
        base_uri: the catalogue's own place; if that cannot be listed, no row is at fault.
        known: files that need not be looked up again.

    Raises:
        StorageError: the catalogue's own bucket or folder does not exist, refuses the credentials, or does not answer.
    """
    files = dict(known or {})
    wanted = {uri for row in rows for uri in _uris(row)} - set(files)
    refused: dict[str, str] = {}
    for folder, deep in _listings({storage.parent(uri) for uri in wanted}):
        # A missing local folder is no error here: its rows fail as their pictures are read.
        if storage.is_s3(folder) or os.path.isdir(folder):
            try:
                files |= {file.uri: file for file in storage.list_files(folder, deep) if file.uri in wanted}
            except StorageError as error:
                if _is_own(folder, base_uri):
                    raise
                refused[folder] = str(error)
    return Listed(files, refused)


def in_unreadable_folder(row: Row, refused: Mapping[str, str]) -> Row:
    """The row, failed as `folder_unreadable` if it is ok and names a file in a folder that cannot be listed."""
    for uri in _uris(row) if refused and row["status"] == OK else ():
        for folder, sentence in refused.items():
            if uri.startswith(f"{folder}/"):
                return {**row, "status": FAILED, "reason": "folder_unreadable", "detail": sentence}
    return row


def _uris(row: Row) -> Iterator[str]:
    yield from (row[f"{name}_uri"] for name in ("source", *BESIDE) if row[f"{name}_uri"])
    yield from row["reference_uris"] or ()


def _is_own(folder: str, base_uri: str) -> bool:
    # One folder of a disk may be locked; a bucket has one answer for all below a prefix.
    return folder == base_uri or (storage.is_s3(folder) and storage.is_below(folder, base_uri))


def _listings(folders: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """The folders to list, and whether each is listed deep. A local folder costs no request, so it is listed alone."""
    of_bucket: dict[str, list[str]] = defaultdict(list)
    for folder in sorted(folders):
        if storage.is_s3(folder):
            of_bucket[folder.removeprefix(storage.S3).partition("/")[0]].append(folder)
        else:
            yield folder, False
    for listed in of_bucket.values():
        yield from _few_listings(listed)


def _few_listings(folders: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """At most `MAX_LISTINGS` listings that show all these folders of a bucket, as deep in it as that allows."""
    split = [tuple(folder.split("/")) for folder in folders]
    depths = range(len(("s3:", "", "bucket")), max(map(len, split)) + 1)
    depth = max(depth for depth in depths if len({levels[:depth] for levels in split}) <= MAX_LISTINGS)
    deep: dict[tuple[str, ...], bool] = {}
    for levels in split:
        deep[levels[:depth]] = deep.get(levels[:depth], False) or len(levels) > depth
    yield from (("/".join(levels), is_deep) for levels, is_deep in deep.items())
