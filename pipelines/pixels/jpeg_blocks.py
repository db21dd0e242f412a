"""A JPEG delivered as a JPEG: blocks that the allow mask does not touch keep the source's own coefficients.

A JPEG stores 8 x 8 blocks of DCT coefficients for each of its components. Decoding and encoding again changes most
pixels (of a test picture 82 %, at quality 100 and 4:4:4); copying coefficients changes none. `jpeglib` reads and
writes them, and the libjpeg in it encodes what was painted: nothing here is a codec.

What stays is exact in the file. In the *decoded* picture it is exact but for one ring: where colour is subsampled,
decoders smooth it over block borders, so that a pixel beside a repainted block can differ. `decoded_reach` tells
where; beyond it the decoded pictures are equal, bit for bit. Measured with Pillow's libjpeg-turbo: the ring is one
pixel wide (a red disc pasted hard on a gaudy picture: 37 to 73 % of it differ, by 1 to 2 levels on average and 50 at
most), and there is none at 4:4:4 and in grey. Pixels outside the mask but inside a touched block are encoded anew and
differ as in any JPEG: this way of delivery is exact by blocks, PNG and WebP are by pixels.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.pixels.headers import UPRIGHT, header, orientation
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask

LIBJPEG: Final = "turbo210"  # of Pillow's own family, so that what decodes there is read here
MOST_SEGMENTS: Final = 40  # jpeglib's C tables hold 50, and it does not look
TABLES_AS_THEY_ARE: Final = -1
COMPONENTS: Final = ("Y", "Cb", "Cr", "K")  # jpeglib's names of them
LONGEST_XMP: Final = 65_502
JFIF, EXTRA_PICTURES, XMP = b"JFIF\0", b"MPF\0", b"http://ns.adobe.com/xap/1.0/\0"
STORED: Final = {**UPRIGHT, 6: UPRIGHT[8], 8: UPRIGHT[6]}  # back from upright; the other turns undo themselves
_one_at_a_time = threading.Lock()  # jpeglib keeps metadata in global C tables


@dataclass(frozen=True, eq=False)
class _Coefficients:
    """A JPEG as jpeglib reads it.

    planes: of each component, int16 (block rows, block columns, 8, 8). tables: its divisors (8, 8). areas_hw: the
    height and width of the pixels that one block of the component stands for.
    """

    file: Any
    planes: list[NDArray[np.int16]]
    tables: list[NDArray[np.uint16]]
    areas_hw: list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class SourceJpeg:
    """A source file, read once for all that is delivered of it; nothing here changes it.

    why_not_kept: why its blocks cannot be kept, in words; None where they can. orientation: EXIF's, 1..8.
    """

    why_not_kept: str | None
    orientation: int
    coefficients: _Coefficients | None

    def stored(self, upright: NDArray[Any]) -> NDArray[Any]:
        """An upright picture or mask as the file's rows and columns lie."""
        return _turned(upright, STORED.get(self.orientation))

    def kept(self) -> _Coefficients:
        """The coefficients.

        Raises:
            ValueError: they cannot be kept.
        """
        if self.coefficients is None:
            raise ValueError(f"the source's blocks cannot be kept: {self.why_not_kept}")
        return self.coefficients


def read_source(encoded: bytes) -> SourceJpeg:
    """Read a file whose blocks are to be kept.

    They can be kept in 8-bit JPEGs of YCbCr or grey: baseline, progressive or arithmetic, whatever the subsampling.

    Raises:
        ImageError: the file is no picture, or its header is damaged.
    """
    image = header(encoded)
    why_not = _why_not_by_header(image)
    if why_not is not None:
        return SourceJpeg(why_not, orientation(image), None)
    try:
        coefficients = _read(encoded)
    except ImportError:
        return SourceJpeg("the package `jpeglib` is not installed", orientation(image), None)
    except OSError as error:
        return SourceJpeg(f"jpeglib does not read the JPEG's coefficients: {error}", orientation(image), None)
    why_not = _why_not_by_coefficients(coefficients)
    return SourceJpeg(why_not, orientation(image), None if why_not else coefficients)


def _why_not_by_header(image: Any) -> str | None:
    if not hasattr(image, "applist"):
        return f"the source is a {image.format} file, not a JPEG"
    if len(image.applist) > MOST_SEGMENTS:
        return f"the JPEG has {len(image.applist)} metadata segments; up to {MOST_SEGMENTS} can be kept"
    # Asked of Pillow: jpeglib takes the JFIF and Adobe segments for itself, and its libjpeg then guesses the colours.
    if image.mode == "CMYK" or (image.info.get("adobe_transform") == 0 and "jfif" not in image.info):
        return f"the JPEG stores {image.mode}; only YCbCr and grey can be kept"
    if image.mode == "L" and (image.info.get("icc_profile") or b"")[16:20] == b"GRAY":
        return "the JPEG is grey with a profile of its own, and its pixels were converted by it"
    return None


