"""Colour modes: whatever form a file keeps its colours in, they become 8-bit RGB, with alpha where there is any."""

from __future__ import annotations

import io
import re
import sys
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipelines.errors import ImageError
from pipelines.pixels.headers import damage_told, opened

MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I", "F"})
BITS_TAG, POLARITY_TAG, PLANES_TAG, NUMBERS_TAG = 258, 262, 284, 339  # TIFF 6.0, sections 4, 8 and 19
OTHER_BYTE: Final = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def check_form(image: Image.Image, format: str) -> None:
    """Let an opened picture through whose colours are read rightly.

    Raises:
        ImageError: `unsupported_format`.
    """
    if image.mode.split(";")[0] not in MODES:
        raise ImageError("unsupported_format", f"the {format} file has colour mode {image.mode!r}; expected RGB")
    tags = getattr(image, "tag_v2", {})
    if tags.get(PLANES_TAG) == 2 and max(tags.get(BITS_TAG, (8,))) > 8:
        # Pillow reads such planes as if they were 8 bits deep: noise, and no error.
        raise ImageError("unsupported_format", "the TIFF file keeps 16-bit colours in separate planes; interleave them")


def raw_mode(image: Image.Image) -> str:
    """How Pillow is going to unpack the picture, such as "RGB;16B"; "" where it does not say."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else None
    return args if isinstance(args, str) else str(args[0]) if args else ""


def to_8_bits(image: Image.Image, raw_mode: str, encoded: bytes, format: str) -> Image.Image:
    """Deep levels to the nearest of 256, with a transparent 16-bit colour as alpha; an 8-bit picture as it is.

    Args:
        image: the loaded picture, not turned yet.
        raw_mode: what `raw_mode` said of it before it was loaded.
        encoded: its file, which is read once more where Pillow drops the lower bytes.
        format: of the file.
    """
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


def planes(image: Image.Image) -> tuple[Image.Image, Image.Image | None, bytes | None]:
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


def _read_as(raw_mode: str, encoded: bytes, format: str) -> NDArray[np.uint8]:
    image: Any = opened(encoded, format)
    image.tile = [
        tile._replace(args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:]))
        for tile in image.tile
    ]
    with damage_told(encoded, format):
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
