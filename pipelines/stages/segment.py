"""Cut the mask of what each box holds, or of what lies under given points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.models import RGB, Candidates, Segmenter
from pipelines.models.loading import load_segmenter
from pipelines.pixels.boxes import with_room
from pipelines.pixels.images import decode
from pipelines.pixels.masks import to_rle
from pipelines.rows import BOXES, POINTS, RLE, SCORES, ItemError, Row, Update, looked_at
from pipelines.settings import SegmentSettings


@dataclass(frozen=True, eq=False)
class _Look:
    """What SAM is shown of a row's picture, (H, W), and asked for: `window` is what of the picture that is."""

    index: int
    size_hw: tuple[int, int]
    window: tuple[slice, slice]
    rgb: RGB
    prompts: Sequence[NDArray[np.float32]]


class Segment:
    """Turn boxes or points into masks (Segment Anything, Kirillov et al. 2023, arXiv:2304.02643).

    Adds one mask (H, W) as RLE and one score in 0..1 a box, or one for all given points. With `room` SAM looks at each
    box by itself, as large as its input takes, and else once at the whole picture. Of SAM's candidates the one with the
    highest predicted IoU is taken, or the smallest or largest if a part or the whole is asked for; candidates are never
    united: they are rival readings of the same prompt. A row with neither, such as one with a given mask, passes by.
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
        self.segmenter = segmenter or load_segmenter(settings)

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Segment the rows with boxes in one call; masks are made and packed one at a time."""
        looks = [look for index, row in enumerate(rows) for look in self._looks(index, row)]
        answers = self.segmenter([look.rgb for look in looks], [look.prompts for look in looks])
        updates: list[Update | ItemError] = [{} for _ in rows]
        found: dict[int, Update] = {}
        for look, candidates in zip(looks, answers, strict=True):
            update = found.setdefault(look.index, {"object_masks_rle": [], "mask_scores": []})
            for candidate in candidates:
                mask, score = _chosen(candidate, self.settings.detail)
                update["object_masks_rle"].append(to_rle(_in_picture(mask, look)))
                update["mask_scores"].append(score)
            updates[look.index] = update
        return updates

    def _looks(self, index: int, row: Row) -> Iterator[_Look]:
        prompts = _prompts(row)
        if not prompts:
            return
        rgb = decode(looked_at(row, self.settings.on)).rgb
        size_hw = rgb.shape[0], rgb.shape[1]
        if self.settings.room is None or not row.get("boxes_xyxy"):
            yield _Look(index, size_hw, np.s_[:, :], rgb, prompts)
            return
        for box in prompts:
            left, top, right, bottom = with_room(box, self.settings.room, (size_hw[1], size_hw[0]))
            window = np.s_[top:bottom, left:right]
            own = np.asarray(box - [left, top, left, top], np.float32)
            yield _Look(index, size_hw, window, np.ascontiguousarray(rgb[window]), [own])


def _prompts(row: Row) -> list[NDArray[np.float32]]:
    if row.get("boxes_xyxy"):
        return [np.asarray(box, np.float32) for box in row["boxes_xyxy"]]
    points = row["given_points"] if row["given_mask_rle"] is None else None
    return [np.asarray(points, np.float32)] if points else []


def _chosen(candidates: Candidates, detail: str) -> tuple[NDArray[np.bool_], float]:
    areas = candidates.masks.sum((1, 2))
    by = {"auto": candidates.predicted_ious, "part": -areas, "whole": areas}[detail]
    index = int(np.argmax(by))
    return candidates.masks[index], float(candidates.predicted_ious[index])


def _in_picture(mask: NDArray[np.bool_], look: _Look) -> NDArray[np.bool_]:
    if mask.shape == look.size_hw:
        return mask
    whole = np.zeros(look.size_hw, np.bool_)
    whole[look.window] = mask
    return whole
