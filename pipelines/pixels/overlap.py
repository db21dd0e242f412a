"""How well two masks agree."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt

BOUNDARY_SHARE: Final = 0.02


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one shape; 1 where both are empty."""
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else 1.0


def boundary_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks' rims, each 2 % of the picture's diagonal wide; 1 where both are empty.

    Source: Cheng et al. 2021, arXiv:2103.16562: large masks have a high IoU whatever their outline is.
    """
    width_px = max(1, round(BOUNDARY_SHARE * float(np.hypot(*first.shape))))
    return mask_iou(rim(first, width_px), rim(second, width_px))


def rim(mask: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """The pixels of a mask (H, W) within `width_px` of its outside, a diagonal step being one; the border is outside.

    Source: the authors' code, which takes away the mask eroded `width_px` times by 3 x 3 pixels.
    """
    inward = distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    return np.asarray(mask & (inward <= width_px))
