"""What was made: reading and writing a run's two Parquet tables, and the difference of two nights.

A published run is its `run.json`: put last, put if absent, and naming every file with rows, bytes and sha256. Readers
open what it names and nothing else, so orphans of a broken run are never seen. Each run is the whole catalogue.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import InfrastructureError
from pipelines.rows import OK, PENDING, STRINGS, Row, as_seen_by

SCHEMA_VERSION = 1
CHECKPOINTS = pa.list_(
    pa.struct([("node", pa.string()), ("uri", pa.string()), ("revision", pa.string()), ("sha256", pa.string())])
)
PAINTED_BY = ("task", "sampler", "spacing", "clip_skip", "steps", "guidance", "strength")
"""The settings of the painter that stand in a row of `images`; its LoRA files are among the checkpoints."""
IMAGES_SCHEMA = pa.schema(
    [
        ("schema_version", pa.int32()),
        ("item_key", pa.string()),
        ("variant", pa.int32()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("prompt", pa.string()),
        ("negative_prompt", pa.string()),
        ("task", pa.string()),
        ("sampler", pa.string()),
        ("spacing", pa.string()),
        ("clip_skip", pa.int32()),
        ("steps", pa.int32()),
        ("guidance", pa.float32()),
        ("strength", pa.float32()),
        ("seed", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("checkpoints", CHECKPOINTS),
        ("text_similarity", pa.float32()),
        ("reference_similarity", pa.float32()),
        ("ring_error", pa.float32()),
        ("expansion", pa.float32()),
        ("changed_outside", pa.int64()),
        ("max_difference", pa.int32()),
        ("outside_sha256", pa.string()),
        ("exactness", pa.string()),
        ("image_uri", pa.string()),
        ("image_sha256", pa.string()),
        ("crop_uris", STRINGS),
        ("source_uri", pa.string()),
        ("source_sha256", pa.string()),
        ("reference_uris", STRINGS),
    ]
)
"""A row a variant: all that is needed to make it again, and what became of it. Width and height are the picture's."""


@dataclass(frozen=True)
class Published:
    """A run that readers may trust: its number, its folder, and what `run.json` says."""

    run_id: int
    run_uri: str
    facts: Mapping[str, Any]


def run_uri(output_uri: str, run_id: int) -> str:
    """The folder of a run: eight digits, so that names sort as numbers."""
    return storage.join(output_uri, "runs", f"{run_id:08d}")


def runs(output_uri: str) -> dict[int, set[str]]:
    """Every run under an output, oldest first, with the names of the files that lie directly in its folder."""
    base = storage.join(output_uri, "runs")
    found: dict[int, set[str]] = {}
    for file in storage.list_files(base, missing_ok=True):
        number, _, name = file.uri.removeprefix(base).lstrip("/").partition("/")
        if number.isdigit():
            found.setdefault(int(number), set()).add(name)
    return dict(sorted(found.items()))


def newest(output_uri: str) -> Published | None:
    """The newest published run, or None."""
    for run_id, names in reversed(runs(output_uri).items()):
        if "run.json" in names:
            return open_run(output_uri, run_id)
    return None


def open_run(output_uri: str, run_id: int) -> Published:
    """A published run by its number.

    Raises:
        Missing: there is none of that number.
    """
    uri = run_uri(output_uri, run_id)
    return Published(run_id, uri, json.loads(storage.read(storage.join(uri, "run.json"))))