def _why_not_by_coefficients(coefficients: _Coefficients) -> str | None:
    space = str(coefficients.file.jpeg_color_space).removeprefix("JCS_")
    if space not in ("YCbCr", "GRAYSCALE"):
        return f"the JPEG stores {space}; only YCbCr and grey can be kept"
    if not all(_can_be_coded(plane) for plane in coefficients.planes):
        return "the JPEG is damaged: it has coefficients larger than a picture's, which no encoder writes"
    return None


def _can_be_coded(plane: NDArray[np.int16]) -> bool:
    """Whether Huffman codes hold the coefficients: 10 bits, and 11 for a step between two DCs (T.81, F.1.2)."""
    flat = plane.reshape(-1, 64)
    dc, ac = flat[:, 0], flat[:, 1:]
    return bool(((dc >= -1024) & (dc <= 1023)).all() and ((ac >= -1023) & (ac <= 1023)).all())


def with_blocks_kept(source: SourceJpeg, finished: Rgb, allow: Mask, xmp: bytes | None = None) -> bytes:
    """The finished picture as a JPEG in which every block without an allowed pixel is the source's, bit for bit.

    Quantisation tables, subsampling, size and metadata (profile, EXIF with its orientation and thumbnail, comments)
    are the source's; further pictures in the file are left away. The blocks that the mask touches are encoded from
    the finished picture. The file is baseline with Huffman codes, whatever the source is: that changes no coefficient.
    A grey source stays grey.

    Args:
        source: its blocks can be kept.
        finished: (H, W, 3), upright.
        allow: (H, W), upright, True where pixels may change. An empty mask keeps every block.
        xmp: an XMP packet in place of the source's.

    Raises:
        ValueError: the sizes differ, the packet is too long, or the blocks cannot be kept.
    """
    if xmp is not None and len(xmp) > LONGEST_XMP:
        raise ValueError(f"an XMP packet of {len(xmp)} bytes; a JPEG holds {LONGEST_XMP}")
    kept = source.kept()
    picture, stored_allow = source.stored(finished), source.stored(allow)
    if picture.shape != (*stored_allow.shape, 3) or stored_allow.shape != (kept.file.height, kept.file.width):
        raise ValueError(
            f"a picture of shape {finished.shape} and a mask of shape {allow.shape} for a JPEG that is stored with "
            f"{kept.file.width} x {kept.file.height} pixels; expected the size of the upright source"
        )
    planes = _repainted(kept, picture, stored_allow) if stored_allow.any() else kept.planes
    return _written(kept, planes, _segments(kept, xmp))


def changed_blocks(source: SourceJpeg, delivered_jpeg: bytes, allow: Mask) -> int:
    """How many blocks without an allowed pixel differ in any coefficient, over all components; 0 is exact.

    All of a component's outside blocks count where its quantisation table or its number of blocks differ.

    Args:
        source: its blocks can be kept.
        delivered_jpeg: the delivered file, read anew.
        allow: (H, W) of the upright source, True where pixels may change.

    Raises:
        OSError: jpeglib cannot read the delivered file.
        ValueError: the source's blocks cannot be kept.
    """
    before, after, stored_allow = source.kept(), _read(delivered_jpeg), source.stored(allow)
    changed = 0
    for number, (plane, table, area_hw) in enumerate(zip(before.planes, before.tables, before.areas_hw, strict=True)):
        differs = ~_touched(stored_allow, area_hw)
        same_form = number < len(after.planes) and after.planes[number].shape == plane.shape
        if same_form and np.array_equal(after.tables[number], table):
            differs &= (after.planes[number] != plane).any(axis=(2, 3))
        changed += int(np.count_nonzero(differs))
    return changed


def decoded_reach(source: SourceJpeg, allow: Mask) -> Mask:
    """Where decoded source and delivery can differ: the touched blocks and, of subsampled colour, a ring around them.

    Args:
        source: its blocks can be kept.
        allow: (H, W) of the upright source, True where pixels may change.

    Returns:
        (H, W), upright; it holds the allow mask. Nothing for an empty one.

    Raises:
        ValueError: the source's blocks cannot be kept.
    """
    stored_allow = source.stored(allow)
    reach = np.zeros_like(stored_allow)
    for rows, columns in set(source.kept().areas_hw):
        blocks = _touched(stored_allow, (rows, columns)).repeat(rows, axis=0).repeat(columns, axis=1)
        touched = blocks[: reach.shape[0], : reach.shape[1]]
        # A decoder weighs a colour sample with its neighbours at most, which reaches one pixel beyond the block.
        reach |= ndimage.binary_dilation(touched, np.ones((3, 3))) if max(rows, columns) > 8 else touched
    return _turned(reach, UPRIGHT.get(source.orientation))


