"""Bytes to pixels and back. `decode` is the only function of the project that reads a picture's pixels."""

from __future__ import annotations

import hashlib
import io
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from pipelines.errors import ImageError
from pipelines.pixels import structure

Rgb = NDArray[np.uint8]

READABLE: Final = "a JPEG, PNG, WebP, TIFF, GIF or BMP picture"
# The plugins themselves and not `Image.open`: its own pixel limit warns or raises before ours can speak.
OPENERS: Final[dict[str, Any]] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
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
# All that Pillow's readers were seen to raise on bytes that are cut off or garbled, in 180,000 tries of all formats.
DAMAGE: Final = (OSError, SyntaxError, ValueError, TypeError, OverflowError)
DAMAGED: Final = "ends too early or is damaged"
MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I", "F"})
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
BITS_TAG, POLARITY_TAG, PLANES_TAG, NUMBERS_TAG = 258, 262, 284, 339  # TIFF 6.0, sections 4, 8 and 19
OTHER_BYTE: Final = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
NOT_DECODED: Final = (
    "unknown pixel mode",
    "cannot handle",
)  # Pillow's words for a form that it knows and does not read
COMPOSITE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
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
        return _decode(encoded, _format_of(encoded), max_pixels)
    digest = hashlib.sha256(encoded).digest()
    picture = _recent.get(digest)
    if picture is not None:
        _check_pixels(picture.size_wh, max_pixels)
        return picture
    picture = _decode(encoded, _format_of(encoded), max_pixels)
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


def provenance_xmp(credit: str, prompt: str | None) -> bytes:
    """An XMP packet that says that part of the picture was made by a model.

    Args:
        credit: the credit line, such as a name, a version and a model.
        prompt: what was asked for; None leaves it out, since prompts may be a trade secret.

    Source: IPTC Photo Metadata Standard 2025.1; IPTC NewsCodes, Digital Source Type.
    """
    tag = "Iptc4xmpExt:AIPromptInformation"
    asked = "" if prompt is None else f"<{tag}>{_xml(prompt)}</{tag}>"
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <xmp:CreatorTool>Packshot</xmp:CreatorTool>
   <photoshop:Credit>{_xml(credit)}</photoshop:Credit>
   <Iptc4xmpExt:DigitalSourceType>{COMPOSITE}</Iptc4xmpExt:DigitalSourceType>{asked}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()


def header(encoded: bytes) -> Image.Image:
    """The opened picture with what its header says; no pixel is decoded.

    Raises:
        ImageError: as `decode` does.
    """
    return _opened(encoded, _format_of(encoded), "has a damaged header")


def orientation(image: Image.Image) -> int:
    """How the file's rows and columns lie, 1..8; 1 is upright, and what is not known.

    Source: EXIF 2.32, section 4.6.4 A.
    """
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DAMAGE:  # unreadable EXIF is no reason to lose the picture
        return 1


def thumbnail(rgb: Rgb, side_px: int) -> Rgb:
    """A picture (H, W, 3) made small: its longest side is at most `side_px`; a smaller one stays as it is."""
    height, width = rgb.shape[:2]
    scale = side_px / max(height, width)
    if scale >= 1:
        return rgb.copy()
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(rgb).resize(size_wh, Image.Resampling.LANCZOS))


def _format_of(encoded: bytes) -> str:
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


def _decode(encoded: bytes, format: str, max_pixels: int | None) -> Picture:
    image = _opened(encoded, format)
    _check_pixels(image.size, max_pixels)
    _check_form(image, format)
    raw_mode = _raw_mode(image)
    with _damage_told(encoded, format):
        image.load()
    method = UPRIGHT.get(orientation(image))  # asked after loading: Pillow turns a TIFF itself
    image = _to_8_bits(image, raw_mode, encoded, format)
    rgb, alpha, icc_profile = _planes(image if method is None else image.transpose(method))
    return Picture(_frozen(rgb), None if alpha is None else _frozen(alpha), icc_profile, format)


def _opened(encoded: bytes, format: str, what: str = DAMAGED) -> Image.Image:
    structure.check(encoded, format)
    with _damage_told(encoded, format, what):
        image: Image.Image = OPENERS[format](io.BytesIO(encoded))
    return image


