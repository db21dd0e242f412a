"""Which format a picture's file has, told by its first bytes."""

from __future__ import annotations

from typing import Final

from pipelines.errors import ImageError

READABLE: Final = "a JPEG, PNG, WebP, TIFF, GIF or BMP picture"
# How files begin, as plain bytes: a pattern that backtracks can be made to take for ever by whoever sends the file.
READ_HERE: Final = (
    ("JPEG", (b"\xff\xd8\xff",)),
    ("PNG", (b"\x89PNG\r\n\x1a\n",)),
    ("TIFF", (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")),
    ("GIF", (b"GIF87a", b"GIF89a")),
    ("BMP", (b"BM",)),
)
NOT_READ_HERE: Final = (
    ("a camera's raw picture", (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO")),
    ("a PDF document", (b"%PDF-",)),
    ("a Photoshop document", (b"8BPS",)),
    ("a PostScript document", (b"%!PS", b"\xc5\xd0\xd3\xc6")),
    ("a JPEG XL picture", (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n")),
    ("a JPEG 2000 picture", (b"\0\0\0\x0cjP  \r\n", b"\xff\x4f\xff\x51")),
    ("an icon file", (b"\0\0\1\0", b"\0\0\2\0")),
    ("an OpenEXR picture", (b"\x76\x2f\x31\x01",)),
    ("a Radiance HDR picture", (b"#?RADIANCE",)),
)
BRANDS: Final = {  # of an ISO media file, bytes 8 to 12 (ISO/IEC 14496-12, 23008-12 annex B, AV1 image file format)
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "a HEIC picture"),
    **dict.fromkeys((b"mif1", b"msf1"), "a HEIC picture"),
    b"crx ": "a camera's raw picture",
}
SVG_BEGINS: Final = (b"<svg", b"<?xml", b"<!--", b"<!doctype svg")


def format_of(encoded: bytes) -> str:
    """JPEG, PNG, WEBP, TIFF, GIF or BMP.

    Raises:
        ImageError: `not_an_image` (no bytes at all, too), or `unsupported_format`.
    """
    if not encoded:
        raise ImageError("not_an_image", f"the file is empty (0 bytes); expected {READABLE}")
    head = encoded[:4096]
    for name, beginnings in READ_HERE:
        if head.startswith(beginnings):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    unread = _unread_format_of(head)
    if unread is not None:
        raise ImageError("unsupported_format", f"the file is {unread}; expected {READABLE}")
    raise ImageError("not_an_image", f"the file begins with {head[:16]!r}, which no picture does; expected {READABLE}")


def _unread_format_of(head: bytes) -> str | None:
    if head[4:8] == b"ftyp" and head[8:12] in BRANDS:
        return BRANDS[head[8:12]]
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(SVG_BEGINS) and b"<svg" in text and b"<html" not in text:  # a page may hold a drawing
        return "an SVG drawing"
    return next((name for name, beginnings in NOT_READ_HERE if head.startswith(beginnings)), None)
