"""From many masks that nobody asked for to the few that are meant; pure functions, no network.

Masks are COCO run lengths (`masks.to_rle`) of one picture, all of one size: the picture's, or a smaller copy's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from pipelines.pixels.crops import neutral_crop
from pipelines.pixels.masks import Mask, Window, padded_window, rle_area

Rle = Mapping[str, Any]


def within_shares(masks_rle: Sequence[Rle], min_share: float, max_share: float) -> NDArray[np.int64]:
    """The indices of the masks that cover from `min_share` to `max_share` of their picture, in order."""
    shares = np.array([rle_area(rle) / (rle["size"][0] * rle["size"][1]) for rle in masks_rle], np.float64)
    return np.flatnonzero((shares >= min_share) & (shares <= max_share))


def without_doubles(masks_rle: Sequence[Rle], scores: NDArray[np.float32], iou: float) -> NDArray[np.int64]:
    """Non-maximum suppression by mask: of two that overlap by more than `iou`, the one with the better score stays.

    Masks, not boxes: a strap and the dress below it may have one box.

    Args:
        masks_rle: N masks; N may be 0.
        scores: (N,); between equal scores the earlier mask is the better.
        iou: 0..1.

    Returns:
        Indices of the masks that stay, best first; int64.

    Raises:
        ValueError: there are not as many scores as masks.
    """
    if len(scores) != len(masks_rle):
        raise ValueError(f"{len(masks_rle)} masks have {len(scores)} scores; expected one each")
    kept: list[int] = []
    if masks_rle:
        overlap = coco.iou(list(masks_rle), list(masks_rle), [0] * len(masks_rle))
        for index in np.argsort(-np.asarray(scores), kind="stable"):
            if (overlap[index, kept] <= iou).all():
                kept.append(int(index))
    return np.array(kept, np.int64)


def united(masks_rle: Sequence[Rle]) -> dict[str, Any]:
    """One mask that is True wherever one of these is.

    Raises:
        ValueError: there is none, so the picture's size is not known.
    """
    if not masks_rle:
        raise ValueError("no masks to unite; expected at least one")
    merged = coco.merge(list(masks_rle), intersect=False)
    height, width = merged["size"]
    return {"size": [int(height), int(width)], "counts": merged["counts"].decode("ascii")}


def enlarged(mask: Mask, size_hw: tuple[int, int]) -> Mask:
    """A mask of a smaller copy, at the picture's own size; the outline is interpolated, so it has no steps.

    Args:
        mask: (h, w); an empty one stays empty, and any other keeps at least one True pixel.
        size_hw: height and width of the picture, pixels.
    """
    if mask.shape == size_hw:
        return mask
    full = np.zeros(size_hw, np.bool_)
    if mask.any():
        window = _window(mask, size_hw)
        full[window] = _part(mask, window, size_hw)
    return full


def product_crop(rgb: NDArray[np.uint8], mask: Mask, side_px: int) -> NDArray[np.uint8]:
    """`crops.neutral_crop` of a picture (H, W, 3) whose mask (h, w) may be of a smaller copy: (side_px, side_px, 3).

    Only the mask's window is enlarged, so that many masks of a large picture take little memory.

    Raises:
        ValueError: no pixel of the mask is True.
    """
    size_hw = rgb.shape[0], rgb.shape[1]
    window = _window(mask, size_hw)
    return neutral_crop(rgb[window], _part(mask, window, size_hw), side_px)


def _window(mask: Mask, size_hw: tuple[int, int]) -> Window:
    """Rows and columns of the picture that the mask, and a pixel of its copy round it, cover."""
    rows, columns = (
        slice(some.start * full // small, -(-some.stop * full // small))
        for some, full, small in zip(padded_window(mask, 1), size_hw, mask.shape, strict=True)
    )
    return rows, columns


def _part(mask: Mask, window: Window, size_hw: tuple[int, int]) -> Mask:
    """A window of the picture's own pixels out of a mask of its smaller copy."""
    rows, columns = window
    if mask.shape == size_hw:
        return mask[window]
    down, across = mask.shape[0] / size_hw[0], mask.shape[1] / size_hw[1]
    white = Image.fromarray(mask.astype(np.uint8) * 255).resize(
        (columns.stop - columns.start, rows.stop - rows.start),
        Image.Resampling.BILINEAR,
        box=(columns.start * across, rows.start * down, columns.stop * across, rows.stop * down),
    )
    coverage = np.asarray(white, np.uint16)
    return np.asarray(2 * coverage >= max(1, coverage.max()), np.bool_)  # a hair's width never reaches half of 255
