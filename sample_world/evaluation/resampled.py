"""Figures of two lists at once, with the percentile bootstrap's interval over the cases that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sample_world.evaluation.figures import RESAMPLES, Figure

Numbers = NDArray[np.float64]


def over_cases(first: Sequence[float], second: Sequence[float], of: Callable[[Numbers, Numbers], float]) -> Figure:
    """`of` two lists of one length, an entry a case; cases are drawn anew, and both their entries with them.

    The interval is of those draws for which the figure is finite: a ratio to 0 is not.
    """
    if not len(first):
        return Figure(np.nan, np.nan, np.nan, 0)
    one, other = np.asarray(first, float), np.asarray(second, float)
    drawn = np.random.default_rng(0).integers(0, len(one), (RESAMPLES, len(one)))
    values = np.array([of(one[cases], other[cases]) for cases in drawn])
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2.5, 97.5]) if finite.size else (np.nan, np.nan)
    return Figure(of(one, other), float(low), float(high), len(one))


def auc(same: Numbers, other: Numbers) -> float:
    """How often a similarity of the same product is above one of another product, over all pairs; ties are half.

    The area under the ROC curve (Mann and Whitney 1947); 0.5 is chance.
    """
    ranks = rankdata(np.concatenate([same, other]))
    return float((ranks[: len(same)].sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(other)))


def ratio(shown: Numbers, base: Numbers) -> float:
    """The first list's mean over the second's; NaN where that is 0."""
    return float(shown.mean() / base.mean()) if base.any() else float("nan")
