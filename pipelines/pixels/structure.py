"""What a file's structure would cost its reader, told from its structure alone, before any library opens it.

Readers trust a file's own figures: how large its tiles are, how many pieces follow. A small file that lies there takes
gigabytes or hours, and a limit of pixels does not see it. So pieces are counted here, with work and memory that grow
with the pieces up to their limit and no further. What is damaged in any other way is left to the reader to tell.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from pipelines.errors import ImageError

MOST_PIECES: Final = 65_536
"""Segments, chunks, blocks, strips or tiles of a file. A PNG of 50 MB in the usual chunks of 8 kB has 6,000."""
MOST_EXIF_SEGMENTS: Final = 32  # readers join them, each time copying what they have
MOST_FILLING_BYTES: Final = 65_536  # between a JPEG's segments, read one at a time
MOST_SCANS: Final = 100  # each goes over the whole picture; encoders write some ten
MOST_RUN_LENGTHS: Final = 4_000_000  # bytes, and pixels, of a BMP whose runs are read by interpreted code
LEAST_PADDED_PIXELS: Final = 4096 * 4096
"""So large may a TIFF's tiles be together, whatever its picture is; beyond, twice the picture."""

STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xDA)})  # JPEG markers without a length: TEM, RST, SOI, EOI
START_OF_SCAN: Final = 0xDA
WIDTH, HEIGHT, SAMPLES, ROWS_A_STRIP, PLANES = 256, 257, 277, 278, 284  # TIFF 6.0, sections 8 and 15
TILE_WIDTH, TILE_HEIGHT = 322, 323
OFFSETS: Final = (273, 324)
READ_WHOLE: Final = frozenset({*OFFSETS, 279, 325, 258, 320, 338, 339})  # byte counts, bits, colours, channels


class _Entry(NamedTuple):
    values: int
    value: int


def check(encoded: bytes, format: str) -> None:
    """Let a file through whose structure is worth its reader's while.

    Args:
        encoded: the file.
        format: JPEG, PNG, WEBP, TIFF, GIF or BMP; WebP's reader needs no such guard.

    Raises:
        ImageError: `too_costly`.
    """
    match format:
        case "JPEG":
            _check_jpeg(encoded)
        case "PNG":
            _check_png(encoded)
        case "TIFF":
            _check_tiff(encoded)
        case "GIF":
            _check_gif(encoded)
        case "BMP":
            _check_bmp(encoded)


def _refuse(format: str, what: str, most: str) -> ImageError:
    return ImageError("too_costly", f"the {format} file {what}; expected at most {most}")


def _check_pieces(format: str, pieces: int, name: str) -> None:
    if pieces > MOST_PIECES:
        raise _refuse(format, f"has more than {MOST_PIECES} {name}", str(MOST_PIECES))


def _check_jpeg(encoded: bytes) -> None:
    """Segments up to the first scan (ITU-T T.81, annex B), then the number of scans."""
    place, pieces, exif, filling = 2, 0, 0, 0
    while (start := encoded.find(b"\xff", place)) >= 0 and start + 1 < len(encoded):
        marker = encoded[start + 1]
        filling += start - place + (marker in (0x00, 0xFF))
        if filling > MOST_FILLING_BYTES:
            raise _refuse("JPEG", "has bytes without a meaning between its segments", f"{MOST_FILLING_BYTES} of them")
        if marker == START_OF_SCAN:
            break
        if marker in (0x00, 0xFF) or marker in STANDALONE:
            place = start + (1 if marker == 0xFF else 2)
        else:
            place = start + 2 + max(2, int.from_bytes(encoded[start + 2 : start + 4], "big"))
            exif += encoded[start + 4 : start + 10] == b"Exif\0\0"
        pieces += 1
        _check_pieces("JPEG", pieces, "segments")
        if exif > MOST_EXIF_SEGMENTS:
            raise _refuse("JPEG", f"has more than {MOST_EXIF_SEGMENTS} EXIF segments", str(MOST_EXIF_SEGMENTS))
    scans = 0 if start < 0 else encoded.count(b"\xff\xda", start)  # in coded data 0xFF is never followed by 0xDA
    if scans > MOST_SCANS:
        raise _refuse("JPEG", f"has {scans} scans", str(MOST_SCANS))


def _check_png(encoded: bytes) -> None:
    """Chunks (PNG, third edition, section 5.3)."""
    place, pieces = 8, 0
    while place + 8 <= len(encoded):
        place += 12 + int.from_bytes(encoded[place : place + 4], "big")
        pieces += 1
        _check_pieces("PNG", pieces, "chunks")


