"""Keep the best variants; marks only, calls no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines.recipe.settings import JudgeSettings
from pipelines.rows import STRINGS, VARIANT_SCORES, ItemError, Row, Update


class Judge:
    """Mark each variant as kept or say why not: thresholds first, then the best `keep_best` of those that pass.

    Variants rank by text similarity plus, where there is one, reference similarity; of equals, as where likeness is not
    measured, by the smaller ring error. Pure and cheap, so thresholds are cut again from stored scores. A score that is
    null cannot fall below a threshold; one that is no number (NaN, as older runs stored it) is kept by none.
    """

    pixels_version = 2
    reads = {"variant_scores": pa.list_(VARIANT_SCORES)}
    adds = {"variant_kept": pa.list_(pa.bool_()), "variant_reasons": STRINGS}

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Each row by itself."""
        return [self._judge(row["variant_scores"]) for row in rows]

    def _judge(self, scores: Sequence[Mapping[str, Any]]) -> Update:
        reasons = [self._refusal(score) for score in scores]
        passed = [index for index, reason in enumerate(reasons) if reason is None]
        passed.sort(key=lambda index: _rank(scores[index]))  # stable: of equals the first variant wins
        for index in passed[self.settings.keep_best :]:
            reasons[index] = "not_among_best"
        return {"variant_kept": [reason is None for reason in reasons], "variant_reasons": reasons}

    def _refusal(self, score: Mapping[str, Any]) -> str | None:
        if any(isinstance(one, float) and not math.isfinite(one) for one in score.values()):
            return "no_numbers"
        text = score["text_similarity"]
        if text is not None and text < self.settings.min_text_similarity:
            return "low_text_similarity"
        reference = score["reference_similarity"]
        if reference is not None and reference < self.settings.min_reference_similarity:
            return "low_reference_similarity"
        if score["ring_error"] is not None and score["ring_error"] > self.settings.max_ring_error:
            return "high_ring_error"
        if (score.get("expansion") or 0.0) > self.settings.max_expansion:  # runs of before it was measured lack it
            return "product_grew"
        return None


def _rank(score: Mapping[str, Any]) -> tuple[float, float]:
    """The best is the smallest."""
    return -(score["text_similarity"] or 0.0) - (score["reference_similarity"] or 0.0), score["ring_error"] or 0.0
