"""Which items exist: an S3 prefix, or a Parquet/CSV/JSONL product table.

`open_catalogue` makes a table of either; `rows` makes a table's rows, and is the one way in for batch, inline and HTTP.
What a table says is a stranger's: a cell that cannot be is its row's failure, and a path is read only where the
catalogue lies or `catalogue.allow` lists its folder.
"""

from __future__ import annotations

import difflib
import itertools
import os
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines import storage
from pipelines.catalogue import cells
from pipelines.catalogue.tables import TABLES, is_table, parse
from pipelines.errors import ConfigError, Missing, StorageError
from pipelines.recipe import Recipe
from pipelines.recipe.settings import CatalogueSettings
from pipelines.recipe.step import StepSettings
from pipelines.recipe.templates import template_columns
from pipelines.rows import CATALOGUE_COLUMNS, FAILED, OK, OUTCOME_COLUMNS, STEP_WORDS, ItemError, Row, in_step

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp")
GIVEN_BYTES = ("given_image_bytes", "given_mask_bytes", "given_reference_bytes")
BESIDE = ("mask", "scene", "front")
"""The settings of `catalogue` that name a column of one picture an item, beside the item's own."""
MAX_LISTINGS = 50
"""More listings than this are not made in a bucket: folders are then listed together, by what they have in common."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items, as a table with the key and image columns, in the table's own order or the listing's.

    `uri` is absolute; `listed` holds, by URI, what a listing told already: nothing for a product table.
    """

    table: pa.Table
    uri: str
    is_sample: bool
    listed: Mapping[str, storage.File] = field(default_factory=dict)

    @property
    def base_uri(self) -> str:
        """What relative paths in the table are relative to."""
        return _parent(self.uri) if is_table(self.uri) else self.uri


@dataclass(frozen=True, eq=False)
class Products:
    """A catalogue's rows, and what the listings told of the files that they name, by URI; one not there is not in it.

    `is_sample`: it is the sample catalogue.
    """

    rows: list[Row]
    is_sample: bool
    listed: Mapping[str, storage.File]


@dataclass(frozen=True)
class _Template:
    """A template taken apart once: literal text, and the column after it."""

    setting: str
    pieces: tuple[tuple[str, str | None], ...]

    def fill(self, columns: Mapping[str, str | None]) -> str | None:
        """The text, or None if a value that it needs is null or blank."""
        made = []
        for literal, name in self.pieces:
            value = "" if name is None else columns[name]
            if value is None or (name is not None and not value.strip()):
                return None
            made.append(literal + value)
        return "".join(made)


# --- opening


