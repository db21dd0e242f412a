"""The numbers that a variant is scored by, one entry each.

The Arrow struct of scores, the columns of `images`, the judge, the words of `reason`, the report's table and the HTTP
schema are all made from this table. Two things stand elsewhere: the code that measures a score (`stages/score.py`) and
its threshold, a setting with a default and a description of its own (`JudgeSettings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa


@dataclass(frozen=True)
class Measure:
    """One score: what it measures, and how a judge refuses a variant by it.

    Attributes:
        name: of its column and of its field in `variant_scores`.
        label: its name for people.
        description: what it measures, its unit, and when it is null.
        lowest: the smallest value that it can have; None where there is none.
        highest: the largest value that it can have; None where there is none.
        type: of its Arrow column.
        asked: whether the judge keeps a variant whose value is at least, or at most, the threshold.
        reason: the word for a variant that the threshold refuses.
        sentence: the same for people.
        next_step: what a person may do about it.
    """

    name: str
    label: str
    description: str
    lowest: float | None
    highest: float | None
    type: pa.DataType
    asked: Literal["at least", "at most"]
    reason: str
    sentence: str
    next_step: str

    @property
    def setting(self) -> str:
        """The threshold's name in `judge`: `min_ring_error` or `max_ring_error`, by what is asked."""
        return f"{'min' if self.asked == 'at least' else 'max'}_{self.name}"

    def refuses(self, value: float | None, threshold: float) -> bool:
        """Whether a value is beyond the threshold; null, which says that nothing was measured, never is."""
        if value is None:
            return False
        return value < threshold if self.asked == "at least" else value > threshold


MEASURES = (
    Measure(
        name="text_similarity",
        label="prompt likeness",
        description="Cosine of prompt and product, -1 to 1; null without a prompt, or unmeasured.",
        lowest=-1,
        highest=1,
        type=pa.float32(),
        asked="at least",
        reason="low_text_similarity",
        sentence="It does not look enough like the prompt.",
        next_step="Lower `judge.min_text_similarity`.",
    ),
    Measure(
        name="reference_similarity",
        label="reference likeness",
        description="Cosine of product and nearest reference, -1 to 1; null without a reference, or unmeasured.",
        lowest=-1,
        highest=1,
        type=pa.float32(),
        asked="at least",
        reason="low_reference_similarity",
        sentence="It does not look enough like the reference.",
        next_step="Lower `judge.min_reference_similarity`.",
    ),
    Measure(
        name="ring_error",
        label="edge mismatch",
        description="Mean absolute RGB difference in the ring around the mask, after the colour fit, 0 to 255; null "
        "without a ring.",
        lowest=0,
        highest=255,
        type=pa.float32(),
        asked="at most",
        reason="high_ring_error",
        sentence="Its surroundings do not match the picture.",
        next_step="Raise `judge.max_ring_error`.",
    ),
    Measure(
        name="expansion",
        label="growth of the product",
        description="Growth of a kept product into its new background, as a share of it, from 0; null if unmeasured.",
        lowest=0,
        highest=None,
        type=pa.float32(),
        asked="at most",
        reason="product_grew",
        sentence="Its background continues the product.",
        next_step="Paint more variants, or raise `judge.max_expansion`.",
    ),
)
"""Every score, in the order in which thresholds are asked, columns stand, and people read them."""


def rank(scores: Mapping[str, Any]) -> tuple[float, float]:
    """Where a variant with these scores stands among others: the best has the smallest rank.

    First counts likeness to the prompt plus likeness to the reference; of equals, as where no likeness is measured, the
    smaller ring error is better. Null counts as 0.
    """
    likeness = (scores["text_similarity"] or 0.0) + (scores["reference_similarity"] or 0.0)
    return -likeness, scores["ring_error"] or 0.0
