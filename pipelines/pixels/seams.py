"""Measures of two ways in which an edit shows: a visible seam, and a product that grew into its new background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask, grow, padded_window, shrink

CALM: Final = 0.5  # levels a pixel, which no eye sees


@dataclass(frozen=True)
class SeamGradient:
    """Mean gradient in the ring round an outline, levels a pixel, 0..255: in the finished picture and in the source.

    `ratio` is the first over the second: about 1 where the edit joins as calmly as the source did, above where there
    is a seam, below where the ring was smoothed. Gradients below 0.5, which no eye sees, count as 0.5, so that a pure
    white background does not turn one level of difference into a large ratio.
    """

    picture: float
    source: float

    @property
    def ratio(self) -> float:
        """About 1 where the edit joins as calmly as the source did."""
        return max(self.picture, CALM) / max(self.source, CALM)


def seam_gradient(picture: Rgb, source: Rgb, outline: Mask, ring_px: int = 16) -> SeamGradient | None:
    """How much more changes from pixel to pixel along a mask's outline than did in the source.

    The gradient of a pixel is by central differences, the root of the mean square over the three channels, so that a
    seam between two colours of one brightness counts too. The ring is `ring_px` wide, half of it on either side.

    Args:
        picture: (H, W, 3), as finished.
        source: (H, W, 3), as it was; for a grown canvas the source set into it.
        outline: (H, W), the mask whose outline may show, as a rule the allow mask. The picture's border is no outline.
        ring_px: the ring's whole width, even.

    Returns:
        None where there is no outline: the mask is empty, or all of the picture.

    Raises:
        ValueError: shapes differ, or the width is not an even number of at least 2.

    Source: a band of 16 px is InvokeAI's default coherence edge.
    """
    if ring_px < 2 or ring_px % 2:
        raise ValueError(f"a ring of {ring_px!r} pixels; expected an even number of at least 2")
    for rgb in (picture, source):
        if rgb.shape != (*outline.shape, 3):
            raise ValueError(
                f"a picture of shape {rgb.shape} has a mask of shape {outline.shape}; expected (H, W, 3) and (H, W)"
            )
    if not outline.any() or outline.all():
        return None
    window = padded_window(outline, ring_px // 2 + 1)
    inside = outline[window]
    ring = grow(inside, ring_px // 2) & ~shrink(inside, ring_px // 2)
    return SeamGradient(_mean_gradient(picture[window], ring), _mean_gradient(source[window], ring))


def expansion(before: Mask, after: Mask) -> float:
    """How much of its own area a product grew by: (area(before | after) - area(before)) / area(before); 0 is none.

    Args:
        before: (H, W), the product as it was cut from the source.
        after: (H, W), the product as it is found in the finished picture; an empty one has not grown.

    Raises:
        ValueError: shapes differ, or `before` is empty.

    Source: E of Eshratifar et al. 2024, arXiv:2404.10157, who count pixels; as a share of the product it compares
    over sizes. Nobody has published a limit for it; `judge.max_expansion` starts at 5 %.
    """
    if before.shape != after.shape:
        raise ValueError(f"masks of shapes {before.shape} and {after.shape}; expected the same picture's")
    area = int(np.count_nonzero(before))
    if not area:
        raise ValueError("the mask before is empty, so nothing can have grown; expected at least one True pixel")
    return int(np.count_nonzero(after & ~before)) / area


def _mean_gradient(rgb: Rgb, ring: Mask) -> float:
    rows, columns = np.nonzero(ring)
    down, across = _slopes(rgb, rows, columns), _slopes(rgb.swapaxes(0, 1), columns, rows)
    return float(np.sqrt((down**2 + across**2).mean(axis=1)).mean())


def _slopes(rgb: Rgb, along: NDArray[np.intp], at: NDArray[np.intp]) -> NDArray[np.float32]:
    """Central differences (N, 3) along the first axis at the ring's pixels; one-sided where the picture ends."""
    before, after = np.maximum(along - 1, 0), np.minimum(along + 1, len(rgb) - 1)
    steps = np.maximum(after - before, 1)[:, None]
    return np.asarray((rgb[after, at].astype(np.float32) - rgb[before, at]) / steps, np.float32)