def open_catalogue(uri: str, settings: CatalogueSettings, limit: int | None = None) -> Catalogue:
    """Read a product table, or list a prefix or folder of pictures.

    Args:
        uri: ends in .parquet, .csv, .jsonl or .ndjson for a product table; anything else is a prefix or folder, whose
            pictures are items: the key is the path relative to it.
        settings: which column is what.
        limit: take the first so many items; None takes all.

    Raises:
        ConfigError: the table is not there or cannot be parsed, there are no items, a column is missing or holds
            pictures themselves, a key is there twice, or there are none.
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
    _check(table, uri, settings)
    is_sample = (table.schema.metadata or {}).get(b"packshot_sample") == b"1"
    return Catalogue(table if limit is None else table.slice(0, limit), uri, is_sample)


def products(uri: str, recipe: Recipe, limit: int | None = None) -> Products:
    """Open a catalogue, make its rows and look up their pictures' versions.

    Raises:
        ConfigError, StorageError: as `open_catalogue`, `files_of` and `rows` do.
    """
    opened = open_catalogue(uri, recipe.catalogue, limit)
    made = rows(recipe, opened.table, opened.base_uri)
    found = files_of(made, opened.base_uri, opened.listed)
    versions = {uri: file.version for uri, file in found.files.items()}
    finished: list[Row] = [{**row, **_versions(row, versions), **_unlisted(row, found.refused)} for row in made]
    return Products(finished, opened.is_sample, found.files)


def product_rows(uri: str, recipe: Recipe, limit: int | None = None) -> tuple[list[Row], bool]:
    """As `products`, for those who ask for the rows alone; also whether it is the sample catalogue."""
    made = products(uri, recipe, limit)
    return made.rows, made.is_sample


def _list_pictures(uri: str, settings: CatalogueSettings, limit: int | None) -> Catalogue:
    pictures = (file for file in storage.list_files(uri) if file.uri.lower().endswith(PICTURES))
    files = list(itertools.islice(pictures, limit))
    if not files:
        raise ConfigError(
            f"{uri} holds no pictures, so there are no items; "
            f"expected files that end in {', '.join(PICTURES)}, or a product table that ends in {', '.join(TABLES)}"
        )
    folder = uri.rstrip("/") + "/"
    keys = [file.uri.removeprefix(folder) if file.uri.startswith(folder) else _name(file.uri) for file in files]
    columns = {settings.key: _names(keys), settings.image: _names(file.uri for file in files)}
    return Catalogue(pa.table(columns), uri, False, {file.uri: file for file in files})


def _names(names: Iterable[str]) -> pa.Array:
    """File names as a column of text, byte for byte: a local one need not be UTF-8, which its row will tell."""
    return pa.array([name.encode("utf-8", "surrogateescape") for name in names], pa.binary()).view(pa.string())


def _check(table: pa.Table, uri: str, settings: CatalogueSettings) -> None:
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise ConfigError(f"the product table {uri} has the column {twice[0]!r} twice; give each its own name")
    for name in set(GIVEN_BYTES) & set(table.column_names):
        raise ConfigError(
            f"the product table {uri} has the column {name!r}, which comes with a request, not with a table; "
            f"write the pictures to files and name their column in `catalogue`"
        )
    _need_column(table, "catalogue.key", settings.key)
    _need_column(table, "catalogue.image", settings.image)
    keys = [key for key in cells.texts(table, settings.key) if not cells.is_blank(key)]
    if not keys:
        raise ConfigError(
            f"no item of {uri} has a key (`catalogue.key` is {settings.key!r}); name the column that has them"
        )
    counted = Counter(keys)
    if len(counted) < len(keys):
        doubled = [(key, count) for key, count in counted.items() if count > 1]
        named = ", ".join(f"{key!r} ({count} times)" for key, count in doubled[:3])
        more = f" and {len(doubled) - 3:,} more" if len(doubled) > 3 else ""
        raise ConfigError(
            f"`catalogue.key` is {settings.key!r}, but {uri} has the same key more than once: {named}{more}; "
            f"name a column that is unique"
        )


# --- making rows


def rows(recipe: Recipe, table: pa.Table, base_uri: str | None, versions: Mapping[str, str] | None = None) -> list[Row]:
    """A table's rows, in its order: THE way in for batch, inline and HTTP.

    Prompt templates are filled in, whatever a setting names is copied into a typed column, paths become URIs. A row
    that lacks a value which a setting needs is failed, reason `missing_value`, with null for what it cannot say; so is
    one with a path that cannot be (`bad_path`) or lies where the catalogue may not read (`forbidden_path`), and one
    whose seeds, boxes or points are none (`bad_value`). A row without a key is failed as `(row 7)`.

    Args:
        recipe: what to do.
        table: has the key and image columns, or `given_image_bytes`. `given_seeds` (V integers), `given_mask_bytes`,
            `given_reference_bytes`, `given_boxes_xyxy` (pixels of the upright picture) and `given_points` (x, y, and 1
            on the product or 0 beside it) are taken along where the table has them; lists of numbers may be text.
        base_uri: what relative paths are relative to, and below which pictures may lie. None: there is no such place,
            and every path is forbidden that `catalogue.allow` does not list.
        versions: URI -> version; a URI that is not in it has none.

    Returns:
        One dict an item, with every column of `CATALOGUE_COLUMNS` and `OUTCOME_COLUMNS`; maps are dicts, and `columns`
        has what a setting names and `catalogue.keep_columns`.

    Raises:
        ConfigError: a setting names a column that the table lacks or that holds no text, or the table and `find` both
            say where the product is.
    """
    templates = _templates(recipe, table)
    named = _named_columns(recipe)
    texts = {name: cells.texts(table, name) for name in table.column_names if name in named}
    typed = _typed(recipe, table, texts, cells.Area(base_uri, recipe.catalogue.allow))
    not_text = cells.not_text(table, texts)
    made: list[Row] = []
    for number, columns in enumerate(_records(texts, table.num_rows)):
        read = {name: values[number] for name, values in typed.items()}
        faults = [not_text.get(number), *(value for value in read.values() if isinstance(value, ItemError))]
        row = _blank_row()
        row |= {
            "columns": _shown(columns, recipe.catalogue),
            **_prompts(recipe, templates, columns),
            "seed_basis": columns[recipe.paint.seed_by] if recipe.paint.seed_by else None,
            **{name: None if isinstance(value, ItemError) else value for name, value in read.items()},
        }
        row["item_key"] = _key(columns[recipe.catalogue.key], number)
        fault = next((fault for fault in faults if fault), None) or _first_empty(recipe, templates, row, columns)
        if fault:
            row |= {"status": FAILED, "reason": fault.reason, "detail": fault.detail}
        row |= _versions(row, versions or {})
        made.append(row)
    return made


def _key(key: str | None, number: int) -> str:
    """A row without a key gets one for the manifest alone: nothing is rendered under it."""
    return f"(row {number + 1})" if key is None or cells.is_blank(key) else key


def _named_columns(recipe: Recipe) -> set[str]:
    """What of a table enters the manifest's `columns`: what a setting names, and what is to be kept."""
    settings = recipe.catalogue
    beside = (getattr(settings, name) for name in (*BESIDE, "references"))
    named = {settings.key, settings.image, *beside, *settings.keep_columns, *recipe.needed_columns()}
    return {name for name in named if name is not None}


