"""Paste kept variants into the source at its own size, prove the rest untouched, and store the pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.pixels.crops import from_raw
from pipelines.pixels.images import Picture, decode, encode
from pipelines.pixels.jpeg_blocks import read_source
from pipelines.pixels.proof import Proof, prove
from pipelines.recipe.settings import DeliverSettings
from pipelines.rows import CROPS, REGIONS, RLE, STRINGS, ItemError, Row, Update, pictures
from pipelines.stages.compositing import base_of, changeable, finished_picture
from pipelines.stages.encoding import EncodedPicture, as_file, blocks_wanted
from pipelines.storage import Store


class Deliver:
    """Make an item's finished pictures, store them, and measure them on the encoded files (docs/design.md, Exactness).

    The crops of every variant are stored as PNG: those of kept variants under `crops/`, of others under `variants/`.
    Crops that an earlier night stored (`crop_uris`) are stored again only where they move between the two. The full
    picture is made for kept variants alone: each crop is resized back once and pasted into the canvas where it was
    denoised inside the allow mask, the product is laid over its new background, and the picture is encoded once.

    `changed_outside` counts the pixels outside the allow mask that differ between the *decoded* file and the base (the
    source, or what the task set in its place); `max_differences` is the largest of those differences, and
    `outside_sha256s` a hash of the pixels outside. In exact mode any such pixel is a bug and fails the row. Of a JPEG
    that keeps its source's blocks (`exactness` is `blocks`), outside is what lies beyond the blocks that the mask
    touches. Full-picture columns are null for variants that are not kept.

    An item with nothing kept is rejected here. Without a store, the encoded pictures stay in the row (`image_files`).
    """

    pixels_version = 2
    reads = {
        "image_bytes": pa.large_binary(),
        "allow_mask_rle": RLE,
        "repaint_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "finished_crops": CROPS,
        "paint_prompts": STRINGS,
        "variant_kept": pa.list_(pa.bool_()),
    }
    may_read = {
        "base_bytes": pa.large_binary(),
        "canvas_bytes": pa.large_binary(),
        "overlay_bytes": pa.large_binary(),
        "changed_mask_rle": RLE,
        "crop_uris": STRINGS,
    }
    adds = {
        "crop_uris": STRINGS,
        "image_uris": STRINGS,
        "image_sha256s": STRINGS,
        "image_formats": STRINGS,
        "exactness": STRINGS,
        "changed_outside": pa.list_(pa.int64()),
        "max_differences": pa.list_(pa.int32()),
        "outside_sha256s": STRINGS,
        "image_files": pa.list_(pa.large_binary()),
    }

    def __init__(self, settings: DeliverSettings, store: Store | None = None) -> None:
        self.settings = settings
        self.store = store

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Make, measure and store each row's pictures."""
        return [self._deliver(row) for row in rows]

    def _deliver(self, row: Row) -> Update:
        base, allow = base_of(row), changeable(row)
        crops = [from_raw(raw) for raw in row["finished_crops"]]
        count = len(row["regions_xyxy"])
        encoded = pictures(row)
        is_source = encoded.base is encoded.source  # else a task made the base itself
        source = read_source(encoded.source) if is_source and blocks_wanted(self.settings) else None
        files: list[EncodedPicture | None] = []
        for variant, kept in enumerate(row["variant_kept"]):
            own = crops[variant * count : (variant + 1) * count]
            finished = finished_picture(row, own, self.settings.feather_px) if kept else None
            files.append(None if finished is None else as_file(self.settings, finished, base, allow, source))
        proofs = [file and self._prove(file, base) for file in files]
        update: Update = {
            "image_sha256s": [file and hashlib.sha256(file.data).hexdigest() for file in files],
            "image_formats": [file and file.format for file in files],
            "exactness": [file and file.exactness for file in files],
            "changed_outside": [proof and proof.changed_outside for proof in proofs],
            "max_differences": [proof and proof.max_difference for proof in proofs],
            "outside_sha256s": [proof and proof.outside_sha256 for proof in proofs],
            **self._put(files, crops, row["variant_kept"], row.get("crop_uris")),
        }
        return update if any(row["variant_kept"]) else {**update, "reason": "nothing_kept"}

    def _prove(self, file: EncodedPicture, base: Picture) -> Proof:
        proof = prove(base.rgb, decode(file.data, keep=False).rgb, file.may_differ)
        if proof.changed_outside and file.exactness != "none":
            raise RuntimeError(
                f"{proof.changed_outside} pixels outside the mask changed in exact mode; please report this"
            )
        return proof

    def _put(
        self,
        files: Sequence[EncodedPicture | None],
        crops: Sequence[NDArray[np.uint8]],
        kept: Sequence[bool],
        stored: Sequence[str] | None,
    ) -> Update:
        if self.store is None:
            return {"image_files": [file and file.data for file in files]}
        a_variant = len(crops) // len(kept)
        folders = ["crops" if kept[index // a_variant] else "variants" for index in range(len(crops))]
        return {
            "crop_uris": [
                self._put_crop(crop, folder, old)
                for crop, folder, old in zip(crops, folders, stored or [""] * len(crops), strict=True)
            ],
            "image_uris": [file and self.store.put("images", file.data, file.format) for file in files],
        }

    def _put_crop(self, crop: NDArray[np.uint8], folder: str, stored: str) -> str:
        assert self.store is not None
        if self.store.holds(folder, stored):
            return stored
        return self.store.put(folder, encode(crop, "png"), "png")
