"""Product tables: Parquet, CSV and JSON lines to one Arrow table, values as the file has them; and their columns.

No cell's form depends on what other rows hold.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import os
from typing import Any

import pyarrow as pa

from pipelines.catalogue.cells import holds_bytes
from pipelines.errors import ConfigError
from pipelines.storage import shown

TABLES = (".parquet", ".csv", ".jsonl", ".ndjson")


def is_table(uri: str) -> bool:
    """Whether a name is that of a product table."""
    return uri.lower().endswith(TABLES)


def parse(data: bytes, uri: str) -> pa.Table:
    """Read a product table in the format that its name says; CSV columns stay text, so that "00123" keeps its zeros.

    Raises:
        ConfigError: it cannot be read in that format, or has no rows.
    """
    readers = {".parquet": _parse_parquet, ".csv": _parse_csv}
    try:
        table = readers.get(os.path.splitext(uri)[1].lower(), _parse_jsonl)(data)
    except (pa.ArrowException, ValueError) as error:  # a UnicodeDecodeError is a ValueError
        message = f"the product table {uri} cannot be read as what its name says: {shown(str(error))}"
        raise ConfigError(message) from error
    if not table.num_rows:
        raise ConfigError(f"the product table {uri} has no rows, so there are no items")
    return table


def need_column(table: pa.Table, setting: str, column: str, template: str | None = None) -> None:
    """Check that a column which a setting names, perhaps in a template, can be used.

    Raises:
        ConfigError: the table does not have it, or it holds bytes.
    """
    if column in table.column_names:
        if holds_bytes(kind := table.schema.field(column).type):
            raise ConfigError(f"`{setting}` names the column {column!r}, which holds {kind}, not text; name another")
        return
    near = difflib.get_close_matches(column, table.column_names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    hint += f"it has: {', '.join(table.column_names)}"
    where = f" in {template!r}" if template else ""
    raise ConfigError(f"`{setting}` names the column {column!r}{where}, but the catalogue has no such column; {hint}")


def values_of(table: pa.Table, name: str) -> list[Any]:
    """A column's values; nulls where the table does not have the column."""
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def _parse_parquet(data: bytes) -> pa.Table:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(pa.BufferReader(data)).read()


def _parse_csv(data: bytes) -> pa.Table:
    import pyarrow.csv

    if not data.strip():
        return pa.table({})
    header = data.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode()
    # Spreadsheets of half of Europe write semicolons.
    delimiter = max(",;\t", key=header.count)
    names = next(csv.reader(io.StringIO(header), delimiter=delimiter))
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        # As text "00123" keeps its zeros; "NA" and "null" are words, only nothing is null.
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    )


def _parse_jsonl(data: bytes) -> pa.Table:
    # pyarrow's reader would turn a text like "2024-01-01" into a timestamp.
    records = []
    for number, line in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"line {number} is a {type(record).__name__}; expected an object, `{{...}}`")
        records.append(record)
    names = dict.fromkeys(name for record in records for name in record)
    return pa.table({name: _column(name, [record.get(name) for record in records]) for name in names})


def _column(name: str, values: list[Any]) -> pa.Array:
    """Values as Arrow types them; as text where it would write 7 as 7.0 beside an 8.5, or where types differ."""
    try:
        if not any(map(_has_float, values)):
            return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        pass
    try:
        return pa.array([_written(value) for value in values], pa.string())
    except UnicodeEncodeError as error:
        raise ValueError(f"column {name!r} holds half of a surrogate pair, which is no character") from error


def _has_float(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, list) and any(map(_has_float, value)))


def _written(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return None if isinstance(value, float) and math.isnan(value) else str(value)
