"""A measured figure with its number of cases and its 95 % interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Figure:
    """`value` of `n` cases, and the 95 % interval round it; all but `n` are NaN where there was no case."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g}, n = {self.n})"


def share(answers: Sequence[bool]) -> Figure:
    """The share of True, with Wilson's interval."""
    if not answers:
        return Figure(np.nan, np.nan, np.nan, 0)
    interval = binomtest(sum(answers), len(answers)).proportion_ci(method="wilson")
    return Figure(sum(answers) / len(answers), float(interval.low), float(interval.high), len(answers))


def average(values: Sequence[float], of: Callable[..., NDArray[np.floating] | np.floating] = np.mean) -> Figure:
    """The mean, or another figure that takes `axis`, with the percentile bootstrap's interval (a fixed seed)."""
    if not values:
        return Figure(np.nan, np.nan, np.nan, 0)
    drawn = np.random.default_rng(0).choice(np.asarray(values, float), (RESAMPLES, len(values)))
    low, high = np.percentile(of(drawn, axis=1), [2.5, 97.5])
    return Figure(float(of(np.asarray(values, float), axis=0)), float(low), float(high), len(values))