def _typed(
    recipe: Recipe, table: pa.Table, texts: Mapping[str, list[str | None]], area: cells.Area
) -> dict[str, Sequence[Any]]:
    """The rows' typed columns, cell by cell; a cell that cannot be is an ItemError."""
    settings, none = recipe.catalogue, [None] * table.num_rows
    paths = {"source_uri": settings.image, **{f"{name}_uri": getattr(settings, name) for name in BESIDE}}
    typed: dict[str, Sequence[Any]] = {
        column: [area.uri(path, name) for path in texts[name]] if name in texts else none
        for column, name in paths.items()
    }
    if settings.references is not None:
        own = settings.references
        listed = _values(table, own) if cells.is_list(table.schema.field(own).type) else texts[own]
        typed["reference_uris"] = [cells.references(cell, area, own) for cell in listed]
    for name in GIVEN_BYTES:
        typed[name] = _values(table, name)
    for name in cells.GIVEN_PLACES:
        typed[name] = [cells.places(cell, name) for cell in _values(table, name)]
        if recipe.find and any(typed[name]):
            raise ConfigError(f"column {name!r} says where the product is, and `find` looks by itself; take one out")
    given = (cells.seeds(cell, recipe.paint.variants) for cell in _values(table, "given_seeds"))
    typed["given_seeds"] = [list(recipe.paint.seeds) or None if seeds is None else seeds for seeds in given]
    return typed


def _versions(row: Row, versions: Mapping[str, str]) -> dict[str, Any]:
    """The versions of the files that a row names; null for one that has none."""
    known = {
        f"{name}_version": versions.get(row[f"{name}_uri"]) if row[f"{name}_uri"] else None
        for name in ("source", *BESIDE)
    }
    uris = row["reference_uris"]
    return {**known, "reference_versions": [versions.get(uri) for uri in uris] if uris else None}


