"""The manifest of a run: its two Parquet tables, written and read.

`run.json` publishes a run: it is put last and only if absent, and names every file with rows, bytes and sha256. Readers
open the files that it names and no others, so those of a broken run are never seen. Each published run is the whole
catalogue.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines import storage
from pipelines.errors import InfrastructureError, Missing
from pipelines.rows import FAILED, OK, PENDING, REJECTED, STRINGS, Row, as_seen_by
from pipelines.scores import MEASURES

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
STATUSES = (OK, REJECTED, FAILED, PENDING)
STORED = r"^.*/((?:images|crops|variants)/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9]+)$"
"""The URI of a file that lies at the sha256 of its bytes below an output; the group is its path in the output."""
CHECKPOINTS = pa.list_(
    pa.struct([("node", pa.string()), ("uri", pa.string()), ("revision", pa.string()), ("sha256", pa.string())])
)
PAINTED_BY = ("task", "sampler", "spacing", "clip_skip", "steps", "guidance", "strength")
"""The settings of `paint` that are columns of `images`; its LoRA files are among the checkpoints."""
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
        *((one.name, one.type) for one in MEASURES),
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
"""A row a variant: all that is needed to make it again, and its outcome. Width and height are the picture's."""


@dataclass(frozen=True)
class Published:
    """A published run: its number, its folder, and what its `run.json` says."""

    run_id: int
    run_uri: str
    facts: Mapping[str, Any]


def run_uri(output_uri: str, run_id: int) -> str:
    """The folder of a run: eight digits, so that names sort as numbers."""
    return storage.join(output_uri, "runs", f"{run_id:08d}")


def sibling_uri(run: str, run_id: int) -> str:
    """The folder of another run of the output in which the folder `run` lies."""
    return storage.join(storage.parent(run), f"{run_id:08d}")


def equation(counts: Mapping[str, int]) -> str:
    """The counts of a run as a sentence: `26 planned = 22 ok + 2 rejected + 2 failed + 0 pending`."""
    return f"{counts['planned']} planned = {' + '.join(f'{counts[status]} {status}' for status in STATUSES)}"


@dataclass(frozen=True)
class Runs:
    """The runs under an output: the highest number, the newest published run, and the unfinished ones.

    `unfinished` are the numbers, newest first, of the runs without a `run.json` that are newer than the last published
    run that left nothing pending: the rows that they finished may still be used.
    """

    highest: int
    newest: Published | None
    unfinished: tuple[int, ...]


def runs(output_uri: str) -> Runs:
    """Look at an output's runs: one shallow listing, and one read a run down to the last that left nothing pending."""
    numbers = _numbers(output_uri)
    newest, unfinished = None, []
    for number in numbers:
        try:
            published = open_run(output_uri, number)
        except Missing:
            unfinished.append(number)
            continue
        newest = newest or published
        if not published.facts.get("counts", {}).get(PENDING):
            break
    return Runs(max(numbers, default=0), newest, tuple(unfinished))


def published_runs(output_uri: str) -> Iterator[Published]:
    """The published runs, newest first; each is opened when it is asked for."""
    for number in _numbers(output_uri):
        with contextlib.suppress(Missing):
            yield open_run(output_uri, number)


def _numbers(output_uri: str) -> list[int]:
    """The numbers of all runs under an output, highest first."""
    names = map(storage.name, storage.list_folders(storage.join(output_uri, "runs")))
    return sorted((int(name) for name in names if name.isdigit()), reverse=True)


def newest(output_uri: str) -> Published | None:
    """The newest published run, or None."""
    return next(published_runs(output_uri), None)


def open_run(output_uri: str, run_id: int) -> Published:
    """Open a published run by its number.

    Raises:
        Missing: no run of that number is published.
    """
    uri = run_uri(output_uri, run_id)
    return Published(run_id, uri, json.loads(storage.read(storage.join(uri, "run.json"))))


