"""Boxes: left, top, right, bottom in pixels of the upright source, right and bottom exclusive, float32 (N, 4)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def clip(boxes_xyxy: Boxes, size_wh: tuple[int, int]) -> Boxes:
    """Cut boxes (N, 4) off at the picture's borders; one that lies outside becomes an empty box on the border.

    Raises:
        ValueError: the array is not (N, 4).
    """
    limits = np.asarray([*size_wh, *size_wh], np.float32)
    return np.clip(_checked(boxes_xyxy), np.float32(0), limits)


def area_fraction(boxes_xyxy: Boxes, size_wh: tuple[int, int]) -> NDArray[np.float32]:
    """The share of the picture that each box covers, (N,) in 0..1; what reaches beyond the picture does not count.

    Raises:
        ValueError: the array is not (N, 4), or the picture has no pixels.
    """
    width, height = size_wh
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width} x {height} pixels has no area; expected at least 1 x 1")
    return np.asarray(_areas(clip(boxes_xyxy, size_wh)) / np.float32(width * height), np.float32)


def square_with_margin(box_xyxy: Boxes, margin: float, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """The square round a box (4,) with a margin on each side, shifted inside the picture and cut off at its borders.

    Args:
        box_xyxy: within the picture; it may lie on the border, and may be empty.
        margin: a share of the box's longer side, 0 or more.
        size_wh: of the picture, pixels.

    Returns:
        Left, top, right, bottom, pixels, whole ones; at least 1 x 1.
    """
    side = max(1, math.ceil(float(max(box_xyxy[2:] - box_xyxy[:2])) * (1 + 2 * margin)))
    starts = [
        max(0, min(round(float(low + high) / 2 - side / 2), length - side))
        for low, high, length in zip(box_xyxy[:2], box_xyxy[2:], size_wh, strict=True)
    ]
    left, top = (min(start, length - 1) for start, length in zip(starts, size_wh, strict=True))
    return left, top, min(left + side, size_wh[0]), min(top + side, size_wh[1])


def nms(boxes_xyxy: Boxes, scores: NDArray[np.float32], iou: float) -> NDArray[np.int64]:
    """Non-maximum suppression: of boxes that overlap by more than `iou`, the one with the best score stays.

    Args:
        boxes_xyxy: (N, 4); N may be 0.
        scores: (N,); between equal scores the earlier box is the better.
        iou: 0..1.

    Returns:
        Indices of the boxes that stay, best first; int64.

    Raises:
        ValueError: the arrays are not (N, 4) and (N,).

    Source: `torchvision.ops.nms`.
    """
    boxes, ranks = _checked(boxes_xyxy), np.asarray(scores, np.float32)
    if ranks.shape != boxes.shape[:1]:
        raise ValueError(f"{len(boxes)} boxes have scores of shape {ranks.shape}; expected ({len(boxes)},)")
    if not len(boxes):
        return np.zeros(0, np.int64)
    import torch  # here, since importing this module must not load it
    from torchvision.ops import nms as torchvision_nms

    kept = torchvision_nms(torch.tensor(boxes), torch.tensor(ranks), iou)
    return np.asarray(kept.numpy(), np.int64)


def _areas(boxes_xyxy: Boxes) -> NDArray[np.float32]:
    return np.asarray(np.prod(np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0), axis=1), np.float32)


def _checked(boxes: Boxes) -> Boxes:
    array = np.asarray(boxes, np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes have shape {array.shape}; expected (N, 4), and (0, 4) where there are none")
    return array
