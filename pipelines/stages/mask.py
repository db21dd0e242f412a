"""Say where pixels may change, what is denoised, and which crops the painter sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.pixels.boxes import area_fraction
from pipelines.pixels.crops import context_region, cut
from pipelines.pixels.images import decode
from pipelines.pixels.masks import diagonal_px, drop_specks, fill_holes, from_rle, grow, to_rle
from pipelines.recipe import MaskSettings
from pipelines.rows import BOXES, RLE, SCORES, SIZE_WH, ItemError, Row, Update

REGIONS = pa.list_(pa.list_(pa.int32(), 4))


class Mask:
    """From object masks, or the given mask, to the allow mask, the repaint mask and the painter's regions.

    The allow mask is where the delivered picture may differ from the source: the given mask as it is, or the chosen
    instances, holes filled, specks dropped, grown. The repaint mask, what is denoised, leaks further out. Regions are
    squares (R, 4) in pixels that may reach beyond the picture, one an instance; `region_rgb` is each of them as raw
    uint8 (crop_px, crop_px, 3). An empty mask, or one over nearly everything, is a rejection.
    """

    pixels_version = 1
    reads = {
        "image_bytes": pa.large_binary(),
        "size_wh": SIZE_WH,
        "given_mask_rle": RLE,
        "boxes_xyxy": BOXES,
        "box_scores": SCORES,
        "object_masks_rle": pa.list_(RLE),
    }
    adds = {
        "allow_mask_rle": RLE,
        "repaint_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "region_rgb": pa.list_(pa.large_binary()),
    }

    def __init__(self, settings: MaskSettings) -> None:
        self.settings = settings

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Each row by itself; no model."""
        return [self._mask(row) for row in rows]

    def _mask(self, row: Row) -> Update:
        masks = self._instances(row)
        if not masks:
            return {"reason": "empty_mask"}
        allow = np.logical_or.reduce(masks)
        if allow.mean() > self.settings.max_area:
            return {"reason": "mask_covers_everything", "allow_mask_rle": to_rle(allow)}
        leaks = [grow(mask, round(self.settings.denoise_grow * diagonal_px(mask))) for mask in masks]
        regions = [context_region(leak, self.settings.crop_px) for leak in leaks]
        rgb = decode(row["image_bytes"]).rgb
        return {
            "allow_mask_rle": to_rle(allow),
            "repaint_mask_rle": to_rle(np.logical_or.reduce(leaks)),
            "regions_xyxy": [list(region) for region in regions],
            "region_rgb": [cut(rgb, region, self.settings.crop_px).tobytes() for region in regions],
        }

    def _instances(self, row: Row) -> list[NDArray[np.bool_]]:
        """The masks to repaint, none of them empty."""
        if row["given_mask_rle"] is not None:
            given = from_rle(row["given_mask_rle"])
            return [given] if given.any() else []
        found = [from_rle(row["object_masks_rle"][index]) for index in self._chosen(row)]
        tidied = [self._tidy(mask) for mask in found if mask.any()]
        return [mask for mask in tidied if mask.any()]

    def _chosen(self, row: Row) -> list[int]:
        if self.settings.instances == "all":
            return list(range(len(row["boxes_xyxy"])))
        if self.settings.instances == "largest":
            boxes = np.asarray(row["boxes_xyxy"], np.float32)
            return [int(np.argmax(area_fraction(boxes, tuple(row["size_wh"]))))]
        return [int(np.argmax(row["box_scores"]))]

    def _tidy(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        whole = drop_specks(fill_holes(mask, self.settings.max_hole), self.settings.min_speck)
        return grow(whole, round(self.settings.grow * diagonal_px(whole))) if whole.any() else whole