def read(published: Published, table: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Read the files of a published run's table, `items` or `images`, each checked against its sha256.

    The URIs of pictures and crops in the output are given as the output lies now, so an output that was copied, renamed
    or written under another spelling can be read.

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
            yield _at_home(_from_parquet(data, columns), published.run_uri)


def read_parts(run: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Read the finished rows that a run's workers wrote, page checksums checked.

    A part that is damaged or cut short is logged and left out: its rows count as not done.

    Args:
        run: the run's folder; without parts there are no tables.
        columns: all if None; a column that a part of an older version lacks is left out.
    """
    for file in storage.list_files(storage.join(run, "parts"), missing_ok=True):
        if file.uri.endswith(".parquet"):
            data = storage.read(file.uri, file.version)
            try:
                yield _at_home(_from_parquet(data, columns), run)
            except (pa.ArrowException, OSError) as error:
                logger.warning("%s cannot be read, so its rows are done again: %s", file.uri, error)


def _from_parquet(data: bytes, columns: list[str] | None) -> pa.Table:
    # Neither a BytesIO nor threads: pyarrow 26 leaves one behind that now and then aborts the interpreter as it ends.
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    there = set(file.schema_arrow.names)
    wanted = None if columns is None else [name for name in columns if name in there]
    return file.read(columns=wanted, use_threads=False)


def _at_home(table: pa.Table, run: str) -> pa.Table:
    """The table with the URIs of stored files as the output lies now."""
    output = storage.parent(storage.parent(run.rstrip("/")))
    for name in ("crop_uris", "image_uris", "image_uri"):
        if name in table.column_names and table[name].type in (STRINGS, pa.string()):
            moved = [_moved(chunk, output) for chunk in table[name].chunks]
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.chunked_array(moved, table[name].type))
    return table


def _moved(uris: pa.Array, output: str) -> pa.Array:
    if pa.types.is_string(uris.type):
        here = output.replace("\\", "\\\\")
        return pc.replace_substring_regex(uris, STORED, f"{here}/\\1")
    return pa.ListArray.from_arrays(uris.offsets, _moved(uris.values, output), type=uris.type, mask=uris.is_null())


def items_table(table: pa.Table) -> pa.Table:
    """Finished rows as the `items` table, which has the schema's version as its first column."""
    return table.add_column(0, "schema_version", pa.array([SCHEMA_VERSION] * len(table), pa.int32()))


def images_table(items: pa.Table, recipe: Mapping[str, Any], checkpoints: list[dict[str, Any]]) -> pa.Table:
    """The `images` table of finished items, a row a painted variant; `recipe` is the recipe as plain data.

    Of a recipe with steps, the rows have the last step's prompts, settings and seeds.
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
    # A pending item, and a failed one that keeps its pictures, was painted on another night, perhaps by another recipe:
    # what is not known is null. A failed item's prompts are tonight's, so they are null too.
    keeps_pictures = item["status"] == FAILED and bool(item["image_uris"])
    is_old = item["status"] == PENDING or keeps_pictures
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
            "prompt": None if keeps_pictures else item["paint_prompts"][variant],
            "negative_prompt": None if keeps_pictures else item["negative_prompt"],
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
    """Put one Parquet file of a run and return what `run.json` says of it: path, rows, bytes, sha256.

    Raises:
        InfrastructureError: the file exists; it is not written over, since a published run may name it.
    """
    data = to_parquet(table)
    if not storage.write(storage.join(run, path), data, if_absent=True):
        raise InfrastructureError(f"{path} of {run} is there already; a run's files are written once")
    return {"path": path, "rows": len(table), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def to_parquet(table: pa.Table) -> bytes:
    """A table as Parquet bytes, with checksummed pages."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue()


def publish(run: str, facts: Mapping[str, Any]) -> bool:
    """Put `run.json`, the last file of a run; False if the run was published already."""
    data = json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, sort_keys=True).encode()
    return storage.write(storage.join(run, "run.json"), data, if_absent=True)
