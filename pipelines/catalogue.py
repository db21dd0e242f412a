"""Which items exist: an S3 prefix, or a Parquet/CSV/JSONL product table.

`open_catalogue` makes a table of either; `rows` makes a table's rows, and is the one way in for batch, inline and HTTP.
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
from pipelines.errors import ConfigError, Missing
from pipelines.recipe import Recipe, StepSettings, template_columns
from pipelines.rows import CATALOGUE_COLUMNS, FAILED, OK, OUTCOME_COLUMNS, STEP_WORDS, Row, in_step
from pipelines.settings import CatalogueSettings
from pipelines.tables import TABLES, is_table, parse

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".gif", ".bmp")
GIVEN = ("given_image_bytes", "given_mask_bytes", "given_reference_bytes", "given_boxes_xyxy", "given_points")
BESIDE = ("mask", "scene", "front")
"""The settings of `catalogue` that name a column of one picture an item, beside the item's own."""
MAX_LISTINGS = 50
"""Pictures in more folders of a bucket than this are looked up by one listing of what the folders have in common."""


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
        ConfigError: the table is not there or cannot be parsed, there are no items, a column is missing, a key is empty
            or there twice.
        StorageError: the store does not answer.
    """
    uri = storage.resolve(None, uri)
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
    """Open a catalogue, look up its pictures' versions and make its rows.

    Raises:
        ConfigError, StorageError: as `open_catalogue`, `files_of` and `rows` do.
    """
    opened = open_catalogue(uri, recipe.catalogue, limit)
    listed = {**files_of(recipe, opened.table, opened.base_uri, opened.listed), **opened.listed}
    versions = {uri: file.version for uri, file in listed.items()}
    return Products(rows(recipe, opened.table, opened.base_uri, versions), opened.is_sample, listed)


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
    columns = {settings.key: keys, settings.image: [file.uri for file in files]}
    return Catalogue(pa.table(columns), uri, False, {file.uri: file for file in files})


def _check(table: pa.Table, uri: str, settings: CatalogueSettings) -> None:
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise ConfigError(f"the product table {uri} has the column {twice[0]!r} twice; give each its own name")
    _need_column(table, "catalogue.key", settings.key)
    if "given_image_bytes" not in table.column_names:
        _need_column(table, "catalogue.image", settings.image)
    keys = _texts(table, settings.key)
    empty = [number for number, key in enumerate(keys, start=1) if key is None or not key.strip()]
    if empty:
        raise ConfigError(
            f"{len(empty):,} of {len(keys):,} items of {uri} have no key (`catalogue.key` is {settings.key!r}), "
            f"the first in row {empty[0]}; give each its own"
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
    that lacks a value which a setting needs is failed, reason `missing_value`, with null for what it cannot say.

    Args:
        recipe: what to do.
        table: has the key and image columns, or `given_image_bytes`. `given_seeds` (a list of V integers),
            `given_mask_bytes`, `given_reference_bytes`, `given_boxes_xyxy` (pixels of the upright picture) and
            `given_points` (x, y, and 1 on the product or 0 beside it) are taken along where the table has them.
        base_uri: what relative paths are relative to; None is the folder that the program runs in.
        versions: URI -> version; a URI that is not in it has none.

    Returns:
        One dict an item, with every column of `CATALOGUE_COLUMNS` and `OUTCOME_COLUMNS`; maps are dicts.

    Raises:
        ConfigError: a setting names a column that the table lacks, a path cannot be, or given seeds do not fit.
    """
    settings, known = recipe.catalogue, versions or {}
    templates = _templates(recipe, table)
    texts = {
        name: _texts(table, name) for name in table.column_names if not _holds_bytes(table.schema.field(name).type)
    }
    references = _references(table, settings.references, base_uri)
    files = {name: _uris(table, getattr(settings, name), base_uri) for name in BESIDE}
    sources = _uris(table, settings.image, base_uri) if settings.image in texts else [None] * table.num_rows
    given = {name: _values(table, name if name in table.column_names else None) for name in GIVEN}
    for name in ("given_boxes_xyxy", "given_points"):
        if recipe.find and any(given[name]):
            raise ConfigError(f"column {name!r} says where the product is, and `find` looks by itself; take one out")
    seeds = _given_seeds(recipe, table)
    made: list[Row] = []
    for number, columns in enumerate(_records(texts, table.num_rows)):
        row = _blank_row()
        row |= {
            "item_key": columns[settings.key],
            "columns": columns,
            "given_seeds": seeds[number],
            **_prompts(recipe, templates, columns),
            "seed_basis": columns[recipe.paint.seed_by] if recipe.paint.seed_by else None,
            "source_uri": sources[number],
            "source_version": known.get(sources[number] or ""),
            **{f"{name}_uri": uris[number] for name, uris in files.items()},
            **{f"{name}_version": known.get(uris[number] or "") for name, uris in files.items()},
            **{name: values[number] for name, values in given.items()},
        }
        if references[number]:
            row["reference_uris"] = references[number]
            row["reference_versions"] = [known.get(uri) for uri in references[number]]
        empty = _first_empty(recipe, templates, row)
        if empty:
            row |= {"status": FAILED, "reason": "missing_value", "detail": empty}
        made.append(row)
    return made


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


