"""Keep the best variants; marks only, calls no model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa

from pipelines.recipe.settings import JudgeSettings
from pipelines.rows import STRINGS, VARIANT_SCORES, ItemError, Row, Update
from pipelines.scores import MEASURES, rank


class Judge:
    """Mark each variant as kept, or say why it is not: thresholds first, then the `keep_best` best of those that pass.

    `scores.rank` says which are best. Pure and cheap, so that other thresholds are applied to stored scores. A score
    that is null cannot fail a threshold; a variant with a score that is no number (NaN, as older runs stored it) is
    never kept. With `keep: all` every variant is kept, whatever it scored.
    """

    pixels_version = 2
    reads = {"variant_scores": pa.list_(VARIANT_SCORES)}
    may_read: ClassVar[dict[str, pa.DataType]] = {}
    adds = {"variant_kept": pa.list_(pa.bool_()), "variant_reasons": STRINGS}

    def __init__(self, settings: JudgeSettings) -> None:
        self.settings = settings

    def __call__(self, rows: Sequence[Row]) -> list[Update | ItemError]:
        """Judge each row's variants among themselves."""
        return [self._judge(row["variant_scores"]) for row in rows]

    def _judge(self, variants: Sequence[Mapping[str, Any]]) -> Update:
        if self.settings.keep == "all":
            return {"variant_kept": [True] * len(variants), "variant_reasons": [None] * len(variants)}
        reasons = [self._refusal(scores) for scores in variants]
        passed = [index for index, reason in enumerate(reasons) if reason is None]
        passed.sort(key=lambda index: rank(variants[index]))  # stable: of equals the first variant wins
        for index in passed[self.settings.keep_best :]:
            reasons[index] = "not_among_best"
        return {"variant_kept": [reason is None for reason in reasons], "variant_reasons": reasons}

    def _refusal(self, scores: Mapping[str, Any]) -> str | None:
        if any(isinstance(value, float) and not math.isfinite(value) for value in scores.values()):
            return "no_numbers"
        for one in MEASURES:
            # The scores of a run that is older than a measure lack it.
            if one.refuses(scores.get(one.name), getattr(self.settings, one.setting)):
                return one.reason
        return None
