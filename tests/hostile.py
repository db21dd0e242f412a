"""Files and texts that a stranger might send to take a worker's time or memory, and doors that they come through.

`try_door` tries a door with many nasty values, `read_file` one file: in a process of its own, since a backtracking
pattern holds the interpreter and no thread could stop it.
"""

from __future__ import annotations

import contextlib
import io
import resource
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines import catalogue, storage
from pipelines.errors import PackshotError
from pipelines.pixels.images import decode
from pipelines.pixels.provenance import provenance_xmp
from pipelines.pixels.recolour import colour_of
from pipelines.recipe import Recipe
from tests.fakes import a_recipe

FILE_BYTES = 20_000_000
MAX_PIXELS = 50_000_000

WORDS = (
    *(
        "<!--",
        "-->",
        "<svg",
        "<?xml",
        "?>",
        "<!DOCTYPE svg",
        "<html>",
        "RIFF",
        "WEBP",
        "ftyp",
        "%PDF-",
        "..",
        "./",
        "/",
    ),
    *(
        "\\",
        "s3://",
        "http://",
        "a://",
        "#",
        "#ff00",
        "red",
        "{a}",
        "{{",
        "}",
        "[",
        "]",
        "{",
        ":",
        "-",
        "?",
        "!",
        "&",
        "*",
    ),
    *("|", ">", "'", '"', "%", "@", "`", ",", "1:1", "9", "0x", ".", "_", "~", "<<:", "!!int", "!!binary", "a", "x"),
    *("\u00e9", "\u200f", "\0", "\t", "\n", "\ud7ff", "\U0001f3fa"),
)
UNITS = [*WORDS, " ", "\n", "a ", "[a, ", "[[],", "- - ", "? [", "1:59", '{"a":', "<!-- --> "]
BYTES = [unit.encode() for unit in UNITS] + [
    b"\xef\xbb\xbf",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"II*\0",
]


def repeated(units, joined, longest):
    """Something, then one thing many times, then something else: what patterns break on."""
    few = st.lists(st.sampled_from(units), max_size=4).map(joined.join)
    many = st.builds(lambda unit, times: unit * times, st.sampled_from(units), st.integers(1, longest))
    return st.builds(lambda before, middle, after: (before + middle + after)[:longest], few, many, few)


NASTY_TEXT = repeated(UNITS, "", 20_000) | st.text(max_size=200)
NASTY_BYTES = repeated(BYTES, b"", 60_000) | st.binary(max_size=200)
MANY = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)


def door(use: Callable[[object], object], values, *first: object) -> Callable[[], None]:
    """A door tried with many values; an answer and an error of ours are both well."""

    def tried(value):
        with contextlib.suppress(PackshotError):
            use(value)

    for one in first:
        tried = example(one)(tried)
    return MANY(given(values)(tried))


@cache
def _recipe() -> Recipe:
    with tempfile.TemporaryDirectory() as folder:
        return a_recipe(Path(folder))


def _recipe_over_http(text: object) -> object:
    from serve.requests import Asked, to_row
    from serve.served import Served

    served = Served((_recipe(),), ())
    return to_row(Asked(b"picture", recipe=str(text), prompts=(str(text),), columns={"category": str(text)}), served)


def _columns_over_http(text: object) -> object:
    from serve.requests import parse_columns

    return parse_columns(str(text))


def _cells(text: object) -> object:
    recipe = _recipe()
    names = {recipe.catalogue.key, recipe.catalogue.image, *recipe.needed_columns()}
    return catalogue.rows(recipe, pa.table({name: pa.array([str(text)], pa.string()) for name in names}), "s3://shop/a")


def _phrases(text: object) -> object:
    from pipelines.models.grounding_dino import phrases

    return phrases(str(text))


DOORS = {
    "decode": door(
        lambda encoded: decode(encoded, MAX_PIXELS, keep=False), NASTY_BYTES, b"<!-- -->" * 40, b"<!-- -->" * 30 + b"x"
    ),
    "paths": door(lambda text: storage.resolve("s3://shop/a", text), NASTY_TEXT),
    "cells": door(_cells, NASTY_TEXT),
    "phrases": door(_phrases, NASTY_TEXT),
    "colours": door(colour_of, NASTY_TEXT),
    "credits": door(lambda text: provenance_xmp(text, text), NASTY_TEXT),
    "recipes": door(_recipe_over_http, NASTY_TEXT, "[" * 20_000, "[[]," * 5_000, "name: 1" + ":59" * 6_600 + "."),
    "columns": door(_columns_over_http, NASTY_TEXT, "[" * 100_000),
}


