"""The row: its columns and their Arrow types, and the words of `status` and `reason`.

An item is one row from start to end. Values are as `pa.Table.to_pylist` gives them; coordinates are pixels of the
EXIF-upright source; facts about variants are parallel lists, one column a fact (V variants, R regions; V*R lists are
variant-major).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from pipelines.scores import MEASURES

Row = Mapping[str, Any]
Update = dict[str, Any]

OK, REJECTED, FAILED, PENDING = "ok", "rejected", "failed", "pending"

BOXES = pa.list_(pa.list_(pa.float32(), 4))  # left, top, right, bottom
POINTS = pa.list_(pa.list_(pa.float32(), 3))  # x, y, and 1 on the product or 0 beside it
SCORES = pa.list_(pa.float32())
STRINGS = pa.list_(pa.string())
RLE = pa.struct([("size", pa.list_(pa.int32(), 2)), ("counts", pa.string())])  # COCO's compressed RLE: size is (H, W)
CROPS = pa.list_(pa.large_binary())  # raw uint8 (S, S, 3), C order
SIZE_WH = pa.list_(pa.int32(), 2)
REGIONS = pa.list_(pa.list_(pa.int32(), 4))  # squares of a canvas, left, top, right, bottom, that may reach beyond it
VARIANT_SCORES = pa.struct([(one.name, one.type) for one in MEASURES])

CATALOGUE_COLUMNS: dict[str, pa.DataType] = {
    "item_key": pa.string(),
    "source_uri": pa.string(),
    "source_version": pa.string(),
    "columns": pa.map_(pa.string(), pa.string()),
    "find_prompt": pa.string(),
    "paint_prompts": STRINGS,
    "negative_prompt": pa.string(),
    "paint_colour": pa.string(),
    "seed_basis": pa.string(),
    "given_seeds": pa.list_(pa.int64()),
    "judge_group": pa.string(),
    "start_at": pa.string(),
    "mask_uri": pa.string(),
    "mask_version": pa.string(),
    "reference_uris": STRINGS,
    "reference_versions": STRINGS,
    "scene_uri": pa.string(),
    "scene_version": pa.string(),
    "front_uri": pa.string(),
    "front_version": pa.string(),
    "given_boxes_xyxy": BOXES,
    "given_points": POINTS,
    "given_image_bytes": pa.large_binary(),
    "given_mask_bytes": pa.large_binary(),
    "given_reference_bytes": pa.list_(pa.large_binary()),
}
"""What `catalogue.rows` makes; the `given_*_bytes` come along where pictures come with rows, as at an endpoint."""

STEP_WORDS = ("find_prompt", "paint_prompts", "negative_prompt", "paint_colour")


def in_step(name: str, step: int) -> str:
    """A column's name in a step: `find_prompt` in the first, `find_prompt.2` in the second."""
    return f"{name}.{step}" if step > 1 else name


def step_of(name: str) -> int:
    """The step in a node's or column's name; 1 where it carries none."""
    return int(name.partition(".")[2] or 1)


def catalogue_columns(steps: int) -> dict[str, pa.DataType]:
    """`CATALOGUE_COLUMNS`, and the words of every later step with its number."""
    later = {in_step(name, step): CATALOGUE_COLUMNS[name] for step in range(2, steps + 1) for name in STEP_WORDS}
    return {**CATALOGUE_COLUMNS, **later}


OUTCOME_COLUMNS: dict[str, pa.DataType] = {
    "status": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
    "node": pa.string(),
    "attempts": pa.int32(),
    "node_keys": pa.map_(pa.string(), pa.string()),
    "seconds": pa.map_(pa.string(), pa.float64()),
}
"""What became of the item: `node` is where it stopped, `seconds` each node's share of its batch's time."""

FETCHED: dict[str, tuple[str, ...]] = {
    "image_bytes": ("source_uri", "source_version"),
    "given_mask_rle": ("mask_uri", "mask_version"),
    "reference_bytes": ("reference_uris", "reference_versions"),
    "scene_bytes": ("scene_uri", "scene_version"),
    "front_mask_rle": ("front_uri", "front_version"),
}
"""What `read` fetches counts, in a node's key, as URI and version at the nodes that read it."""


