"""What a table's cells mean: words, paths, places and seeds. A cell that cannot be used is an ItemError of its row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import storage
from pipelines.errors import ConfigError
from pipelines.rows import ItemError

BESIDE = ("mask", "scene", "front")
"""The settings of `catalogue` that name a column with one picture an item, beside the item's own."""
GIVEN_BYTES = ("given_image_bytes", "given_mask_bytes", "given_reference_bytes")
"""The columns that hold the pictures themselves; they come with a request."""
GIVEN_PLACES = {
    "given_boxes_xyxy": ("left, top, right, bottom", 4, "10,20,110,220"),
    "given_points": ("x, y, and 1 on the product or 0 beside it", 3, "60,120,1"),
}
"""The columns that say where a product is: the parts of a place in pixels, their number, and an example."""
MAX_PIXEL = 1 << 24
"""float32, which the manifest has, counts whole numbers up to here."""
MAX_SEED = (1 << 63) - 1
EXACT_FLOAT = 1 << 53
"""Beyond this a float no longer tells whole numbers apart."""


# --- words


def texts(table: pa.Table, name: str) -> list[str | None]:
    """A column as text, cell by cell: a whole number has no decimal point, and NaN is None."""
    column = table.column(name)
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        if is_list(column.type):
            raise ConfigError(f"column {name!r} holds texts that are not UTF-8; write the table anew") from None
        return [None if value is None else _readable(value) for value in column.cast(pa.binary()).to_pylist()]
    except (ValueError, OverflowError):  # times that Python's own cannot hold
        values = column.cast(pa.string()).to_pylist()
    if pa.types.is_float32(column.type):
        values = [None if value is None else float(str(np.float32(value))) for value in values]
    return [value if value is None or type(value) is str else _text(value) for value in values]


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < EXACT_FLOAT else str(value)
    return str(value)


def _readable(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def not_text(table: pa.Table, names: Iterable[str]) -> dict[int, ItemError]:
    """The errors of the rows, by number, that hold a text which is not UTF-8."""
    wrong: dict[int, ItemError] = {}
    for name in names:
        try:
            table.column(name).validate(full=True)
        except pa.ArrowInvalid:
            for number, value in enumerate(table.column(name).cast(pa.binary()).to_pylist()):
                if value is not None and not _is_utf8(value):
                    detail = f"column {name!r} holds {_readable(value)!r}, which is not UTF-8; rename or rewrite it"
                    wrong[number] = ItemError("bad_value", detail)
    return wrong


def is_blank(text: str | None) -> bool:
    """Whether a cell is null or holds only spaces."""
    return text is None or not text.strip()


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column holds bytes, at any depth."""
    if is_list(kind):
        return holds_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


# --- paths


@dataclass(frozen=True)
class Area:
    """Where a catalogue's files may lie: below its own folder, and below those that `catalogue.allow` lists."""

    base_uri: str | None
    allowed: tuple[str, ...]

    def uri(self, path: str | None, column: str) -> str | ItemError | None:
        """The URI that a cell's path means, or why it cannot be used; None for a blank cell."""
        if path is None or is_blank(path):
            return None
        try:
            uri = storage.resolve(self.base_uri, path)
        except ConfigError as error:
            return ItemError("bad_path", f"column {column!r}: {error}")
        if storage.is_s3(uri) and not uri.removeprefix(storage.S3).partition("/")[2]:
            return ItemError("bad_path", f"column {column!r}: {path!r} names a bucket and no file in it")
        if any(storage.is_below(uri, folder) for folder in (self.base_uri, *self.allowed) if folder is not None):
            return uri
        return ItemError("forbidden_path", f"column {column!r} names {storage.shown(path)!r}, {self._instead(path)}")

    def _instead(self, path: str) -> str:
        if self.base_uri is None:
            return "and no folder may be read here; send the picture along, or list its folder in `catalogue.allow`"
        if storage.is_s3(self.base_uri) and path.startswith("/"):
            return (
                f"a path of the machine that renders, and the catalogue lies in {self.base_uri}; write it relative to "
                f"that, without the first `/`, or list its folder in `catalogue.allow`"
            )
        return (
            f"which does not lie below the catalogue's own folder {self.base_uri} (links are followed); put the file "
            f"there, or list its folder in `catalogue.allow`"
        )


def references(cell: str | list[Any] | None, area: Area, column: str) -> list[str] | ItemError | None:
    """The reference URIs of a cell: a list, a list as JSON, or one path; None if there are none."""
    paths = cell if isinstance(cell, list) else _listed(cell)
    uris = [area.uri(None if path is None else str(path), column) for path in paths]
    fault = next((uri for uri in uris if isinstance(uri, ItemError)), None)
    return fault or [uri for uri in uris if isinstance(uri, str)] or None


def _listed(text: str | None) -> list[Any]:
    try:
        read = json.loads(text) if text and text.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        read = None
    return read if isinstance(read, list) else [text]


def places(cell: Any, column: str) -> list[list[float]] | ItemError | None:
    """Given boxes or points: a list of them, a single one, or either as text. None for a blank cell."""
    what, length, example = GIVEN_PLACES[column]
    given = _numbers(cell)
    if given is None:
        return None
    if isinstance(given, list):
        listed = [given] if given and not isinstance(given[0], list) else given
        if all(_is_place(place, length) for place in listed):
            return listed
    return ItemError(
        "bad_value",
        f"column {column!r} holds {storage.shown(str(cell))!r}; expected {what}, in pixels of the upright picture: "
        f"`{example}`, or several as `[[...], [...]]`",
    )


def _is_place(place: Any, length: int) -> bool:
    if not isinstance(place, list) or len(place) != length or not all(map(_is_pixel, place)):
        return False
    return place[2] in (0, 1) if length == 3 else bool(place[0] < place[2] and place[1] < place[3])


def _is_pixel(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_PIXEL


def _numbers(cell: Any) -> Any:
    """A cell as it is, or the list that its text writes: `[[1, 2], [3, 4]]`, `1, 2` or `1 2`; None for a blank one."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    try:
        return json.loads(text if text.startswith("[") else f"[{','.join(text.replace(',', ' ').split())}]") or None
    except (ValueError, RecursionError):
        return cell


def seeds(cell: Any, variants: int) -> list[int] | ItemError | None:
    """Given seeds, one a variant, as a list or as text. None for a blank cell."""
    given = _numbers(cell)
    if given is None:
        return None
    if isinstance(given, list) and len(given) == variants and all(map(_is_seed, given)):
        return given
    return ItemError(
        "bad_value",
        f"column 'given_seeds' holds {storage.shown(str(cell))!r}; expected {variants} integers, one a variant, "
        f"from 0 to {MAX_SEED}",
    )


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SEED
