"""Paste what was kept into the source at its own size, prove the rest untouched, and put the pictures away."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import storage
from pipelines.pixels.composite import changed_outside, paste_region
from pipelines.pixels.crops import from_raw
from pipelines.pixels.images import Picture, decode, encode, provenance_xmp
from pipelines.pixels.masks import from_rle
from pipelines.recipe import DeliverSettings
from pipelines.rows import CROPS, RLE, STRINGS, ItemError, Row, Update
from pipelines.stages.mask import REGIONS


@dataclass(frozen=True)
class Store:
    """Where pictures go: each at the sha256 of its own bytes, put if absent, so doing a row again rewrites nothing."""

    root_uri: str

    def put(self, folder: str, data: bytes, suffix: str) -> str:
        """Put a file under `folder` (images, crops or variants) and answer its URI."""
        digest = hashlib.sha256(data).hexdigest()
        uri = storage.join(self.root_uri, folder, digest[:2], f"{digest}.{suffix}")
        storage.write(uri, data, if_absent=True)
        return uri


class Deliver:
    """Make and put the finished pictures of an item, and measure them on the files that were made (DESIGN 5).

    Every variant's crops are stored as PNG, kept ones under `crops/`, others under `variants/`. For kept variants alone
    the full picture is made: crops resized back once, pasted inside the allow mask, the source copied everywhere else,
    encoded once. `changed_outside` counts the pixels outside the allow mask that differ from the source in the
    *decoded* file; in exact mode any such pixel is a bug and fails the row. An item with nothing kept is rejected
    here. Without a store the encoded pictures stay in the row (`image_files`). What is said of the full picture is null
    where a variant is not kept.
    """

    pixels_version = 1
    reads = {
        "image_bytes": pa.large_binary(),
        "allow_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "finished_crops": CROPS,
        "paint_prompts": STRINGS,
        "variant_kept": pa.list_(pa.bool_()),
    }
    adds = {
        "crop_uris": STRINGS,
        "image_uris": STRINGS,
        "image_sha256s": STRINGS,
        "changed_outside": pa.list_(pa.int64()),
        "image_files": pa.list_(pa.large_binary()),
    }

    def __init__(self, settings: DeliverSettings, store: Store | None = None) -> None:
        self.settings = settings
        self.store = store

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Each row by itself."""
        return [self._deliver(row) for row in rows]

    def _deliver(self, row: Row) -> Update:
        source, allow = decode(row["image_bytes"]), from_rle(row["allow_mask_rle"])
        crops = [from_raw(raw) for raw in row["finished_crops"]]
        count = len(row["regions_xyxy"])
        files: list[bytes | None] = []
        changes: list[int | None] = []
        for variant, kept in enumerate(row["variant_kept"]):
            own = crops[variant * count : (variant + 1) * count]
            encoded = self._picture(row, source, allow, own) if kept else None
            files.append(encoded)
            changes.append(None if encoded is None else self._prove(encoded, source, allow))
        update: Update = {
            "image_sha256s": [None if file is None else hashlib.sha256(file).hexdigest() for file in files],
            "changed_outside": changes,
            **self._put(files, crops, row["variant_kept"]),
        }
        return update if any(row["variant_kept"]) else {**update, "reason": "nothing_kept"}

    def _picture(
        self, row: Row, source: Picture, allow: NDArray[np.bool_], crops: Sequence[NDArray[np.uint8]]
    ) -> bytes:
        picture = source.rgb
        for crop, region in zip(crops, row["regions_xyxy"], strict=True):
            picture = paste_region(picture, crop, tuple(region), allow, self.settings.feather_px)
        alpha = None if self.settings.format == "jpeg" else source.alpha
        return encode(
            picture,
            self.settings.format,
            alpha=alpha,
            icc_profile=source.icc_profile,
            xmp=provenance_xmp("Packshot", None),
        )

    def _prove(self, encoded: bytes, source: Picture, allow: NDArray[np.bool_]) -> int:
        changed = changed_outside(source.rgb, decode(encoded, keep=False).rgb, allow)
        if changed and self.settings.exact:
            raise RuntimeError(f"{changed} pixels outside the mask changed in exact mode; please report this")
        return changed

    def _put(self, files: Sequence[bytes | None], crops: Sequence[NDArray[np.uint8]], kept: Sequence[bool]) -> Update:
        if self.store is None:
            return {"image_files": list(files)}
        a_variant = len(crops) // len(kept)
        return {
            "crop_uris": [
                self.store.put("crops" if kept[index // a_variant] else "variants", encode(crop, "png"), "png")
                for index, crop in enumerate(crops)
            ],
            "image_uris": [
                None if file is None else self.store.put("images", file, self.settings.format) for file in files
            ],
        }
