"""Fetch the picture, its mask and its references, and refuse what cannot be used."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pyarrow as pa

from pipelines import storage
from pipelines.errors import Changed, ImageError, Missing, TooManyBytes
from pipelines.pixels.images import Picture, decode
from pipelines.pixels.masks import mask_from_picture, to_rle
from pipelines.recipe.settings import ReadSettings
from pipelines.rows import CROPS, RLE, SIZE_WH, STRINGS, ItemError, Row, Update

FETCH_THREADS = 8


class Read:
    """Fetch or take the encoded picture, check it, and bring along mask, references and stored crops.

    Adds the encoded bytes as they are, their sha256 (hex), and the upright size in pixels; a given mask as RLE at that
    size (null without one); references as encoded bytes (empty without any), the scene (null without one) and, at the
    scene's size, what lies before the product in it; and, for a row that starts at score or judge, its stored crops.
    Every object is read at its planned version; bytes, pixels and the number of references are bounded before decoding.
    """

    pixels_version = 1
    reads = {
        "source_uri": pa.string(),
        "source_version": pa.string(),
        "mask_uri": pa.string(),
        "mask_version": pa.string(),
        "reference_uris": STRINGS,
        "reference_versions": STRINGS,
        "scene_uri": pa.string(),
        "scene_version": pa.string(),
        "front_uri": pa.string(),
        "front_version": pa.string(),
        "given_image_bytes": pa.large_binary(),
        "given_mask_bytes": pa.large_binary(),
        "given_reference_bytes": pa.list_(pa.large_binary()),
        "start_at": pa.string(),
    }
    may_read: ClassVar[dict[str, pa.DataType]] = {}
    adds = {
        "source_sha256": pa.string(),
        "size_wh": SIZE_WH,
        "image_bytes": pa.large_binary(),
        "given_mask_rle": RLE,
        "reference_bytes": pa.list_(pa.large_binary()),
        "scene_bytes": pa.large_binary(),
        "front_mask_rle": RLE,
        "finished_crops": CROPS,
    }

    def __init__(self, settings: ReadSettings) -> None:
        self.settings = settings

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Fetch the rows side by side; what is wrong with one is that row's error."""
        with ThreadPoolExecutor(FETCH_THREADS) as pool:
            return list(pool.map(self._read, rows))

    def _read(self, row: Row) -> Update | ItemError:
        try:
            encoded = self._fetch(
                row.get("given_image_bytes"), row["source_uri"], row["source_version"], "source_missing"
            )
            picture = decode(encoded, self.settings.max_pixels)
            return {
                "source_sha256": hashlib.sha256(encoded).hexdigest(),
                "size_wh": list(picture.size_wh),
                "image_bytes": encoded,
                "given_mask_rle": self._mask(row, picture.size_wh),
                "reference_bytes": self._references(row),
                **self._scene(row),
                "finished_crops": self._stored_crops(row),
            }
        except ImageError as error:
            return ItemError(error.reason, error.detail)

    def _fetch(
        self, given: bytes | None, uri: str | None, version: str | None, missing_reason: str, left: int | None = None
    ) -> bytes:
        most = self.settings.max_bytes if left is None else min(left, self.settings.max_bytes)
        if given is not None:
            if len(given) > most:
                raise ImageError("too_many_bytes", f"{len(given)} bytes; `read.max_bytes` leaves {most}")
            return given
        if uri is None:
            raise ImageError(missing_reason, "the row names no picture and brings none along")
        try:
            return storage.read(uri, version, most)
        except Missing as error:
            raise ImageError(missing_reason, str(error)) from error
        except Changed as error:
            raise ImageError("source_changed", str(error)) from error
        except TooManyBytes as error:
            raise ImageError("too_many_bytes", str(error)) from error

    def _mask(self, row: Row, size_wh: tuple[int, int]) -> dict[str, object] | None:
        if row.get("given_mask_bytes") is None and row["mask_uri"] is None:
            return None
        encoded = self._fetch(row.get("given_mask_bytes"), row["mask_uri"], row["mask_version"], "mask_missing")
        return self._mask_of(encoded, size_wh, "mask")

    def _mask_of(self, encoded: bytes, size_wh: tuple[int, int], kind: str) -> dict[str, object]:
        picture = self._decode_beside(encoded, f"{kind}_unreadable")
        if picture.size_wh != size_wh:
            sizes = [f"{width} x {height}" for width, height in (picture.size_wh, size_wh)]
            raise ImageError(f"{kind}_size_differs", f"the mask has {sizes[0]} pixels, the picture {sizes[1]}")
        return to_rle(mask_from_picture(picture))

    def _references(self, row: Row) -> list[bytes]:
        given = row.get("given_reference_bytes") or []
        uris, versions = row["reference_uris"] or [], row["reference_versions"] or []
        wanted: list[tuple[bytes | None, str | None, str | None]] = [(encoded, None, None) for encoded in given] or [
            (None, uri, version) for uri, version in zip(uris, versions or [None] * len(uris), strict=True)
        ]
        if len(wanted) > self.settings.max_references:
            detail = f"{len(wanted)} references; `read.max_references` is {self.settings.max_references}"
            raise ImageError("too_many_references", detail)
        fetched: list[bytes] = []
        for one in wanted:
            fetched.append(self._reference(*one, left=self.settings.max_reference_bytes - sum(map(len, fetched))))
        return fetched

    def _reference(self, given: bytes | None, uri: str | None, version: str | None, left: int) -> bytes:
        """One reference of at most `left` bytes, which are never more than those held in memory."""
        try:
            encoded = self._fetch(given, uri, version, "reference_missing", left)
        except ImageError as error:
            if error.reason != "too_many_bytes" or left >= self.settings.max_bytes:
                raise
            most = self.settings.max_reference_bytes
            detail = f"the references are larger than `read.max_reference_bytes`, {most}, together: {error.detail}"
            raise ImageError("too_many_references", detail) from error
        self._decode_beside(encoded, "reference_unreadable")
        return encoded

    def _scene(self, row: Row) -> Update:
        if row["scene_uri"] is None:
            return {"scene_bytes": None, "front_mask_rle": None}
        scene = self._fetch(None, row["scene_uri"], row["scene_version"], "scene_missing")
        size_wh = self._decode_beside(scene, "scene_unreadable").size_wh
        if row["front_uri"] is None:
            return {"scene_bytes": scene, "front_mask_rle": None}
        front = self._fetch(None, row["front_uri"], row["front_version"], "front_missing")
        return {"scene_bytes": scene, "front_mask_rle": self._mask_of(front, size_wh, "front")}

    def _decode_beside(self, encoded: bytes, reason: str) -> Picture:
        try:
            return decode(encoded, self.settings.max_pixels)
        except ImageError as error:
            raise ImageError(reason, error.detail) from error

    def _stored_crops(self, row: Row) -> list[bytes] | None:
        if row["start_at"] not in ("score", "judge"):
            return None
        # `crop_uris` is the last manifest's: deliver wrote it, so no earlier node of this graph can.
        crops = [self._fetch(None, uri, None, "crop_missing") for uri in row["crop_uris"]]
        return [decode(crop).rgb.tobytes() for crop in crops]
