"""Which items exist: an S3 prefix, or a Parquet/CSV/JSONL product table, opened and turned into rows.

`products` does all of it for a catalogue that has a place: `open_catalogue` makes a table, `rows` makes the table's
rows, `files_of` looks up the versions of their pictures. `rows` alone is the way in for batch, inline and HTTP.

A product table comes from a stranger: a cell that cannot be used fails its own row, and a path is read only below the
catalogue's own folder or a folder that `catalogue.allow` lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.catalogue.listings import Listed, files_of, in_unreadable_folder
from pipelines.catalogue.opening import Catalogue, open_catalogue
from pipelines.catalogue.table_rows import rows, with_versions
from pipelines.catalogue.tables import is_table
from pipelines.recipe import Recipe
from pipelines.rows import Row
from pipelines.storage import File

__all__ = [
    "Catalogue",
    "Listed",
    "Products",
    "files_of",
    "is_table",
    "open_catalogue",
    "product_rows",
    "products",
    "rows",
]


@dataclass(frozen=True, eq=False)
class Products:
    """A catalogue's rows, whether it is the sample catalogue, and the files that its rows name.

    `listed` has the files by URI, as the listings gave them; a file that no listing shows is not in it.
    """

    rows: list[Row]
    is_sample: bool
    listed: Mapping[str, File]


def products(uri: str, recipe: Recipe, limit: int | None = None) -> Products:
    """Open a catalogue, make its rows and look up their pictures' versions.

    Raises:
        ConfigError, StorageError: as `open_catalogue`, `files_of` and `rows` do.
    """
    opened = open_catalogue(uri, recipe.catalogue, limit)
    made = rows(recipe, opened.table, opened.base_uri)
    found = files_of(made, opened.base_uri, opened.listed)
    versions = {uri: file.version for uri, file in found.files.items()}
    finished = [in_unreadable_folder(with_versions(row, versions), found.refused) for row in made]
    return Products(finished, opened.is_sample, found.files)


def product_rows(uri: str, recipe: Recipe, limit: int | None = None) -> tuple[list[Row], bool]:
    """The rows of `products`, and whether the catalogue is the sample catalogue."""
    made = products(uri, recipe, limit)
    return made.rows, made.is_sample
