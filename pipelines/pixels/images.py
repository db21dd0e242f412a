"""Bytes to pixels and back. `decode` is the only function of the project that reads a picture's pixels."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from pipelines.errors import ImageError
from pipelines.pixels.colour_modes import check_form, planes, raw_mode, to_8_bits
from pipelines.pixels.formats import format_of
from pipelines.pixels.headers import UPRIGHT, damage_told, opened, orientation

Rgb = NDArray[np.uint8]
KEPT_BYTES: Final = 256_000_000


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture, upright; its arrays are read-only, since others of the process share them.

    rgb: uint8 (H, W, 3). alpha: uint8 (H, W), or None where the file has no transparency. icc_profile: an RGB profile
    that belongs to `rgb`, or None: then it is sRGB. format: JPEG, PNG, WEBP, TIFF, GIF or BMP.
    """

    rgb: Rgb
    alpha: NDArray[np.uint8] | None
    icc_profile: bytes | None
    format: str

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    @property
    def nbytes(self) -> int:
        """What its arrays weigh, bytes."""
        return self.rgb.nbytes + (0 if self.alpha is None else self.alpha.nbytes)


class _Recent:
    """The last pictures of this process by the sha256 of their bytes, up to a weight; threads may share it."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.weight_bytes = 0
        self.pictures: OrderedDict[bytes, Picture] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, digest: bytes) -> Picture | None:
        with self.lock:
            if digest in self.pictures:
                self.pictures.move_to_end(digest)
            return self.pictures.get(digest)

    def put(self, digest: bytes, picture: Picture) -> None:
        with self.lock:
            if digest in self.pictures or picture.nbytes > self.limit_bytes:
                return
            self.pictures[digest] = picture
            self.weight_bytes += picture.nbytes
            while self.weight_bytes > self.limit_bytes:
                self.weight_bytes -= self.pictures.popitem(last=False)[1].nbytes


_recent = _Recent(KEPT_BYTES)


def decode(encoded: bytes, max_pixels: int | None = None, keep: bool = True) -> Picture:
    """Open a picture: its first frame, upright by EXIF, as 8-bit RGB.

    What is delivered is 8-bit: deeper values are rounded to the nearest of 256 levels (12, 16 and 32 bits grey; 16 bits
    a channel in colour). CMYK and grey with a profile of their own go through it to sRGB, without one by Pillow's
    formula. An RGB profile is kept beside the pixels, which stay as they are; so they do under a PNG's gamma near
    1/2.2, any other is evened out. A transparent colour becomes alpha. The last pictures are kept (256 MB), so that
    decoding the same bytes again costs a hash.

    Args:
        encoded: the file.
        max_pixels: told from the header, before any pixel is decoded; None takes any, as of a file that `read` let in.
        keep: False for a file that nobody opens again, so that it takes no other's place.

    Raises:
        ImageError: `not_an_image` (no bytes at all, too), `unsupported_format` (a Lab, 12-bit JPEG or other form that
            Pillow does not read, too), `truncated_image`, `too_many_pixels`, or `too_costly` (`structure.check`).
    """
    if not keep:
        return _decode(encoded, format_of(encoded), max_pixels)
    digest = hashlib.sha256(encoded).digest()
    picture = _recent.get(digest)
    if picture is not None:
        _check_pixels(picture.size_wh, max_pixels)
        return picture
    picture = _decode(encoded, format_of(encoded), max_pixels)
    _recent.put(digest, picture)
    return picture


def encode(
    rgb: Rgb,
    format: Literal["png", "webp", "jpeg"],
    alpha: NDArray[np.uint8] | None = None,
    icc_profile: bytes | None = None,
    xmp: bytes | None = None,
    quality: int = 95,
) -> bytes:
    """A picture as a file: PNG and WebP lossless, JPEG with full colour resolution; same input, same bytes.

    Args:
        rgb: (H, W, 3).
        format: of the file.
        alpha: (H, W); colours under transparent pixels are kept. Not for JPEG.
        icc_profile: an RGB profile that belongs to the pixels.
        xmp: an XMP packet, UTF-8; JPEG holds some 65 000 bytes of it.
        quality: of JPEG, 1..100; lossless formats ignore it.

    Raises:
        ValueError: JPEG with alpha, an unknown format, or more than the format holds.
    """
    pixels = rgb if alpha is None else np.dstack([rgb, alpha])
    options: dict[str, Any] = {"icc_profile": icc_profile} if icc_profile else {}
    if xmp and format == "png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"))
    elif xmp:
        options["xmp"] = xmp
    match format:
        case "png":
            options["compress_level"] = 3
        case "webp":
            if max(rgb.shape[:2]) > 16383:
                raise ValueError(f"WebP holds 16383 pixels a side; {rgb.shape[1]} x {rgb.shape[0]} needs PNG")
            options |= {"lossless": True, "exact": True, "method": 2, "quality": 50}  # quality is effort here
        case "jpeg":
            if alpha is not None:
                raise ValueError("JPEG holds no transparency; leave the alpha away or take PNG or WebP")
            options |= {"quality": quality, "subsampling": 0}
        case _:
            raise ValueError(f"the format is {format!r}; expected 'png', 'webp' or 'jpeg'")
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format, **options)
    return file.getvalue()


def thumbnail(rgb: Rgb, side_px: int) -> Rgb:
    """A picture (H, W, 3) made small: its longest side is at most `side_px`; a smaller one stays as it is."""
    height, width = rgb.shape[:2]
    scale = side_px / max(height, width)
    if scale >= 1:
        return rgb.copy()
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(rgb).resize(size_wh, Image.Resampling.LANCZOS))


def _decode(encoded: bytes, format: str, max_pixels: int | None) -> Picture:
    image = opened(encoded, format)
    _check_pixels(image.size, max_pixels)
    check_form(image, format)
    file_mode = raw_mode(image)
    with damage_told(encoded, format):
        image.load()
    method = UPRIGHT.get(orientation(image))  # asked after loading: Pillow turns a TIFF itself
    image = to_8_bits(image, file_mode, encoded, format)
    rgb, alpha, icc_profile = planes(image if method is None else image.transpose(method))
    return Picture(_frozen(rgb), None if alpha is None else _frozen(alpha), icc_profile, format)


def _check_pixels(size_wh: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size_wh
    if max_pixels is not None and width * height > max_pixels:
        detail = f"the picture has {width} x {height} = {width * height} pixels; the limit is {max_pixels}"
        raise ImageError("too_many_pixels", detail)


def _frozen(image: Image.Image) -> NDArray[np.uint8]:
    array = np.asarray(image, np.uint8)
    array.flags.writeable = False
    return array
