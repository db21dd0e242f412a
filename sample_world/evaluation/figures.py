"""A measured figure with its number of cases and its 95 % interval."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap, rankdata

RESAMPLES: Final = 2000
SEED: Final = 0
INTERVAL: Final = (2.5, 97.5)  # percentiles: 95 % of the resamples lie between them
Numbers = NDArray[np.float64]


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


def average(values: Sequence[float], of: Callable[[Numbers], Any] = np.mean) -> Figure:
    """The mean, or another figure of a list, with the interval of `over_cases`."""
    return over_cases(of, values)


def over_cases(of: Callable[..., Any], *lists: Sequence[float]) -> Figure:
    """A figure of one or more lists with an entry a case each, and its interval by the percentile bootstrap.

    Cases are resampled with a fixed seed, so that all entries of a case stay together. Resamples for which the figure
    is not finite, such as a ratio to 0, are left out of the interval.

    Args:
        of: takes the lists as arrays of floats and gives a number.
        lists: of one length; where it is 0 the figure is NaN, where it is 1 the interval is the value itself.

    Source: `scipy.stats.bootstrap`.
    """
    samples = tuple(np.asarray(one, np.float64) for one in lists)
    count = len(samples[0])
    if not count:
        return Figure(np.nan, np.nan, np.nan, 0)
    value = float(of(*samples))
    drawn = np.array([value]) if count == 1 else _resampled(of, samples)
    finite = drawn[np.isfinite(drawn)]
    low, high = np.percentile(finite, INTERVAL) if finite.size else (np.nan, np.nan)
    return Figure(value, float(low), float(high), count)


def auc(same: Numbers, other: Numbers) -> float:
    """How often a similarity of the same product is above one of another product, over all pairs; ties are half.

    The area under the ROC curve (Mann and Whitney 1947); 0.5 is chance.
    """
    ranks = rankdata(np.concatenate([same, other]))
    return float((ranks[: len(same)].sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(other)))


def ratio(numerators: Numbers, denominators: Numbers) -> float:
    """The first list's mean over the second's; NaN where that is 0."""
    return float(numerators.mean() / denominators.mean()) if denominators.any() else float("nan")


def _resampled(of: Callable[..., Any], samples: tuple[Numbers, ...]) -> Numbers:
    """The figure of each resample (RESAMPLES,)."""
    with warnings.catch_warnings():  # SciPy warns where a figure is not finite; those resamples are left out
        warnings.simplefilter("ignore", DegenerateDataWarning)
        done = bootstrap(
            samples,
            of,
            paired=True,
            vectorized=False,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(SEED),
        )
    return np.asarray(done.bootstrap_distribution)