def _first_empty(recipe: Recipe, templates: Sequence[Sequence[_Template]], row: Row) -> str | None:
    """What a failed row says: the first column that is empty and the setting that needs it."""
    columns = row["columns"]
    for template in itertools.chain.from_iterable(templates):
        for _, name in template.pieces:
            if name is not None and not (columns[name] or "").strip():
                return _is_empty(name, template.setting)
    seed_by = recipe.paint.seed_by
    if seed_by and not (row["seed_basis"] or "").strip():
        return _is_empty(seed_by, "paint.seed_by")
    if row["source_uri"] is None and row["given_image_bytes"] is None:
        return _is_empty(recipe.catalogue.image, "catalogue.image")
    return None


def _is_empty(column: str, setting: str) -> str:
    return f"column {column!r} is empty, and `{setting}` needs it; fill in the cell"


def _given_seeds(recipe: Recipe, table: pa.Table) -> list[list[int] | None]:
    of_recipe = list(recipe.paint.seeds) or None
    if "given_seeds" not in table.column_names:
        return [of_recipe] * table.num_rows
    kind = table.schema.field("given_seeds").type
    if not (pa.types.is_null(kind) or (_is_list(kind) and pa.types.is_integer(kind.value_type))):
        raise ConfigError(f"column 'given_seeds' holds {kind}; expected a list of integers, one a variant")
    seeds: list[list[int] | None] = _values(table, "given_seeds")
    variants = recipe.paint.variants
    for number, listed in enumerate(seeds, start=1):
        if listed is not None and (len(listed) != variants or any(seed is None or seed < 0 for seed in listed)):
            raise ConfigError(
                f"row {number} has given_seeds {listed}; expected {variants} integers from 0, one a variant, or null"
            )
    return [of_recipe if listed is None else listed for listed in seeds]


# --- columns


