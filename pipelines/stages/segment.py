"""Cut the mask of what each box holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.models import Candidates, Segmenter
from pipelines.models.loading import load_segmenter
from pipelines.pixels.images import decode
from pipelines.pixels.masks import to_rle
from pipelines.recipe import SegmentSettings
from pipelines.rows import BOXES, RLE, SCORES, ItemError, Row, Update


class Segment:
    """Turn boxes into masks (Segment Anything, Kirillov et al. 2023, arXiv:2304.02643).

    Adds one mask (H, W) as RLE and one score in 0..1 a box. Of SAM's candidates for a box the one with the highest
    predicted IoU is taken; candidates are never united: they are rival readings of the same box. A row without boxes,
    such as one with a given mask, passes by.
    """

    pixels_version = 1
    reads = {"image_bytes": pa.large_binary(), "boxes_xyxy": BOXES}
    adds = {"object_masks_rle": pa.list_(RLE), "mask_scores": SCORES}

    def __init__(self, settings: SegmentSettings, segmenter: Segmenter | None = None) -> None:
        self.segmenter = segmenter or load_segmenter(settings)

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Segment the rows with boxes in one call; masks are made and packed one at a time."""
        asked = [index for index, row in enumerate(rows) if row.get("boxes_xyxy")]
        images = [decode(rows[index]["image_bytes"]).rgb for index in asked]
        boxes = [np.asarray(rows[index]["boxes_xyxy"], np.float32) for index in asked]
        updates: list[Update | ItemError] = [{} for _ in rows]
        for index, candidates in zip(asked, self.segmenter(images, boxes), strict=True):
            best = [_best(candidate) for candidate in candidates]
            updates[index] = {
                "object_masks_rle": [mask for mask, _ in best],
                "mask_scores": [score for _, score in best],
            }
        return updates


def _best(candidates: Candidates) -> tuple[dict[str, object], float]:
    index = int(np.argmax(candidates.predicted_ious))
    return dict(to_rle(candidates.masks[index])), float(candidates.predicted_ious[index])
