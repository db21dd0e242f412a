"""The rows of a table: prompts filled in, paths resolved, every cell checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from pipelines import storage
from pipelines.catalogue import cells
from pipelines.catalogue.cells import BESIDE, GIVEN_BYTES, GIVEN_PLACES
from pipelines.catalogue.prompts import Template, prompts, templates_of
from pipelines.catalogue.tables import need_column, values_of
from pipelines.errors import ConfigError
from pipelines.recipe import Recipe
from pipelines.recipe.settings import CatalogueSettings
from pipelines.rows import CATALOGUE_COLUMNS, FAILED, OK, OUTCOME_COLUMNS, ItemError, Row

Columns = Mapping[str, str | None]


def rows(recipe: Recipe, table: pa.Table, base_uri: str | None, versions: Mapping[str, str] | None = None) -> list[Row]:
    """Make a table's rows, in its order: THE way in for batch, inline and HTTP.

    Prompt templates are filled in, a column that a setting names is copied into a typed column, paths become URIs. A
    row fails with null for what it lacks, and the reason `missing_value` (a value that a setting needs is empty),
    `bad_path` (a path cannot be used), `forbidden_path` (it lies where the catalogue may not read) or `bad_value`
    (seeds, boxes or points cannot be used, or a text is not UTF-8). A row without a key is failed as `(row 7)`.

    Args:
        recipe: what to do.
        table: has the key and image columns, or `given_image_bytes`. `given_seeds` (V integers), `given_mask_bytes`,
            `given_reference_bytes`, `given_boxes_xyxy` (pixels of the upright picture) and `given_points` (x, y, and 1
            on the product or 0 beside it) are taken along where the table has them; lists of numbers may be text.
        base_uri: what relative paths are relative to, and below which pictures may lie. None: no such place exists,
            and every path is forbidden that `catalogue.allow` does not list.
        versions: URI -> version; a URI that is not in it has none.

    Returns:
        One dict an item, with every column of `CATALOGUE_COLUMNS` and `OUTCOME_COLUMNS`; maps are dicts, and `columns`
        has the columns that a setting names and those of `catalogue.keep_columns`.

    Raises:
        ConfigError: a setting names a column that the table lacks or that holds no text, or the table and `find` both
            say where the product is.
    """
    _check_named_columns(recipe, table)
    templates = templates_of(recipe, table)
    named = _named_columns(recipe)
    texts = {name: cells.texts(table, name) for name in table.column_names if name in named}
    typed = _typed(recipe, table, texts, cells.Area(base_uri, recipe.catalogue.allow))
    not_text = cells.not_text(table, texts)
    made = [
        _row(recipe, templates, number, columns, {name: values[number] for name, values in typed.items()}, not_text)
        for number, columns in enumerate(_records(texts, table.num_rows))
    ]
    return [with_versions(row, versions or {}) for row in made]


def with_versions(row: Row, versions: Mapping[str, str]) -> Row:
    """The row with the versions of the files that it names; null for a file that has none."""
    known = {
        f"{name}_version": versions.get(row[f"{name}_uri"]) if row[f"{name}_uri"] else None
        for name in ("source", *BESIDE)
    }
    uris = row["reference_uris"]
    return {**row, **known, "reference_versions": [versions.get(uri) for uri in uris] if uris else None}


# --- all rows at once


def _check_named_columns(recipe: Recipe, table: pa.Table) -> None:
    """Raise a ConfigError where a setting, templates excepted, names a column that cannot be used."""
    settings = recipe.catalogue
    need_column(table, "catalogue.key", settings.key)
    if "given_image_bytes" not in table.column_names:
        need_column(table, "catalogue.image", settings.image)
    for setting, column in [
        *((f"catalogue.{name}", getattr(settings, name)) for name in (*BESIDE, "references")),
        *(("catalogue.keep_columns", name) for name in settings.keep_columns),
        ("paint.seed_by", recipe.paint.seed_by),
    ]:
        if column is not None:
            need_column(table, setting, column)


def _named_columns(recipe: Recipe) -> set[str]:
    """The table's columns that enter the manifest's `columns`: those that a setting names, and those to be kept."""
    settings = recipe.catalogue
    beside = (getattr(settings, name) for name in (*BESIDE, "references"))
    named = {settings.key, settings.image, *beside, *settings.keep_columns, *recipe.needed_columns()}
    return {name for name in named if name is not None}


def _typed(
    recipe: Recipe, table: pa.Table, texts: Mapping[str, list[str | None]], area: cells.Area
) -> dict[str, Sequence[Any]]:
    """The rows' typed columns, cell by cell; a cell that cannot be used is an ItemError."""
    settings, none = recipe.catalogue, [None] * table.num_rows
    paths = {"source_uri": settings.image, **{f"{name}_uri": getattr(settings, name) for name in BESIDE}}
    typed: dict[str, Sequence[Any]] = {
        column: [area.uri(path, name) for path in texts[name]] if name in texts else none
        for column, name in paths.items()
    }
    if settings.references is not None:
        own = settings.references
        listed = values_of(table, own) if cells.is_list(table.schema.field(own).type) else texts[own]
        typed["reference_uris"] = [cells.references(cell, area, own) for cell in listed]
    for name in GIVEN_BYTES:
        typed[name] = values_of(table, name)
    for name in GIVEN_PLACES:
        typed[name] = [cells.places(cell, name) for cell in values_of(table, name)]
        if recipe.find and any(typed[name]):
            raise ConfigError(f"column {name!r} says where the product is, and `find` looks by itself; take one out")
    given = (cells.seeds(cell, recipe.paint.variants) for cell in values_of(table, "given_seeds"))
    typed["given_seeds"] = [list(recipe.paint.seeds) or None if seeds is None else seeds for seeds in given]
    return typed