def _check_gif(encoded: bytes) -> None:
    """Blocks of the extensions before the first picture (GIF89a, sections 15 to 27)."""
    place = 13 + (3 << (encoded[10] & 7) + 1 if len(encoded) > 10 and encoded[10] & 0x80 else 0)
    pieces = 0
    while place < len(encoded) and encoded[place] not in b",;":
        if encoded[place] != ord("!"):
            place += 1  # a reader goes on by one byte, too
        else:
            place += 2
            while place < len(encoded) and encoded[place]:
                place += 1 + encoded[place]
                pieces += 1
                _check_pieces("GIF", pieces, "blocks before its picture")
            place += 1
        pieces += 1
        _check_pieces("GIF", pieces, "blocks before its picture")


def _check_bmp(encoded: bytes) -> None:
    """Run lengths (BITMAPINFOHEADER, biCompression 1 and 2)."""
    if len(encoded) < 34 or int.from_bytes(encoded[30:34], "little") not in (1, 2):
        return
    width, height = struct.unpack("<ii", encoded[18:26])
    if max(len(encoded), abs(width * height)) > MOST_RUN_LENGTHS:
        what = f"keeps {abs(width)} x {abs(height)} pixels as run lengths in {len(encoded)} bytes"
        raise _refuse("BMP", what, f"{MOST_RUN_LENGTHS} pixels and bytes")


def _check_tiff(encoded: bytes) -> None:
    """Strips or tiles of the first picture: how many there are, and how many pixels they hold together."""
    entries = _directory(encoded)
    for tag, entry in entries.items():
        if tag in READ_WHOLE:
            _check_pieces("TIFF", entry.values, f"values in its tag {tag}")
    width, height = (entries[tag].value if tag in entries else 0 for tag in (WIDTH, HEIGHT))
    if width < 1 or height < 1:
        return
    tiled = TILE_WIDTH in entries and TILE_HEIGHT in entries
    piece_w = entries[TILE_WIDTH].value if tiled else width
    piece_h = entries[TILE_HEIGHT].value if tiled else min(height, _value(entries, ROWS_A_STRIP, height))
    if piece_w < 1 or piece_h < 1:
        return
    needed = -(-width // piece_w) * -(-height // piece_h)
    if tiled and needed * piece_w * piece_h > max(LEAST_PADDED_PIXELS, 2 * width * height):
        what = f"has tiles of {piece_w} x {piece_h} pixels for a picture of {width} x {height}"
        raise _refuse("TIFF", what, f"twice the picture's pixels, or {LEAST_PADDED_PIXELS}, in all tiles")
    planes = _value(entries, SAMPLES, 1) if _value(entries, PLANES, 1) == 2 else 1
    for tag in OFFSETS:
        # Some writers name a few pieces too many; a reader reads each of them.
        if tag in entries and entries[tag].values > 2 * needed * planes + 8:
            what = f"names {entries[tag].values} pieces of {piece_w} x {piece_h} pixels for {width} x {height}"
            raise _refuse("TIFF", what, str(needed * planes))


def _value(entries: dict[int, _Entry], tag: int, otherwise: int) -> int:
    return entries[tag].value if tag in entries else otherwise


def _directory(encoded: bytes) -> dict[int, _Entry]:
    """The first directory's entries by tag, the first of each; a value only where it is one whole number."""
    order = "<" if encoded[:1] == b"I" else ">"
    large = 43 in encoded[2:4]
    counted, entry, first = ("Q", "HHQ", 8) if large else ("H", "HHL", 4)
    size = 20 if large else 12
    entries: dict[int, _Entry] = {}
    try:
        (start,) = struct.unpack_from(order + ("Q" if large else "L"), encoded, first)
        (number,) = struct.unpack_from(order + counted, encoded, start)
        _check_pieces("TIFF", number, "entries in its directory")
        for place in range(start + struct.calcsize(counted), len(encoded), size)[:number]:
            tag, kind, count = struct.unpack_from(order + entry, encoded, place)
            whole = {1: "B", 3: "H", 4: "L", 16: "Q"}.get(kind) if count == 1 else None
            value = struct.unpack_from(order + whole, encoded, place + size - (8 if large else 4))[0] if whole else 0
            entries.setdefault(tag, _Entry(count, value))
    except (struct.error, OverflowError):  # cut short: its reader says so
        pass
    return entries