def is_big(kind: pa.DataType) -> bool:
    """Whether a column of this type travels between groups and never enters the manifest: encoded files, raw crops."""
    return bool(pa.types.is_large_binary(kind.value_type if pa.types.is_list(kind) else kind))


@dataclass(frozen=True)
class Reason:
    """Why an item, or a variant, is not what was hoped for.

    `kind`: a transient failure is planned again; a permanent one stays until the picture or the recipe changes.
    """

    kind: Literal["transient", "permanent"]
    sentence: str
    next_step: str


def _permanent(sentence: str, next_step: str) -> Reason:
    return Reason("permanent", sentence, next_step)


def _transient(sentence: str, next_step: str) -> Reason:
    return Reason("transient", sentence, next_step)


REASONS: dict[str, Reason] = {
    # the table's row cannot be used
    "missing_value": _permanent("A value that a prompt or setting needs is empty.", "Fill in the table's cell."),
    "bad_value": _permanent("A cell of the table holds what cannot be used.", "Mend the cell as `detail` says."),
    "bad_path": _permanent("A path in the table cannot be.", "Write `s3://bucket/key`, or a path below the catalogue."),
    "forbidden_path": _permanent(
        "A path in the table leads out of the catalogue.",
        "Put the file there, or list its folder in `catalogue.allow`.",
    ),
    "folder_unreadable": _transient(
        "The bucket or folder of a file cannot be listed.", "Check its name and the rights to it."
    ),
    # the source could not be used
    "source_missing": _transient("The picture is no longer there.", "Put it back or take its row out of the table."),
    "source_changed": _transient("The picture changed while the run was going.", "Nothing: the next run takes it up."),
    "not_an_image": _permanent("The file is not a picture.", "Replace the file."),
    "unsupported_format": _permanent("The picture's format is not read here.", "Save it as JPEG, PNG, WebP or TIFF."),
    "truncated_image": _permanent("The picture ends too early.", "Upload the file again."),
    "too_many_bytes": _permanent(
        "The file is larger than `read.max_bytes`.", "Make it smaller, or have the limit raised."
    ),
    "too_many_pixels": _permanent(
        "The picture has more pixels than `read.max_pixels`.", "Make it smaller, or have the limit raised."
    ),
    "too_costly": _permanent(
        "Reading the file would take far more time or memory than its picture is worth.",
        "Save it again with an ordinary program.",
    ),
    "mask_missing": _transient("The mask file is not there.", "Put it back or empty the mask column of this item."),
    "mask_unreadable": _permanent("The mask file cannot be read as a picture.", "Replace the mask."),
    "mask_size_differs": _permanent(
        "The mask has another size than the picture.", "Save the mask at the picture's size."
    ),
    "reference_missing": _transient("A reference picture is not there.", "Put it back or take it off the list."),
    "reference_unreadable": _permanent("A reference file cannot be read as a picture.", "Replace the reference."),
    "too_many_references": _permanent(
        "The item has more references than `read.max_references`, or more of them than `read.max_reference_bytes`.",
        "Take some off the list, shrink them, or raise the limit.",
    ),
    "scene_missing": _transient("The scene's picture is not there.", "Put it back or mend the table's cell."),
    "scene_unreadable": _permanent("The scene's file cannot be read as a picture.", "Replace the scene."),
    "front_missing": _transient("The mask of what lies before the product is not there.", "Put it back."),
    "front_unreadable": _permanent("The mask of what lies before the product cannot be read.", "Replace it."),
    "front_size_differs": _permanent(
        "The mask of what lies before the product has another size than the scene.", "Save it at the scene's size."
    ),
    "reference_needed": _permanent("There is no reference picture to insert.", "Name one in the table."),
    "crop_missing": _transient("A stored crop has expired.", "Nothing: the next run paints it again."),
    # a network or a stage broke
    "no_numbers": _transient(
        "A network gave no numbers (NaN): the painter no picture, or the encoder no score.",
        "Take weights whose autoencoder bears half precision, or run on CPUs, which compute in full (fp32).",
    ),
    "unexpected": _transient("Something broke that nobody expected.", "Read `detail`; please report it."),
    # nothing to paint, or too much
    "nothing_found": _permanent(
        "Nothing in the picture matches the prompt.",
        "Check `prompts.find` or `detect.min_score` and its like in `find`.",
    ),
    "box_too_large": _permanent(
        "What was found fills nearly the whole picture.", "Raise `detect.max_area` if that is right."
    ),
    "empty_mask": _permanent("The mask is empty.", "Check the mask, or lower the speck and growth settings."),
    "outside_the_scene": _permanent(
        "The product would lie outside the scene.", "Check `mask.layout.centre_xy` and `height`."
    ),
    "canvas_too_large": _permanent(
        "The canvas would have more pixels than are made here.", "Ask for smaller margins, or a larger `fill`."
    ),
    "nothing_to_grow": _permanent(
        "The picture has the asked shape already.", "Nothing, or ask for other margins or another aspect."
    ),
    "bad_colour": _permanent("The new colour has no name that is known here.", "Write it as `#rrggbb`."),
    "mask_covers_everything": _permanent(
        "The mask covers nearly the whole picture.", "Check the mask or `mask.max_area`."
    ),
    # no variant was good enough
    "nothing_kept": _permanent(
        "No variant passed the judge.", "Look at the variants; paint more, or move a threshold."
    ),
    # why a variant was not kept
    **{one.reason: _permanent(one.sentence, one.next_step) for one in MEASURES},
    "not_among_best": _permanent("Others of the same item scored higher.", "Raise `judge.keep_best`."),
}
"""Every word of `reason`, its class, a plain sentence for people, and what to do next."""


