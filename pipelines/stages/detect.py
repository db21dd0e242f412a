"""Find the product by text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.models import Detector, Found
from pipelines.models.loading import load_detector, make_call
from pipelines.pixels.boxes import area_fraction, nms
from pipelines.pixels.images import decode
from pipelines.recipe.settings import DetectSettings
from pipelines.rows import BOXES, POINTS, RLE, SCORES, STRINGS, ItemError, Row, Update, pictures


class Detect:
    """Find the boxes that a prompt names (Grounding DINO, Liu et al. 2023, arXiv:2303.05499).

    Reads an encoded picture and a prompt; adds boxes (N, 4) in pixels, left top right bottom, their scores (N,) in 0..1
    and the phrases they match, best first. A row without a match is rejected with N = 0; one whose every box fills
    nearly the whole picture is rejected and keeps its boxes. `ambiguous` says that the two best are nearly equal. A row
    with given boxes has those, at a score of 1; one with a given mask or given points passes by.
    """

    pixels_version = 2
    reads = {
        "image_bytes": pa.large_binary(),
        "given_mask_rle": RLE,
        "given_boxes_xyxy": BOXES,
        "given_points": POINTS,
        "find_prompt": pa.string(),
    }
    may_read = {"finished_bytes": pa.large_binary()}
    adds = {"boxes_xyxy": BOXES, "box_scores": SCORES, "box_labels": STRINGS, "ambiguous": pa.bool_()}

    def __init__(self, settings: DetectSettings, detector: Detector | None = None) -> None:
        self.settings = settings
        self.detector = detector or _load(settings)

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Ask the detector about the rows without a given mask, all in one call."""
        asked = [
            index
            for index, row in enumerate(rows)
            if row["given_mask_rle"] is None and not row["given_boxes_xyxy"] and not row["given_points"]
        ]
        images = [decode(pictures(rows[index]).named(self.settings.on)).rgb for index in asked]
        found = self.detector(images, [rows[index]["find_prompt"] for index in asked])
        updates: list[Update | ItemError] = [_given(row["given_boxes_xyxy"]) for row in rows]
        for index, image, answer in zip(asked, images, found, strict=True):
            updates[index] = self._update(answer, (image.shape[1], image.shape[0]))
        return updates

    def _update(self, found: Found, size_wh: tuple[int, int]) -> Update:
        good = np.flatnonzero(found.scores >= self.settings.min_score)
        best = good[nms(found.boxes_xyxy[good], found.scores[good], self.settings.nms_iou)]
        small = best[area_fraction(found.boxes_xyxy[best], size_wh) <= self.settings.max_area]
        shown = small if len(small) else best
        update: Update = {
            "boxes_xyxy": found.boxes_xyxy[shown].tolist(),
            "box_scores": found.scores[shown].tolist(),
            "box_labels": [found.labels[index] for index in shown],
            "ambiguous": len(shown) > 1 and bool(np.ptp(found.scores[shown[:2]]) < self.settings.ambiguous_margin),
        }
        if not len(small):
            update["reason"] = "box_too_large" if len(best) else "nothing_found"
        return update


def _given(boxes_xyxy: Sequence[Sequence[float]] | None) -> Update:
    if not boxes_xyxy:
        return {}
    count = len(boxes_xyxy)
    return {"boxes_xyxy": boxes_xyxy, "box_scores": [1.0] * count, "box_labels": ["given"] * count, "ambiguous": False}


def _load(settings: DetectSettings) -> Detector:
    call = make_call(settings.role, settings.checkpoint, settings.call_size, settings.threads)
    return load_detector(call, settings.side_px, settings.sizing == "as_trained")
