"""A product picture's plain ground: what stands on it is the product."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.measure import label

from pipelines.pixels.cutouts import Cutout, hard_cutout
from pipelines.pixels.masks import drop_specks, fill_holes

MAX_DELTA_E: Final = 8.0
MIN_PRODUCT_SHARE: Final = 0.01


def off_plain_ground(rgb: NDArray[np.uint8]) -> Cutout:
    """What stands on a picture's plain ground, cut out hard; the whole picture where there is no such ground.

    The ground is all that is joined to the border and has nearly its colour: CIEDE2000 of at most 8 to the border's
    median, which takes in soft shadows of a studio and no product of another colour.

    Args:
        rgb: (H, W, 3).
    """
    lab = rgb2lab(rgb)
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    difference: Any = deltaE_ciede2000  # not annotated, as `label`
    joined: Any = label
    near = difference(lab, np.median(border, axis=0)[None, None]) <= MAX_DELTA_E
    parts = joined(near, connectivity=1)
    at_border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    product = ~np.isin(parts, at_border[at_border > 0])
    product = drop_specks(fill_holes(product, MIN_PRODUCT_SHARE), MIN_PRODUCT_SHARE)
    if not MIN_PRODUCT_SHARE <= product.mean() < 1:
        product = np.ones_like(product)
    return hard_cutout(rgb, product)