def _need_column(table: pa.Table, setting: str, column: str, template: str | None = None) -> None:
    if column in table.column_names:
        return
    near = difflib.get_close_matches(column, table.column_names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    hint += f"it has: {', '.join(table.column_names)}"
    where = f" in {template!r}" if template else ""
    raise ConfigError(f"`{setting}` names the column {column!r}{where}, but the catalogue has no such column; {hint}")


def _values(table: pa.Table, name: str | None) -> list[Any]:
    return [None] * table.num_rows if name is None else table.column(name).to_pylist()


def _texts(table: pa.Table, name: str) -> list[str | None]:
    values = table.column(name).to_pylist()
    return [value if value is None or type(value) is str else str(value) for value in values]


def _records(texts: Mapping[str, list[str | None]], count: int) -> Iterator[dict[str, str | None]]:
    if not texts:
        return ({} for _ in range(count))
    return (dict(zip(texts, values, strict=True)) for values in zip(*texts.values(), strict=True))


def _uris(table: pa.Table, name: str | None, base_uri: str | None) -> list[str | None]:
    if name is None:
        return [None] * table.num_rows
    return [_uri(path, base_uri, name, number) for number, path in enumerate(_texts(table, name), start=1)]


def _references(table: pa.Table, name: str | None, base_uri: str | None) -> list[list[str]]:
    """The reference URIs of each row; none where the cell is null or an empty list."""
    if name is None:
        return [[] for _ in range(table.num_rows)]
    if not _is_list(table.schema.field(name).type):
        return [[] if uri is None else [uri] for uri in _uris(table, name, base_uri)]
    cells = table.column(name).to_pylist()
    return [
        [uri for path in cell or () if (uri := _uri(path, base_uri, name, number))]
        for number, cell in enumerate(cells, start=1)
    ]


def _uri(path: Any, base_uri: str | None, column: str, number: int) -> str | None:
    if path is None or not str(path).strip():
        return None
    try:
        return storage.resolve(base_uri, str(path))
    except ConfigError as error:
        raise ConfigError(f"column {column!r}, row {number}: {error}") from None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    if _is_list(kind):
        return _holds_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


# --- files


def files_of(
    recipe: Recipe, table: pa.Table, base_uri: str | None, known: Mapping[str, storage.File] | None = None
) -> dict[str, storage.File]:
    """Every picture, mask and reference that the table names, by URI, from listings only.

    Each folder is listed once, without those in it; a bucket where the table names more than `MAX_LISTINGS` folders is
    listed once below what they have in common. A URI that no listing shows is left out.

    Args:
        recipe: which columns hold URIs.
        table: as for `rows`.
        base_uri: as for `rows`.
        known: what need not be looked up again.

    Raises:
        ConfigError: a column is missing, or a path cannot be.
        StorageError: a bucket does not exist, refuses the credentials, or does not answer.
    """
    wanted = _named_uris(recipe, table, base_uri) - set(known or ())
    found: dict[str, storage.File] = {}
    for folder, deep in _listings({_parent(uri) for uri in wanted}):
        # A local folder that is not there is its pictures' fault, told in their rows.
        if folder.startswith(storage.S3) or os.path.isdir(folder):
            found |= {file.uri: file for file in storage.list_files(folder, deep) if file.uri in wanted}
    return found


def _named_uris(recipe: Recipe, table: pa.Table, base_uri: str | None) -> set[str]:
    settings = recipe.catalogue
    _templates(recipe, table)
    image = settings.image if settings.image in table.column_names else None
    columns = (image, *(getattr(settings, name) for name in BESIDE))
    named = {uri for column in columns for uri in _uris(table, column, base_uri)}
    named |= {uri for uris in _references(table, settings.references, base_uri) for uri in uris}
    return {uri for uri in named if uri is not None}


def _listings(folders: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """What to list, and whether with everything below; a local folder costs no request, so it is always its own."""
    of_bucket: dict[str, list[str]] = defaultdict(list)
    for folder in sorted(folders):
        if folder.startswith(storage.S3):
            of_bucket[folder.removeprefix(storage.S3).partition("/")[0]].append(folder)
        else:
            yield folder, False
    for listed in of_bucket.values():
        if len(listed) <= MAX_LISTINGS:
            yield from ((folder, False) for folder in listed)
        else:
            yield "/".join(_common([folder.split("/") for folder in listed])), True


def _common(paths: Sequence[Sequence[str]]) -> list[str]:
    return [levels[0] for levels in itertools.takewhile(lambda at: len(set(at)) == 1, zip(*paths, strict=False))]


def _parent(uri: str) -> str:
    folder = uri.rpartition("/")[0]
    return folder or "/"


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