def _shown(columns: Mapping[str, str | None], settings: CatalogueSettings) -> dict[str, str | None]:
    """The columns as the manifest has them: a path without the signature of a presigned URL."""
    paths = {settings.image, settings.references, *(getattr(settings, name) for name in BESIDE)}
    return {name: storage.unsigned(text) if text and name in paths else text for name, text in columns.items()}


def _blank_row() -> dict[str, Any]:
    row = dict.fromkeys([*CATALOGUE_COLUMNS, *OUTCOME_COLUMNS])
    return {**row, "status": OK, "attempts": 0, "node_keys": {}, "seconds": {}}


def _templates(recipe: Recipe, table: pa.Table) -> list[list[_Template]]:
    """Each step's find, negative, colour if it has one, then paint; every column that is named is checked here."""
    settings = recipe.catalogue
    _need_column(table, "catalogue.key", settings.key)
    if "given_image_bytes" not in table.column_names:
        _need_column(table, "catalogue.image", settings.image)
    for setting, named in [
        *((f"catalogue.{name}", getattr(settings, name)) for name in (*BESIDE, "references")),
        *(("catalogue.keep_columns", name) for name in settings.keep_columns),
        ("paint.seed_by", recipe.paint.seed_by),
    ]:
        if named is not None:
            _need_column(table, setting, named)
    return [[_template(table, *named) for named in _words(step)] for step in recipe.chain()]


def _words(step: StepSettings) -> list[tuple[str, str]]:
    prompts = step.prompts
    return [
        ("prompts.find", step.find_template()),
        ("prompts.negative", prompts.negative),
        *([("prompts.colour", prompts.colour)] if prompts.colour else []),
        *(("prompts.paint", template) for template in prompts.paint),
    ]


def _template(table: pa.Table, setting: str, template: str) -> _Template:
    for column in template_columns(template):
        _need_column(table, setting, column, template)
    pieces = [(literal, name) for literal, name, _, _ in string.Formatter().parse(template)]
    return _Template(setting, tuple(pieces))


def _prompts(
    recipe: Recipe, templates: Sequence[Sequence[_Template]], columns: Mapping[str, str | None]
) -> dict[str, str | list[str | None] | None]:
    words: dict[str, str | list[str | None] | None] = {}
    for number, (step, own) in enumerate(zip(recipe.chain(), templates, strict=True), start=1):
        find, negative, *rest = [template.fill(columns) for template in own]
        colour, paint = (rest[0], rest[1:]) if step.prompts.colour else (None, rest)
        prompts = [paint[variant % len(paint)] for variant in range(step.paint.variants)]
        said = (find, None if None in paint else prompts, negative, colour)
        words |= {in_step(name, number): value for name, value in zip(STEP_WORDS, said, strict=True)}
    return words


def _first_empty(
    recipe: Recipe, templates: Sequence[Sequence[_Template]], row: Row, columns: Mapping[str, str | None]
) -> ItemError | None:
    """What a failed row says: the first column that is empty and the setting that needs it."""
    if cells.is_blank(columns[recipe.catalogue.key]):
        return _is_empty(recipe.catalogue.key, "catalogue.key")
    for template in itertools.chain.from_iterable(templates):
        for _, name in template.pieces:
            if name is not None and cells.is_blank(columns[name]):
                return _is_empty(name, template.setting)
    seed_by = recipe.paint.seed_by
    if seed_by and cells.is_blank(columns[seed_by]):
        return _is_empty(seed_by, "paint.seed_by")
    if row["source_uri"] is None and row["given_image_bytes"] is None:
        return _is_empty(recipe.catalogue.image, "catalogue.image")
    return None


def _is_empty(column: str, setting: str) -> ItemError:
    return ItemError("missing_value", f"column {column!r} is empty, and `{setting}` needs it; fill in the cell")


# --- columns