def read(published: Published, table: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The tables of a published run's files, `items` or `images`, each checked against its sha256.

    Raises:
        InfrastructureError: a file is not what `run.json` says.
    """
    for file in published.facts["files"]:
        if file["path"].startswith(f"{table}/"):
            data = storage.read(storage.join(published.run_uri, file["path"]))
            digest = hashlib.sha256(data).hexdigest()
            if digest != file["sha256"]:
                raise InfrastructureError(
                    f"{file['path']} of run {published.run_id} has sha256 {digest}; run.json says {file['sha256']}: it "
                    "was changed or cut short; restore it, or publish a new run"
                )
            yield pq.read_table(io.BytesIO(data), columns=columns)


def items_table(table: pa.Table) -> pa.Table:
    """Finished rows as the `items` table: the schema's version goes first."""
    return table.add_column(0, "schema_version", pa.array([SCHEMA_VERSION] * len(table), pa.int32()))


def images_table(items: pa.Table, recipe: Mapping[str, Any], checkpoints: list[dict[str, Any]]) -> pa.Table:
    """The `images` table of finished items, a row a painted variant; `recipe` is its settings as plain data.

    Of a recipe with steps, the last one's: its prompts, settings and seeds are what made the picture from there on.
    """
    steps = max(1, len(recipe.get("steps") or ()))
    columns = [
        name for name in items.column_names if name not in ("columns", "node_keys", "seconds", "object_masks_rle")
    ]
    rows = [
        image
        for item in items.select(columns).to_pylist()
        for image in _images(as_seen_by(item, steps), recipe, checkpoints)
    ]
    return pa.Table.from_pylist(rows, schema=IMAGES_SCHEMA)


def _images(item: Row, recipe: Mapping[str, Any], checkpoints: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seeds = item["variant_seeds"] or []
    # A pending item was painted on another night, perhaps as another recipe said: what is not known is null.
    is_old = item["status"] == PENDING
    paint = {} if is_old else recipe["paint"]
    a_variant = len(item["crop_uris"] or []) // len(seeds) if seeds else 0

    def of(column: str, variant: int) -> Any:
        return item[column][variant] if item[column] else None

    for variant, seed in enumerate(seeds):
        yield {
            "schema_version": SCHEMA_VERSION,
            "item_key": item["item_key"],
            "variant": variant,
            "kept": of("variant_kept", variant),
            "reason": of("variant_reasons", variant),
            "prompt": item["paint_prompts"][variant],
            "negative_prompt": item["negative_prompt"],
            **{name: paint.get(name) for name in PAINTED_BY},
            "seed": seed,
            **dict(zip(("width", "height"), item["canvas_size_wh"] or item["size_wh"], strict=True)),
            "checkpoints": None if is_old else checkpoints,
            **(of("variant_scores", variant) or {}),
            "changed_outside": of("changed_outside", variant),
            "max_difference": of("max_differences", variant),
            "outside_sha256": of("outside_sha256s", variant),
            "exactness": of("exactness", variant),
            "image_uri": of("image_uris", variant),
            "image_sha256": of("image_sha256s", variant),
            "crop_uris": (item["crop_uris"] or [])[variant * a_variant : (variant + 1) * a_variant],
            "source_uri": item["source_uri"],
            "source_sha256": item["source_sha256"],
            "reference_uris": item["reference_uris"],
        }


def write_file(run: str, path: str, table: pa.Table) -> dict[str, Any]:
    """Put one Parquet file of a run and answer what `run.json` says of it: path, rows, bytes, sha256."""
    data = to_parquet(table)
    storage.write(storage.join(run, path), data)
    return {"path": path, "rows": len(table), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def to_parquet(table: pa.Table) -> bytes:
    """A table as Parquet bytes, with checksummed pages."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def publish(run: str, facts: Mapping[str, Any]) -> bool:
    """Put `run.json`, last; False if the run was published already."""
    data = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, sort_keys=True).encode()
    return storage.write(storage.join(run, "run.json"), data, if_absent=True)


def difference(old: Published, new: Published) -> dict[str, list[str]]:
    """What changed between two nights, as item keys: added, vanished, pictures_changed, now_ok, no_longer_ok."""
    before, after = _outcomes(old), _outcomes(new)
    both = before.keys() & after.keys()
    return {
        "added": sorted(after.keys() - before.keys()),
        "vanished": sorted(before.keys() - after.keys()),
        "pictures_changed": sorted(key for key in both if before[key][1] != after[key][1]),
        "now_ok": sorted(key for key in both if before[key][0] != OK and after[key][0] == OK),
        "no_longer_ok": sorted(key for key in both if before[key][0] == OK and after[key][0] != OK),
    }


def _outcomes(published: Published) -> dict[str, tuple[str, tuple[str | None, ...]]]:
    tables: Iterable[pa.Table] = read(published, "items", ["item_key", "status", "image_sha256s"])
    return {
        row["item_key"]: (row["status"], tuple(row["image_sha256s"] or ()))
        for table in tables
        for row in table.to_pylist()
    }
