"""Hand a step's finished picture on to the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from pipelines.pixels.crops import from_raw
from pipelines.pixels.images import encode
from pipelines.pixels.proof import prove
from pipelines.recipe.settings import DeliverSettings
from pipelines.rows import CROPS, REGIONS, RLE, ItemError, Row, Update
from pipelines.stages.compositing import base_of, changeable, finished_picture


class HandOn:
    """Make the full picture of a step that is not the last: the next step paints on it.

    Adds `finished_bytes`, the picture as a lossless file at the canvas's size, of the step's first variant. Outside
    what may change by now it is the base, bit for bit; anything else is a bug and fails the row.
    """

    pixels_version = 1
    reads = {
        "image_bytes": pa.large_binary(),
        "base_bytes": pa.large_binary(),
        "canvas_bytes": pa.large_binary(),
        "overlay_bytes": pa.large_binary(),
        "allow_mask_rle": RLE,
        "changed_mask_rle": RLE,
        "repaint_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "finished_crops": CROPS,
    }
    may_read: ClassVar[dict[str, pa.DataType]] = {}
    adds = {"finished_bytes": pa.large_binary()}

    def __init__(self, settings: DeliverSettings) -> None:
        self.settings = settings

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Each row by itself; no model."""
        return [self._hand_on(row) for row in rows]

    def _hand_on(self, row: Row) -> Update:
        crops = [from_raw(raw) for raw in row["finished_crops"][: len(row["regions_xyxy"])]]
        picture, base = finished_picture(row, crops, self.settings.feather_px), base_of(row)
        if changed := prove(base.rgb, picture, changeable(row)).changed_outside:
            raise RuntimeError(f"{changed} pixels outside the mask changed between two steps; please report this")
        return {"finished_bytes": encode(picture, "png", alpha=base.alpha, icc_profile=base.icc_profile)}
