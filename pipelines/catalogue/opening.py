"""A catalogue as a table: a product table as it is, or the pictures below a prefix, one row each."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines import storage
from pipelines.catalogue import cells
from pipelines.catalogue.tables import TABLES, is_table, need_column, parse
from pipelines.errors import ConfigError, Missing
from pipelines.recipe.settings import CatalogueSettings

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items, as a table with the key and image columns, in the order of the product table or of the listing.

    `uri` is absolute. `listed` has, by URI, the files of a listing; it is empty for a product table.
    """

    table: pa.Table
    uri: str
    is_sample: bool
    listed: Mapping[str, storage.File] = field(default_factory=dict)

    @property
    def base_uri(self) -> str:
        """The folder that relative paths in the table are relative to."""
        return storage.parent(self.uri) if is_table(self.uri) else self.uri


def open_catalogue(uri: str, settings: CatalogueSettings, limit: int | None = None) -> Catalogue:
    """Read a product table, or list a prefix or folder of pictures.

    Args:
        uri: ends in .parquet, .csv, .jsonl or .ndjson for a product table; anything else is a prefix or folder, whose
            pictures are items: the key is the path relative to it.
        settings: which column is what.
        limit: take the first so many items; None takes all.

    Raises:
        ConfigError: the table does not exist or cannot be parsed, there are no items, a column is missing or holds the
            pictures themselves, a key occurs twice, or there are no keys.
        StorageError: the store does not answer.
    """
    uri = storage.absolute(uri)
    if not is_table(uri):
        return _list_pictures(uri, settings, limit)
    try:
        data = storage.read(uri)
    except Missing as error:
        raise ConfigError(f"there is no product table: {error}") from error
    table = parse(data, uri)
    _check_columns(table, uri, settings)
    _check_keys(cells.texts(table, settings.key), uri, settings)
    is_sample = (table.schema.metadata or {}).get(b"packshot_sample") == b"1"
    return Catalogue(table if limit is None else table.slice(0, limit), uri, is_sample)


def _list_pictures(uri: str, settings: CatalogueSettings, limit: int | None) -> Catalogue:
    pictures = (file for file in storage.list_files(uri) if file.uri.lower().endswith(PICTURES))
    files = list(itertools.islice(pictures, limit))
    if not files:
        raise ConfigError(
            f"{uri} holds no pictures, so there are no items; "
            f"expected files that end in {', '.join(PICTURES)}, or a product table that ends in {', '.join(TABLES)}"
        )
    folder = uri.rstrip("/") + "/"
    keys = [file.uri.removeprefix(folder) if file.uri.startswith(folder) else storage.name(file.uri) for file in files]
    columns = {settings.key: _file_names(keys), settings.image: _file_names(file.uri for file in files)}
    return Catalogue(pa.table(columns), uri, False, {file.uri: file for file in files})


def _file_names(names: Iterable[str]) -> pa.Array:
    """File names as a column of text, byte for byte: a local one that is not UTF-8 is refused later, in its row."""
    return pa.array([name.encode("utf-8", "surrogateescape") for name in names], pa.binary()).view(pa.string())


def _check_columns(table: pa.Table, uri: str, settings: CatalogueSettings) -> None:
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise ConfigError(f"the product table {uri} has the column {twice[0]!r} twice; give each its own name")
    for name in set(cells.GIVEN_BYTES) & set(table.column_names):
        raise ConfigError(
            f"the product table {uri} has the column {name!r}, which comes with a request, not with a table; "
            f"write the pictures to files and name their column in `catalogue`"
        )
    need_column(table, "catalogue.key", settings.key)
    need_column(table, "catalogue.image", settings.image)


def _check_keys(column: Iterable[str | None], uri: str, settings: CatalogueSettings) -> None:
    counted = Counter(key for key in column if not cells.is_blank(key))
    if not counted:
        raise ConfigError(
            f"no item of {uri} has a key (`catalogue.key` is {settings.key!r}); name the column that has them"
        )
    repeated = [(key, count) for key, count in counted.items() if count > 1]
    if repeated:
        named = ", ".join(f"{key!r} ({count} times)" for key, count in repeated[:3])
        more = f" and {len(repeated) - 3:,} more" if len(repeated) > 3 else ""
        raise ConfigError(
            f"`catalogue.key` is {settings.key!r}, but {uri} has the same key more than once: {named}{more}; "
            f"name a column that is unique"
        )
