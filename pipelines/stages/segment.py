"""Cut the mask of what each box holds, or of what lies under given points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.models import Candidates, Segmenter
from pipelines.models.loading import load_segmenter, make_call
from pipelines.models.per_box import PerBoxSegmenter
from pipelines.pixels.images import decode
from pipelines.pixels.masks import to_rle
from pipelines.recipe.settings import SegmentSettings
from pipelines.rows import BOXES, POINTS, RLE, SCORES, ItemError, Row, Update, pictures


class Segment:
    """Turn boxes or points into masks (Segment Anything, Kirillov et al. 2023, arXiv:2304.02643).

    Adds one mask (H, W) as RLE and one score in 0..1 a box, or one for all given points. Of SAM's candidates the one
    with the highest predicted IoU is taken, or the smallest or largest if a part or the whole is asked for; candidates
    are never united: they are rival readings of the same prompt. With `crop_margin` each box is segmented in a crop of
    its own. A row with neither, such as one with a given mask, passes by.
    """

    pixels_version = 2
    reads = {
        "image_bytes": pa.large_binary(),
        "given_mask_rle": RLE,
        "given_points": POINTS,
        "boxes_xyxy": BOXES,
    }
    may_read = {"finished_bytes": pa.large_binary()}
    adds = {"object_masks_rle": pa.list_(RLE), "mask_scores": SCORES}

    def __init__(self, settings: SegmentSettings, segmenter: Segmenter | None = None) -> None:
        self.settings = settings
        plain = segmenter or _load(settings)
        self.segmenter = plain if settings.crop_margin is None else PerBoxSegmenter(plain, settings.crop_margin)

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Segment the rows with boxes in one call; masks are made and packed one at a time."""
        prompts = [_prompts(row) for row in rows]
        asked = [index for index, some in enumerate(prompts) if some]
        images = [decode(pictures(rows[index]).named(self.settings.on)).rgb for index in asked]
        updates: list[Update | ItemError] = [{} for _ in rows]
        for index, candidates in zip(asked, self.segmenter(images, [prompts[index] for index in asked]), strict=True):
            best = [_chosen(candidate, self.settings.detail) for candidate in candidates]
            updates[index] = {
                "object_masks_rle": [mask for mask, _ in best],
                "mask_scores": [score for _, score in best],
            }
        return updates


def _load(settings: SegmentSettings) -> Segmenter:
    return load_segmenter(make_call(settings.role, settings.checkpoint, settings.call_size, settings.threads))


def _prompts(row: Row) -> list[NDArray[np.float32]]:
    if row.get("boxes_xyxy"):
        return [np.asarray(box, np.float32) for box in row["boxes_xyxy"]]
    points = row["given_points"] if row["given_mask_rle"] is None else None
    return [np.asarray(points, np.float32)] if points else []


def _chosen(candidates: Candidates, detail: str) -> tuple[dict[str, object], float]:
    areas = candidates.masks.sum((1, 2))
    by = {"auto": candidates.predicted_ious, "part": -areas, "whole": areas}[detail]
    index = int(np.argmax(by))
    return dict(to_rle(candidates.masks[index])), float(candidates.predicted_ious[index])