@dataclass(frozen=True)
class ItemError:
    """What a stage answers in the place of an Update for an item that failed."""

    reason: str
    detail: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"reason {self.reason!r} is not a word of rows.REASONS; add it there, with its sentence")


def as_seen_by(row: Row, step: int) -> Row:
    """A row as a node of a step sees it: what later steps added stands under its plain name, the latest first.

    Columns of step s > 1 carry `.s` on their names; of the steps after `step` nothing is seen. A given mask, box or
    point is the first step's.
    """
    if step == 1:
        return row
    seen = {**row, "given_mask_rle": None, "given_boxes_xyxy": None, "given_points": None}
    for number in range(2, step + 1):
        suffix = f".{number}"
        seen |= {name.removesuffix(suffix): value for name, value in row.items() if name.endswith(suffix)}
    return seen


@dataclass(frozen=True)
class Pictures:
    """A row's encoded pictures, by what they are to the step that asks.

    source: the item's own. current: what the step works on, the source or what the step before it handed on. base:
    what the finished picture is, bit for bit, outside of what may change; the current picture where the task made no
    other. canvas: what painted crops are pasted into; the base where the task made no other. overlay: an RGBA file that
    is laid over the finished picture, or None. Before `mask` has run, base and canvas are the current picture.
    """

    source: bytes
    current: bytes
    base: bytes
    canvas: bytes
    overlay: bytes | None

    def named(self, on: Literal["source", "previous_step"]) -> bytes:
        """The picture in which a step finds its product, as the setting `on` says."""
        return self.source if on == "source" else self.current


def pictures(row: Row) -> Pictures:
    """Which picture of a row is which, in the step whose names the row has (`as_seen_by`)."""
    source = row["image_bytes"]
    current = row.get("finished_bytes") or source
    base = row.get("base_bytes") or current
    return Pictures(source, current, base, row.get("canvas_bytes") or base, row.get("overlay_bytes"))


def plain(name: str) -> str:
    """A node's or column's name without its step's number."""
    return name.partition(".")[0]


def to_table(rows: Iterable[Row], arrow_schema: pa.Schema) -> pa.Table:
    """Rows as a table of exactly this schema: a column that no row has is all null, others are left out.

    Maps may come as dicts or as Arrow's list of pairs.
    """
    names = arrow_schema.names
    maps = [name for name in names if pa.types.is_map(arrow_schema.field(name).type)]
    made = []
    for row in rows:
        picked = {name: row.get(name) for name in names}
        for name in maps:
            value = picked[name]
            picked[name] = list(value.items()) if isinstance(value, Mapping) else value
        made.append(picked)
    return pa.Table.from_pylist(made, schema=arrow_schema)