def _saved(format: str, mode: str = "RGB", side: int = 64, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, format, **options)
    return file.getvalue()


def _in_a_jpeg(content: bytes) -> bytes:
    jpeg = _saved("JPEG")
    end_of_jfif = 4 + int.from_bytes(jpeg[4:6], "big")
    return jpeg[:end_of_jfif] + content + jpeg[end_of_jfif:]


def _segments(content: bytes) -> bytes:
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    return _in_a_jpeg(segment * (FILE_BYTES // len(segment)))


def _scans() -> bytes:
    jpeg = _saved("JPEG", side=4_000, progressive=True)
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * 5_000 + jpeg[-2:]


def _of_another_size(jpeg: bytes, side: int) -> bytes:
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", side, side) + jpeg[place + 4 :]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(before: bytes = b"", after: bytes = b"", pixels: bytes | None = None) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    data = _chunk(b"IDAT", zlib.compress(bytes(25 * 8)) if pixels is None else pixels)
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + _chunk(b"IEND", b"")


def _zipped(count: int) -> bytes:
    """So many zeros as zlib packs them: one packed megabyte over and over, since packing them takes seconds."""

    def packed(zeros: int) -> bytes:
        packer = zlib.compressobj(1, wbits=-15)
        return packer.compress(bytes(zeros)) + packer.flush(zlib.Z_FULL_FLUSH)

    megabytes, rest = divmod(count, 2**20)
    adler32 = count % 65_521 << 16 | 1
    return b"\x78\x01" + packed(2**20) * megabytes + packed(rest) + b"\x03\0" + struct.pack(">I", adler32)


def _bomb() -> bytes:
    return _zipped(1_000_000_000)


def _exif() -> bytes:
    """65,535 entries, each of which says that it is nearly all of the file."""
    entries = b"".join(struct.pack("<HHLL", tag, 7, FILE_BYTES - 1_000_000, 10) for tag in range(65_535))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + entries + bytes(FILE_BYTES - 1_000_000)


def _tiff(entries: dict[int, tuple[int, int, int]], content: bytes, at: int = 1_000, size: tuple = (128, 128)) -> bytes:
    """Grey; entries: tag -> type, count, value; content lies at `at`."""
    own = {256: (4, 1, size[0]), 257: (4, 1, size[1]), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    all_entries = sorted((own | entries).items())
    directory = struct.pack("<H", len(all_entries)) + b"".join(
        struct.pack("<HHLL", tag, *values) for tag, values in all_entries
    )
    return (b"II*\0\x08\0\0\0" + directory + b"\0\0\0\0").ljust(at, b"\0") + content


def _tiled(width: int, height: int, bits: int = 8, numbers: int = 1) -> bytes:
    """A small picture whose one zipped tile is declared, and filled, far beyond it."""
    packed = _zipped(width * height * bits // 8)
    tags = {258: (3, 1, bits), 259: (3, 1, 8), 322: (4, 1, width), 323: (4, 1, height), 339: (3, 1, numbers)}
    return _tiff({**tags, 324: (4, 1, 1_000), 325: (4, 1, len(packed))}, packed)


def _listed(tag: int, geometry: dict[int, tuple[int, int, int]], count: int, size: tuple = (128, 128)) -> bytes:
    """One piece named very often."""
    return _tiff({**geometry, tag: (4, count, 1_000)}, struct.pack("<L", 256) * max(count, FILE_BYTES // 4), size=size)


def _gif(extension: bytes) -> bytes:
    header = b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff"
    return header + extension + _saved("GIF", "L", 8)[13 + 768 :]


def _bmp(compression: int, side: int, body: bytes) -> bytes:
    sizes = struct.pack("<LllHHLLllLL", 40, side, side, 1, 8, compression, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<LHHL", 100, 0, 0, 1_078) + sizes + bytes(1_024) + body


TILES = {322: (3, 1, 16), 323: (3, 1, 16)}
FILES: dict[str, tuple[Callable[[], bytes], str | None]] = {
    # name: how it is made, and the reason it is refused for; None where it is read, at a bounded cost
    "tiff-float-tile": (lambda: _tiled(13_312, 13_312, 32, 3), "too_costly"),
    "tiff-32-bit-tile": (lambda: _tiled(13_312, 13_312, 32), "too_costly"),
    "tiff-wide-tile": (lambda: _tiled(2**26, 16), "too_costly"),
    "tiff-tile-of-4-megapixels": (lambda: _tiled(2_048, 2_048, 32, 3), None),
    "tiff-many-tiles": (lambda: _listed(324, TILES, FILE_BYTES // 4), "too_costly"),
    "tiff-many-strips": (lambda: _listed(273, {278: (4, 1, 1)}, FILE_BYTES // 4), "too_costly"),
    "tiff-one-tile-over-and-over": (
        lambda: _listed(324, {322: (4, 1, 4_400), 323: (4, 1, 4_399)}, 60_000, (4_400, 4_400)),
        "too_costly",
    ),
    "tiff-many-channels": (lambda: _tiff({258: (3, FILE_BYTES // 2, 500)}, bytes(FILE_BYTES)), "too_costly"),
    "tiff-strip-of-2**32-rows": (
        lambda: _tiff({273: (4, 1, 1_000), 278: (4, 1, 2**32 - 1), 279: (4, 1, 16_384)}, bytes(16_384)),
        None,
    ),
    "tiff-overlapping-tags": (
        lambda: _tiff(
            {273: (4, 1, 8), 279: (4, 1, 16_384), **dict.fromkeys(range(1_000, 51_000), (7, FILE_BYTES, 100))},
            bytes(FILE_BYTES),
            at=700_000,
        ),
        None,
    ),
    "jpeg-empty-segments": (lambda: _segments(b""), "too_costly"),
    "jpeg-small-exif-segments": (lambda: _segments(b"Exif\0\0abcd"), "too_costly"),
    "jpeg-large-exif-segments": (lambda: _segments(b"Exif\0\0" + b"M" * 60_000), "too_costly"),
    "jpeg-filling": (lambda: _in_a_jpeg(b"\xff" * FILE_BYTES), "too_costly"),
    "jpeg-nothing-between": (lambda: _in_a_jpeg(bytes(FILE_BYTES)), "too_costly"),
    "jpeg-scans": (_scans, "too_costly"),
    "jpeg-giant": (lambda: _of_another_size(_saved("JPEG"), 65_000), "too_many_pixels"),
    "jpeg-profile": (lambda: _saved("JPEG", "CMYK", icc_profile=bytes(16) + b"CMYK" + bytes(16_000_000)), None),
    "png-chunks-before": (lambda: _png(before=_chunk(b"abCd", b"") * (FILE_BYTES // 12)), "too_costly"),
    "png-chunks-after": (lambda: _png(after=_chunk(b"IDAT", b"") * (FILE_BYTES // 12)), "too_costly"),
    "png-packed-text": (lambda: _png(before=_chunk(b"zTXt", b"k\0\0" + _bomb())), "truncated_image"),
    "png-packed-profile": (lambda: _png(before=_chunk(b"iCCP", b"k\0\0" + _bomb())), "truncated_image"),
    "png-packed-pixels": (lambda: _png(pixels=_bomb()), None),
    "png-exif": (lambda: _png(before=_chunk(b"eXIf", _exif())), None),
    "webp-exif": (lambda: _saved("WEBP", exif=_exif()), None),
    "gif-comments": (lambda: _gif(b"!\xfe\1a\0" * (FILE_BYTES // 5)), "too_costly"),
    "gif-one-comment": (lambda: _gif(b"!\xfe" + b"\1a" * (FILE_BYTES // 2) + b"\0"), "too_costly"),
    "gif-giant": (lambda: _gif(b",\0\0\0\0\xff\xff\xff\xff\0\2\2\x44\1\0;"), "too_many_pixels"),
    "bmp-run-lengths": (lambda: _bmp(1, 7_000, b"\0\2\0\0" * (FILE_BYTES // 4)), "too_costly"),
    "bmp-empty-runs": (lambda: _bmp(2, 100, bytes(FILE_BYTES)), "too_costly"),
    "bmp-giant": (lambda: _bmp(0, 7_000, bytes(100)), "truncated_image"),
}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def try_door(name: str) -> None:
    DOORS[name]()


def read_file(path: Path) -> tuple[float, int, str | None]:
    """Seconds, bytes of memory beyond what was used before, and the reason or None."""
    warnings.simplefilter("ignore")
    encoded = path.read_bytes()
    before, began = _peak_bytes(), time.process_time()
    try:
        decode(encoded, MAX_PIXELS, keep=False)
        reason = None
    except PackshotError as error:
        reason = getattr(error, "reason", type(error).__name__)
    return time.process_time() - began, _peak_bytes() - before, reason
