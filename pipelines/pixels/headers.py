"""Open a picture's file with Pillow, as far as its header, and tell whose fault an error is."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipelines.errors import ImageError
from pipelines.pixels import structure
from pipelines.pixels.formats import format_of

# The plugins themselves and not `Image.open`: its own pixel limit warns or raises before ours can speak.
OPENERS: Final[dict[str, Any]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
# All that Pillow's readers were seen to raise on bytes that are cut off or garbled, in 180,000 tries of all formats.
DAMAGE: Final = (OSError, SyntaxError, ValueError, TypeError, OverflowError)
DAMAGED: Final = "ends too early or is damaged"
# Pillow's words for a form that it knows and does not read.
NOT_DECODED: Final = ("unknown pixel mode", "cannot handle")
UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION_TAG: Final = 0x0112


def header(encoded: bytes) -> Image.Image:
    """The opened picture with what its header says; no pixel is decoded.

    Raises:
        ImageError: as `images.decode` does.
    """
    return opened(encoded, format_of(encoded), "has a damaged header")


def orientation(image: Image.Image) -> int:
    """How the file's rows and columns lie, 1..8; 1 is upright, and what is not known.

    Source: EXIF 2.32, section 4.6.4 A.
    """
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DAMAGE:  # unreadable EXIF is no reason to lose the picture
        return 1


def opened(encoded: bytes, format: str, what: str = DAMAGED) -> Image.Image:
    """A file whose format is known, opened; no pixel is decoded.

    Args:
        encoded: the file.
        format: one of `OPENERS`.
        what: the words for damage.

    Raises:
        ImageError: as `images.decode` does.
    """
    structure.check(encoded, format)
    with damage_told(encoded, format, what):
        image: Image.Image = OPENERS[format](io.BytesIO(encoded))
    return image


@contextmanager
def damage_told(encoded: bytes, format: str, what: str = DAMAGED) -> Iterator[None]:
    """Turn what Pillow raises on a bad file into an `ImageError`.

    Put it round Pillow's own reading and nothing else: what our code raises is a bug, and no picture's fault.
    """
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", f"the {format} file is too large to decode: {error}") from error
    except DAMAGE as error:
        if str(error).startswith(NOT_DECODED):
            detail = f"the {format} file holds pixels of a form that is not read ({error}); expected 8 or 16 bits RGB"
            raise ImageError("unsupported_format", detail) from error
        raise ImageError("truncated_image", f"the {format} file of {len(encoded)} bytes {what}: {error}") from error