@contextmanager
def _alone_in_a_folder() -> Iterator[Path]:
    """The one who calls jpeglib, and a folder that goes afterwards with what jpeglib leaves behind when it fails."""
    from jpeglib import dct_jpeg

    with _one_at_a_time, tempfile.TemporaryDirectory() as folder:
        ours = SimpleNamespace(NamedTemporaryFile=partial(tempfile.NamedTemporaryFile, dir=folder))
        theirs, dct_jpeg.tempfile = dct_jpeg.tempfile, ours
        try:
            yield Path(folder)
        finally:
            dct_jpeg.tempfile = theirs


def _read(encoded: bytes) -> _Coefficients:
    # jpeglib takes a path alone: one file for its header and, made by itself, one for its coefficients.
    with _alone_in_a_folder() as folder:
        path = folder / "source.jpeg"
        path.write_bytes(encoded)
        return _read_from(path)


def _read_from(path: Path) -> _Coefficients:
    """To be called by who is alone in a folder."""
    import jpeglib  # not built for every platform; `read_source` says so

    jpeglib.version.set(LIBJPEG)
    file = jpeglib.read_dct(str(path))
    planes = [getattr(file, name) for name in COMPONENTS[: file.num_components]]
    tables = [file.qt[number] for number in file.quant_tbl_no]
    tallest, widest = file.samp_factor.max(axis=0)
    areas_hw = [(int(8 * tallest // rows), int(8 * widest // columns)) for rows, columns in file.samp_factor]
    return _Coefficients(file, planes, tables, areas_hw)


def _written(source: _Coefficients, planes: list[NDArray[np.int16]], segments: list[Any]) -> bytes:
    """A file of these coefficients with all else as in the source."""
    file = copy(source.file)
    for name, plane in zip(COMPONENTS, planes, strict=False):
        setattr(file, name, plane)
    # With tables of its own jpeglib renumbers the components; without, it copies what the source's header says.
    file.qt = TABLES_AS_THEY_ARE
    file.markers = segments
    with _alone_in_a_folder() as folder:
        path = folder / "delivered.jpeg"
        file.write_dct(str(path), flags=["OPTIMIZE_CODING"])
        return path.read_bytes()


def _repainted(source: _Coefficients, picture: Rgb, allow: Mask) -> list[NDArray[np.int16]]:
    """The source's coefficients, in touched blocks the picture's; only the window around those is encoded."""
    tallest, widest = (max(sides) for sides in zip(*source.areas_hw, strict=True))
    rows, columns = (np.flatnonzero(_touched(allow, (tallest, widest)).any(axis=axis)) for axis in (1, 0))
    top, left = rows[0] * tallest, columns[0] * widest
    window = picture[top : (rows[-1] + 1) * tallest, left : (columns[-1] + 1) * widest]
    fresh = _encoded_like(source, window)
    planes = [plane.copy() for plane in source.planes]
    for plane, new, (height, width) in zip(planes, fresh.planes, source.areas_hw, strict=True):
        seen = np.s_[top // height :, left // width :]
        touched = _touched(allow, (height, width))[seen][: new.shape[0], : new.shape[1]]
        plane[seen][: new.shape[0], : new.shape[1]][touched] = new[touched]
    return planes


def _encoded_like(source: _Coefficients, picture: Rgb) -> _Coefficients:
    """Encode a picture (H, W, 3) with the tables and the subsampling of another JPEG."""
    import jpeglib

    file = jpeglib.from_spatial(np.ascontiguousarray(picture))
    file.samp_factor, file.jpeg_color_space = source.file.samp_factor, source.file.jpeg_color_space
    with _alone_in_a_folder() as folder:
        path = folder / "finished.jpeg"
        file.write_spatial(str(path), qt=np.stack(source.tables), quant_tbl_no=np.arange(4))
        return _read_from(path)


def _segments(source: _Coefficients, xmp: bytes | None) -> list[Any]:
    """The source's metadata; without the JFIF header, which libjpeg writes, and the index of pictures left away."""
    import jpeglib

    left_away = (JFIF, EXTRA_PICTURES) if xmp is None else (JFIF, EXTRA_PICTURES, XMP)
    segments = [segment for segment in source.file.markers if not segment.content.startswith(left_away)]
    if xmp is not None:
        content = XMP + xmp
        segments.append(jpeglib.Marker(jpeglib.MarkerType.JPEG_APP1, len(content), content))
    return segments


def _touched(allow: Mask, area_hw: tuple[int, int]) -> Mask:
    """Which blocks hold an allowed pixel; the last row and column of blocks may reach beyond the picture."""
    rows, columns = area_hw
    height, width = allow.shape
    padded = np.pad(allow, ((0, -height % rows), (0, -width % columns)))
    return np.asarray(padded.reshape(padded.shape[0] // rows, rows, -1, columns).any(axis=(1, 3)))


def _turned(array: NDArray[Any], turn: Image.Transpose | None) -> NDArray[Any]:
    return array if turn is None else np.asarray(Image.fromarray(array).transpose(turn))
