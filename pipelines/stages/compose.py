"""Join each painted crop to its surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.pixels.colour import apply_fit, fit, ring, ring_error
from pipelines.pixels.composite import paste
from pipelines.pixels.crops import cut_mask, from_raw
from pipelines.pixels.masks import from_rle
from pipelines.recipe.settings import ComposeSettings
from pipelines.rows import CROPS, REGIONS, RLE, SCORES, ItemError, Row, Update


class Compose:
    """Fit the painted crop's colours on the ring outside the mask, and paste it into the source's crop.

    The ring lies outside what was denoised, so both sides of it are known: what the model made of it tells the tone
    step that it made inside as well. Adds V*R finished crops, raw uint8 (S, S, 3), equal to the canvas's crop outside
    what may change and was denoised, and the ring's mean absolute difference, 0..255, before and after the fit (null
    without a ring).
    """

    pixels_version = 1
    reads = {
        "allow_mask_rle": RLE,
        "repaint_mask_rle": RLE,
        "regions_xyxy": REGIONS,
        "region_rgb": pa.list_(pa.large_binary()),
        "variant_crops": CROPS,
    }
    may_read: ClassVar[dict[str, pa.DataType]] = {}
    adds = {"finished_crops": CROPS, "ring_errors_before": SCORES, "ring_errors_after": SCORES}

    def __init__(self, settings: ComposeSettings) -> None:
        self.settings = settings

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Each row by itself; no model."""
        return [self._compose(row) for row in rows]

    def _compose(self, row: Row) -> Update:
        allow, repaint = from_rle(row["allow_mask_rle"]), from_rle(row["repaint_mask_rle"])
        finished, before, after = [], [], []
        count = len(row["regions_xyxy"])
        for index, painted in enumerate(row["variant_crops"]):
            region = tuple(row["regions_xyxy"][index % count])
            source = from_raw(row["region_rgb"][index % count])
            side = len(source)
            crop, errors = self._finish(
                from_raw(painted), source, cut_mask(allow & repaint, region, side), cut_mask(repaint, region, side)
            )
            finished.append(crop.tobytes())
            before.append(errors[0])
            after.append(errors[1])
        return {"finished_crops": finished, "ring_errors_before": before, "ring_errors_after": after}

    def _finish(
        self,
        painted: NDArray[np.uint8],
        source: NDArray[np.uint8],
        allow: NDArray[np.bool_],
        repaint: NDArray[np.bool_],
    ) -> tuple[NDArray[np.uint8], tuple[float | None, float | None]]:
        around = ring(repaint, self.settings.ring_px)
        before = ring_error(painted, source, around)
        if self.settings.colour_fit:
            painted = apply_fit(painted, *fit(painted, source, around))
        return paste(source, painted, allow, self.settings.feather_px), (before, ring_error(painted, source, around))