@contextmanager
def _damage_told(encoded: bytes, format: str, what: str = DAMAGED) -> Iterator[None]:
    """Round Pillow's own reading and nothing else: what our code raises is a bug, and no picture's fault."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", f"the {format} file is too large to decode: {error}") from error
    except DAMAGE as error:
        if str(error).startswith(NOT_DECODED):
            detail = f"the {format} file holds pixels of a form that is not read ({error}); expected 8 or 16 bits RGB"
            raise ImageError("unsupported_format", detail) from error
        raise ImageError("truncated_image", f"the {format} file of {len(encoded)} bytes {what}: {error}") from error


def _check_pixels(size_wh: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size_wh
    if max_pixels is not None and width * height > max_pixels:
        detail = f"the picture has {width} x {height} = {width * height} pixels; the limit is {max_pixels}"
        raise ImageError("too_many_pixels", detail)


def _check_form(image: Image.Image, format: str) -> None:
    if image.mode.split(";")[0] not in MODES:
        raise ImageError("unsupported_format", f"the {format} file has colour mode {image.mode!r}; expected RGB")
    tags = getattr(image, "tag_v2", {})
    if tags.get(PLANES_TAG) == 2 and max(tags.get(BITS_TAG, (8,))) > 8:
        # Pillow reads such planes as if they were 8 bits deep: noise, and no error.
        raise ImageError("unsupported_format", "the TIFF file keeps 16-bit colours in separate planes; interleave them")


def _planes(image: Image.Image) -> tuple[Image.Image, Image.Image | None, bytes | None]:
    """RGB, alpha if there is any, and the RGB profile if there is any."""
    icc_profile = image.info.get("icc_profile") or None
    gamma = None if icc_profile or "srgb" in image.info else image.info.get("gamma")
    alpha = None
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        alpha = with_alpha.getchannel("A")
        image = with_alpha.getchannel("R") if image.mode in ("1", "L", "LA") else with_alpha.convert("RGB")
    space = icc_profile[16:20] if icc_profile else b""
    kept_profile = icc_profile if space == b"RGB " and image.mode != "CMYK" else None
    if icc_profile and (image.mode, space) in (("CMYK", b"CMYK"), ("L", b"GRAY")):
        image = _through_profile(image, icc_profile)
    rgb = image if image.mode == "RGB" else image.convert("RGB")  # a conversion to itself would copy
    return _without_gamma(rgb, gamma), alpha, kept_profile


def _without_gamma(rgb: Image.Image, gamma: float | None) -> Image.Image:
    """From a PNG's own gamma to sRGB's curve (IEC 61966-2-1); within 5 % of 1/2.2 the levels are taken for sRGB's."""
    if not gamma or abs(gamma * 2.2 - 1) <= 0.05:
        return rgb
    light = (np.arange(256) / 255) ** (1 / gamma)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return rgb.point([round(255 * level) for level in levels.tolist()] * 3)


def _through_profile(image: Image.Image, icc_profile: bytes) -> Image.Image:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a broken profile is no reason to lose the picture
        return image
    return converted or image


def _to_8_bits(image: Image.Image, raw_mode: str, encoded: bytes, format: str) -> Image.Image:
    """Deep levels to the nearest of 256, with a transparent 16-bit colour as alpha; an 8-bit picture as it is."""
    key, clear, mode = image.info.get("transparency"), None, image.mode
    deep_colour = re.fullmatch(r"((?:RGBA?|RGBX|CMYK);16)([BLN])", raw_mode)
    if mode[0] in "IF":
        levels, mode = _grey_levels(image), "L"
        clear = None if key is None else np.asarray(image) == key
    elif raw_mode == "LA;16B":
        both = _read_as("RGBA", encoded, format)
        levels, mode = _rounded(both[..., ::2], both[..., 1::2]), "LA"
    elif deep_colour:
        # Pillow drops the lower bytes; read in the other byte order they are the ones that it keeps.
        high, low = np.asarray(image), _read_as(deep_colour[1] + OTHER_BYTE[deep_colour[2]], encoded, format)
        levels = _rounded(high, low)
        clear = None if key is None else (high.astype(np.uint16) << 8 | low == key).all(axis=-1)
    else:
        return image
    if clear is not None:
        levels, mode = np.dstack([levels, np.where(clear, 0, 255).astype(np.uint8)]), mode + "A"
    shallow = Image.frombytes(mode, image.size, levels.tobytes())
    shallow.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return shallow


def _raw_mode(image: Image.Image) -> str:
    """How Pillow is going to unpack the picture, such as "RGB;16B"; "" where it does not say."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else None
    return args if isinstance(args, str) else str(args[0]) if args else ""


def _read_as(raw_mode: str, encoded: bytes, format: str) -> NDArray[np.uint8]:
    image: Any = _opened(encoded, format)
    image.tile = [
        tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
        for tile in image.tile
    ]
    with _damage_told(encoded, format):
        image.load()
    return np.asarray(image)


def _rounded(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(256 high + low) / 257 to the nearest, in bytes: high, and one more or less where low is more than half away."""
    return high + ((low > high) & (low - high > 128)) - ((high > low) & (high - low > 128))


def _grey_levels(image: Image.Image) -> NDArray[np.uint8]:
    """Of one channel: integers by the bits that a TIFF names, else 16; floats as 0..1, 0..255 or 0..65535."""
    tags, values = getattr(image, "tag_v2", {}), np.asarray(image)
    bits, unsigned = tags.get(BITS_TAG, (16,))[0], tags.get(NUMBERS_TAG, (1,))[0] == 1
    top = 2.0 ** min(bits, 16) - 1  # signed 32 bits, as numpy's integers are saved, count as 16
    if image.mode == "F":
        top = next((limit for limit in (1.0, 255.0) if np.nan_to_num(values).max(initial=0) <= limit), 65535.0)
    elif bits == 32 and unsigned:
        values, top = values.view(np.uint32), 2.0**32 - 1
    scaled = np.nan_to_num(values.astype(np.float32)) * np.float32(255 / top)
    levels: NDArray[np.float32] = np.clip(np.rint(scaled), 0, 255)
    return (255 - levels if tags.get(POLARITY_TAG) == 0 else levels).astype(np.uint8)


def _frozen(image: Image.Image) -> NDArray[np.uint8]:
    array = np.asarray(image, np.uint8)
    array.flags.writeable = False
    return array


def _xml(text: str) -> str:
    # XML 1.0 has no way to write control characters and lone surrogates, not even escaped.
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))