def _records(texts: Mapping[str, list[str | None]], count: int) -> Iterator[Columns]:
    if not texts:
        return ({} for _ in range(count))
    return (dict(zip(texts, values, strict=True)) for values in zip(*texts.values(), strict=True))


# --- one row


def _row(
    recipe: Recipe,
    templates: Sequence[Sequence[Template]],
    number: int,
    columns: Columns,
    typed: Mapping[str, Any],
    not_text: Mapping[int, ItemError],
) -> Row:
    """A row, which its first fault fails: a text that is not UTF-8, then a typed cell, then an empty value."""
    key = columns[recipe.catalogue.key]
    row: Row = {
        **dict.fromkeys([*CATALOGUE_COLUMNS, *OUTCOME_COLUMNS]),
        **{"status": OK, "attempts": 0, "node_keys": {}, "seconds": {}},
        # The manifest needs a key, and nothing is rendered under this one.
        "item_key": f"(row {number + 1})" if key is None or cells.is_blank(key) else key,
        "columns": _without_signatures(columns, recipe.catalogue),
        **prompts(recipe, templates, columns),
        "seed_basis": columns[recipe.paint.seed_by] if recipe.paint.seed_by else None,
        **{name: None if isinstance(value, ItemError) else value for name, value in typed.items()},
    }
    faults = [not_text.get(number), *(value for value in typed.values() if isinstance(value, ItemError))]
    fault = next((fault for fault in faults if fault), None) or _first_empty(recipe, templates, row, columns)
    return {**row, "status": FAILED, "reason": fault.reason, "detail": fault.detail} if fault else row


def _without_signatures(columns: Columns, settings: CatalogueSettings) -> dict[str, str | None]:
    """The columns as the manifest has them: paths without the signature of a presigned URL."""
    paths = {settings.image, settings.references, *(getattr(settings, name) for name in BESIDE)}
    return {name: storage.unsigned(text) if text and name in paths else text for name, text in columns.items()}


def _first_empty(
    recipe: Recipe, templates: Sequence[Sequence[Template]], row: Row, columns: Columns
) -> ItemError | None:
    """The error of the first column that is empty and that a setting needs."""
    needed = [
        (recipe.catalogue.key, "catalogue.key"),
        *((name, template.setting) for template in chain.from_iterable(templates) for name in template.columns()),
        *([(recipe.paint.seed_by, "paint.seed_by")] if recipe.paint.seed_by else []),
    ]
    empty = next(((name, setting) for name, setting in needed if cells.is_blank(columns[name])), None)
    if empty is None and row["source_uri"] is None and row["given_image_bytes"] is None:
        empty = recipe.catalogue.image, "catalogue.image"
    if empty is None:
        return None
    name, setting = empty
    return ItemError("missing_value", f"column {name!r} is empty, and `{setting}` needs it; fill in the cell")
