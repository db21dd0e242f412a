"""The page's pictures: fetched, drawn on, made small, and encoded into the page until it is full."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from pipelines import storage
from pipelines.errors import ImageError, InfrastructureError, PackshotError
from pipelines.pixels.crops import cut
from pipelines.pixels.images import Rgb, decode, encode, thumbnail
from pipelines.pixels.masks import from_rle
from pipelines.report.counts import reason_words
from pipelines.rows import FAILED, Row

Fetch = Callable[[str | None, str | None], Rgb | str]
"""From a URI and a version to the picture, or to the sentence that says why there is none."""

MASK_RGB, BOX_RGB = (214, 0, 110), (255, 176, 0)
JPEG_QUALITY = 75
BYTES_A_PIXEL = 0.3  # of such a JPEG in base64, for busy photos
SMALLEST_PX, LARGEST_PX = 96, 256
TAG_BYTES = 300
MAX_REGIONS, MAX_REFERENCES = 4, 3
MAX_FILE_BYTES, MAX_PIXELS = 200_000_000, 100_000_000
THREADS = 4  # each holds an item's full-size pictures in memory
REFUSALS = 5


@dataclass(frozen=True)
class Thumbnail:
    """A small picture as a data URI, or the sentence that says why there is none."""

    label: str
    uri: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class Thumbnails:
    """All pictures of an item; `before` has one a region and `crops`, a variant, one a region."""

    source: Thumbnail
    delivered: list[Thumbnail]
    references: list[Thumbnail]
    before: list[Thumbnail]
    crops: list[list[Thumbnail]]

    @property
    def nbytes(self) -> int:
        """Their size in the page, at most; an escaped character takes up to six bytes."""
        every = [self.source, *self.delivered, *self.references, *self.before, *chain(*self.crops)]
        return sum(len(picture.uri) + 6 * len(picture.why_not) + TAG_BYTES for picture in every)


def draw_all(rows: Mapping[int, Row], bytes_left: int) -> dict[int, Thumbnails]:
    """Draw the pictures of the items, as large as `bytes_left` allows; items that no longer fit are left out."""
    units = sum(8 + len(row["crop_uris"] or ()) for row in rows.values())  # source and delivered count four each
    side_px = int(np.clip((max(0, bytes_left) / (BYTES_A_PIXEL * max(1, units))) ** 0.5, SMALLEST_PX, LARGEST_PX))
    fetch = Reader()
    drawn: dict[int, Thumbnails] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for number, pictures in zip(rows, pool.map(lambda row: _draw(row, side_px, fetch), rows.values()), strict=True):
            if pictures.nbytes <= bytes_left:
                drawn[number] = pictures
                bytes_left -= pictures.nbytes
    return drawn


def gaps(row: Row) -> Thumbnails:
    """Labelled gaps in place of all pictures of an item; nothing is fetched."""
    return _draw(row, SMALLEST_PX, lambda uri, version: "The page is full.")


class Reader:
    """Reads pictures; a bucket or disk that refused a few times is not asked again, since each try may take minutes."""

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()

    def __call__(self, uri: str | None, version: str | None = None) -> Rgb | str:
        """The picture, or the sentence that says why there is none."""
        if not uri:
            return "The row names no picture."
        place = "/".join(uri.split("/")[:3]) if "://" in uri else "the disk"
        if self.refusals[place] >= REFUSALS:
            return f"It was not asked for, since {place} did not answer for others."
        try:
            return decode(storage.read(uri, version, MAX_FILE_BYTES), MAX_PIXELS).rgb
        except ImageError as error:
            return f"{reason_words(error.reason).sentence} ({error.detail[:160]})"
        except PackshotError as error:
            self.refusals[place] += isinstance(error, InfrastructureError)
            return str(error)[:200]


def _draw(row: Row, side_px: int, fetch: Fetch) -> Thumbnails:
    """Draw an item's pictures; source and delivered picture are twice as large as crops."""
    source = fetch(row["source_uri"], row["source_version"])
    if isinstance(source, str) and row["status"] == FAILED and row["detail"]:
        source = "The detail above says why."
    regions = (row["regions_xyxy"] or [])[:MAX_REGIONS]
    delivered = next(((variant, uri) for variant, uri in enumerate(row["image_uris"] or []) if uri), None)
    return Thumbnails(
        source=_picture(
            "Source", source if isinstance(source, str) else _marked(source, row, 2 * side_px), 2 * side_px
        ),
        delivered=[_picture(f"Delivered variant {delivered[0]}", fetch(delivered[1], None), 2 * side_px)]
        if delivered
        else [],
        references=[
            _picture("Reference", fetch(uri, None), SMALLEST_PX)
            for uri in (row["reference_uris"] or [])[:MAX_REFERENCES]
        ],
        before=[
            _picture("Before", source if isinstance(source, str) else cut(source, tuple(region), side_px), side_px)
            for region in (regions if row["on_source"] else [])
        ],
        crops=[
            [_picture(f"Variant {variant}", fetch(uri, None), side_px) for uri in _crop_uris(row, variant)]
            for variant in range(len(row["variant_seeds"] or []))
        ],
    )


def _crop_uris(row: Row, variant: int) -> list[str | None]:
    regions, uris = len(row["regions_xyxy"] or []), row["crop_uris"] or []
    if not regions:  # nothing was painted: the delivered picture is all there is
        return []
    return uris[variant * regions : (variant + 1) * regions][:MAX_REGIONS] or [None]


def _marked(rgb: Rgb, row: Row, side_px: int) -> Rgb:
    """The source, small, with the mask as an outlined tint, and the boxes as frames."""
    small = np.array(thumbnail(rgb, side_px))
    height, width = small.shape[:2]
    if row["allow_mask_rle"] and row["on_source"]:
        full = Image.fromarray(from_rle(row["allow_mask_rle"]).astype(np.uint8) * 255)
        mask = np.asarray(full.resize((width, height), Image.Resampling.BOX)) >= 128
        small[mask] = 0.75 * small[mask] + 0.25 * np.array(MASK_RGB)
        small[mask & ~ndimage.binary_erosion(mask, iterations=2)] = MASK_RGB
    image = Image.fromarray(small)
    scale = width / rgb.shape[1]
    for box in row["boxes_xyxy"] or []:
        ImageDraw.Draw(image).rectangle([scale * edge for edge in box], outline=BOX_RGB, width=3)
    return np.asarray(image)


def _picture(label: str, seen: Rgb | str, side_px: int) -> Thumbnail:
    if isinstance(seen, str):
        return Thumbnail(label, why_not=seen)
    encoded = encode(thumbnail(seen, side_px), "jpeg", quality=JPEG_QUALITY)
    return Thumbnail(label, uri=f"data:image/jpeg;base64,{base64.b64encode(encoded).decode('ascii')}")
