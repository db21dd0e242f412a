"""Cut out what a model looks at: one definition for training, batch and serving, so that all see the same pixels.

Regions are (left, top, right, bottom) in pixels of the upright source, right and bottom exclusive; they are square and
may reach beyond the picture, where pixels repeat the edge and masks are False.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.pixels.masks import bounding_box

Region = tuple[int, int, int, int]
GREY: Final = 128
REGION_MULTIPLE_PX: Final = 8
NEUTRAL_MARGIN: Final = 0.08


def letterbox(rgb: NDArray[np.uint8], side_px: int) -> tuple[NDArray[np.uint8], float]:
    """Fit a picture into the top left of a grey square.

    Args:
        rgb: (H, W, 3).
        side_px: side of the square; the picture's longest side becomes this long, up or down.

    Returns:
        The square (side_px, side_px, 3), mid-grey right of and below the picture, and the scale: a source coordinate
        times the scale is a coordinate in the square.

    Raises:
        ValueError: the picture has no pixels.
    """
    height, width = rgb.shape[:2]
    if not height or not width:
        raise ValueError(
            f"a picture of {width} x {height} pixels cannot be fitted into a square; expected at least 1 x 1"
        )
    scale = side_px / max(height, width)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    square = np.full((side_px, side_px, 3), GREY, np.uint8)
    square[: size_wh[1], : size_wh[0]] = np.asarray(Image.fromarray(rgb).resize(size_wh, Image.Resampling.BILINEAR))
    return square, scale


def context_region(mask: NDArray[np.bool_], min_side_px: int) -> Region:
    """The square round a mask that a painter sees: the mask, and enough round it to fit in.

    Each side of the mask's box is padded by the larger of 1/16 of the picture's longest side and half the mask's mean
    side. The square is at least `min_side_px`, a multiple of 8, no larger than the picture needs, and shifted inside
    the picture; only where the picture is narrower than the square does it reach beyond, equally on both sides.

    Args:
        mask: (H, W), True where pixels are to change.
        min_side_px: the painter's own size, so that small things are not enlarged further than needed.

    Raises:
        ValueError: no pixel of the mask is True.

    Source: the numbers of Krita AI Diffusion, which also shifts before it pads.
    """
    height, width = mask.shape
    left, top, right, bottom = bounding_box(mask)
    padding_px = max(max(height, width) / 16, (right - left + bottom - top) / 4)
    wanted_px = max(right - left, bottom - top) + 2 * padding_px
    side = _round_up(max(min_side_px, min(wanted_px, max(height, width))))
    x = _start((left + right) / 2, side, width)
    y = _start((top + bottom) / 2, side, height)
    return x, y, x + side, y + side


def cut(rgb: NDArray[np.uint8], region_xyxy: Region, side_px: int) -> NDArray[np.uint8]:
    """Cut a region of a picture (H, W, 3) as (side_px, side_px, 3), resized once.

    Pixels beyond the picture repeat its edge. Lanczos down, bicubic up.
    """
    left, top, right, bottom = region_xyxy
    rows = np.clip(np.arange(top, bottom), 0, rgb.shape[0] - 1)
    columns = np.clip(np.arange(left, right), 0, rgb.shape[1] - 1)
    region = rgb[rows][:, columns]
    if region.shape[:2] == (side_px, side_px):
        return region
    down = right - left > side_px
    resampling = Image.Resampling.LANCZOS if down else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(region).resize((side_px, side_px), resampling))


def cut_mask(mask: NDArray[np.bool_], region_xyxy: Region, side_px: int) -> NDArray[np.bool_]:
    """Cut a region of a mask (H, W) as (side_px, side_px); beyond the picture it is False.

    A pixel of the result is True when any source pixel that it touches is True: a thin part, such as a strap, never
    falls between the samples, so the model repaints at least all that was asked for. The paste back is exact by the
    full-size mask, not by this one.
    """
    left, top, right, bottom = region_xyxy
    rows, columns = np.arange(top, bottom), np.arange(left, right)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
    region = mask[np.clip(rows, 0, mask.shape[0] - 1)][:, np.clip(columns, 0, mask.shape[1] - 1)] & inside
    return _any_touched(_any_touched(region, side_px).T, side_px).T


def neutral_crop(rgb: NDArray[np.uint8], mask: NDArray[np.bool_], side_px: int) -> NDArray[np.uint8]:
    """The product alone on mid-grey, in a square with some 8 % margin: what CLIP is trained on and scores.

    Args:
        rgb: (H, W, 3).
        mask: (H, W), True on the product.
        side_px: side of the square that is returned.

    Returns:
        (side_px, side_px, 3).

    Raises:
        ValueError: no pixel of the mask is True.
    """
    left, top, right, bottom = bounding_box(mask)
    alone = np.where(mask[top:bottom, left:right, None], rgb[top:bottom, left:right], np.uint8(GREY))
    longest = max(right - left, bottom - top)
    side = longest + 2 * max(1, round(longest * NEUTRAL_MARGIN))
    square = np.full((side, side, 3), GREY, np.uint8)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    square[y : y + bottom - top, x : x + right - left] = alone
    return cut(square, (0, 0, side, side), side_px)


def from_raw(raw: bytes) -> NDArray[np.uint8]:
    """A square crop that travelled as raw bytes, as (side, side, 3), read-only."""
    side = round((len(raw) / 3) ** 0.5)
    return np.frombuffer(raw, np.uint8).reshape(side, side, 3)


def _round_up(length_px: float) -> int:
    return int(-(-length_px // REGION_MULTIPLE_PX)) * REGION_MULTIPLE_PX


def _start(centre: float, side: int, available: int) -> int:
    if side >= available:
        return (available - side) // 2
    return int(min(max(0, round(centre - side / 2)), available - side))


def _any_touched(mask: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Resize the first axis: a cell is True when any source row that it overlaps is."""
    length = mask.shape[0]
    if length == count:
        return mask
    sums = np.concatenate([np.zeros((1, mask.shape[1]), np.int32), np.cumsum(mask, 0, dtype=np.int32)])
    cells = np.arange(count)
    first, last = cells * length // count, -(-(cells + 1) * length // count)
    return np.asarray(sums[last] > sums[first])