def _need_column(table: pa.Table, setting: str, column: str, template: str | None = None) -> None:
    if column in table.column_names:
        if cells.holds_bytes(kind := table.schema.field(column).type):
            raise ConfigError(f"`{setting}` names the column {column!r}, which holds {kind}, not text; name another")
        return
    near = difflib.get_close_matches(column, table.column_names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    hint += f"it has: {', '.join(table.column_names)}"
    where = f" in {template!r}" if template else ""
    raise ConfigError(f"`{setting}` names the column {column!r}{where}, but the catalogue has no such column; {hint}")


def _values(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def _records(texts: Mapping[str, list[str | None]], count: int) -> Iterator[dict[str, str | None]]:
    if not texts:
        return ({} for _ in range(count))
    return (dict(zip(texts, values, strict=True)) for values in zip(*texts.values(), strict=True))


# --- files


@dataclass(frozen=True)
class Listed:
    """What listings told: the files by URI, and of the folders that cannot be listed what is wrong with them."""

    files: dict[str, storage.File]
    refused: dict[str, str]


def files_of(rows: Iterable[Row], base_uri: str, known: Mapping[str, storage.File] | None = None) -> Listed:
    """Every picture, mask and reference that rows name, by URI, from listings only.

    Each folder is listed once, without those in it; a bucket of more than `MAX_LISTINGS` folders is listed by what they
    have in common. A URI that no listing shows is left out.

    Args:
        rows: as `rows` makes them.
        base_uri: the catalogue's own place: where that cannot be listed, no row is at fault.
        known: what need not be looked up again.

    Raises:
        StorageError: the catalogue's own bucket or folder does not exist, refuses the credentials, or does not answer.
    """
    files = dict(known or {})
    wanted = {uri for row in rows for uri in _uris(row)} - set(files)
    refused: dict[str, str] = {}
    for folder, deep in _listings({_parent(uri) for uri in wanted}):
        # A local folder that is not there is its pictures' fault, told in their rows.
        if folder.startswith(storage.S3) or os.path.isdir(folder):
            try:
                files |= {file.uri: file for file in storage.list_files(folder, deep) if file.uri in wanted}
            except StorageError as error:
                if _is_own(folder, base_uri):
                    raise
                refused[folder] = str(error)
    return Listed(files, refused)


def _is_own(folder: str, base_uri: str) -> bool:
    # One folder of a disk may be locked; a bucket has one answer for all below a prefix.
    return folder == base_uri or (folder.startswith(storage.S3) and storage.is_below(folder, base_uri))


def _uris(row: Row) -> Iterator[str]:
    yield from (row[f"{name}_uri"] for name in ("source", *BESIDE) if row[f"{name}_uri"])
    yield from row["reference_uris"] or ()


def _unlisted(row: Row, refused: Mapping[str, str]) -> dict[str, Any]:
    """What becomes of a row with a file in a folder that cannot be listed."""
    for uri in _uris(row) if refused and row["status"] == OK else ():
        for folder, sentence in refused.items():
            if uri.startswith(f"{folder}/"):
                return {"status": FAILED, "reason": "folder_unreadable", "detail": sentence}
    return {}


def _listings(folders: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """What to list, and whether with everything below; a local folder costs no request, so it is always its own."""
    of_bucket: dict[str, list[str]] = defaultdict(list)
    for folder in sorted(folders):
        if folder.startswith(storage.S3):
            of_bucket[folder.removeprefix(storage.S3).partition("/")[0]].append(folder)
        else:
            yield folder, False
    for listed in of_bucket.values():
        yield from _few_listings(listed)


def _few_listings(folders: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """At most `MAX_LISTINGS` that show all these folders of a bucket, as deep in it as that allows."""
    split = [tuple(folder.split("/")) for folder in folders]
    depths = range(len(("s3:", "", "bucket")), max(map(len, split)) + 1)
    depth = max(depth for depth in depths if len({levels[:depth] for levels in split}) <= MAX_LISTINGS)
    deep: dict[tuple[str, ...], bool] = {}
    for levels in split:
        deep[levels[:depth]] = deep.get(levels[:depth], False) or len(levels) > depth
    yield from (("/".join(levels), is_deep) for levels, is_deep in deep.items())


def _parent(uri: str) -> str:
    folder = uri.rpartition("/")[0]
    return folder or "/"


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
