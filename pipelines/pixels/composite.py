"""Paste what was painted so that the rest stays the source, bit for bit (docs/design.md, Exactness).

Three rules make it exact: the feather lies inside the mask only, the blend rounds (a cut would shift pixels by one
level even where both pictures agree), and the last step copies integers of the source over everything outside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.pixels.crops import Region
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask, padded_window


def inward_alpha(allow: Mask, feather_px: float) -> NDArray[np.float32]:
    """How much of the painted picture shows: clip(distance to the nearest pixel outside / feather, 0, 1).

    The picture's border is no edge: a mask that touches it is opaque there.

    Args:
        allow: (H, W), True where pixels may change; it may be empty.
        feather_px: width of the fade, pixels; up to 1 is a hard edge.

    Returns:
        (H, W) in 0..1, exactly 0 outside and above 0 inside.

    Raises:
        ValueError: the feather is negative.
    """
    if feather_px < 0:
        raise ValueError(f"a feather of {feather_px!r} pixels; expected 0 or more")
    alpha = allow.astype(np.float32)
    if feather_px <= 1 or not allow.any():
        return alpha
    window = padded_window(allow, 1)
    if not allow[window].all():  # without an outside there is no distance to it
        alpha[window] = np.clip(ndimage.distance_transform_edt(allow[window]) / feather_px, 0, 1)
    return alpha


def paste(source: Rgb, painted: Rgb, allow: Mask, feather_px: float) -> Rgb:
    """The painted picture inside the allow mask, faded in from its edge; the source outside, bit for bit.

    Args:
        source: (H, W, 3).
        painted: (H, W, 3).
        allow: (H, W), True where pixels may change; an empty one gives a copy of the source.
        feather_px: width of the fade inward, pixels.

    Raises:
        ValueError: shapes differ, or the feather is negative.
    """
    _check_same_size(source, allow)
    _check_same_size(painted, allow)
    alpha = inward_alpha(allow, feather_px)
    pasted = source.copy()
    if not allow.any():
        return pasted
    window = padded_window(allow, 0)
    old = source[window].astype(np.float32)
    blended = np.rint(old + alpha[window][..., None] * (painted[window] - old)).astype(np.uint8)
    np.copyto(blended, source[window], where=~allow[window][..., None])
    pasted[window] = blended
    return pasted


def paste_region(source: Rgb, painted_crop: Rgb, region_xyxy: Region, allow: Mask, feather_px: float) -> Rgb:
    """Paste a painted crop back to where it was cut: inside both the region and the allow mask, nowhere else.

    The crop is resized to the region once (bicubic up, Lanczos down), and what lies beyond the picture is dropped. A
    side of the region that cuts through the mask is an edge of the paste and fades; the picture's border is not.

    Args:
        source: (H, W, 3).
        painted_crop: (S, S, 3), the painter's picture of the region.
        region_xyxy: left, top, right, bottom, pixels of the source; it may reach beyond the picture.
        allow: (H, W), True where pixels may change.
        feather_px: width of the fade inward, pixels of the source.

    Returns:
        (H, W, 3), a new array.

    Raises:
        ValueError: shapes differ, the region is empty, or the feather is negative.
    """
    _check_same_size(source, allow)
    left, top, right, bottom = region_xyxy
    height, width = allow.shape
    first_x, first_y, last_x, last_y = max(0, left), max(0, top), min(width, right), min(height, bottom)
    fitted = _fitted(painted_crop, (right - left, bottom - top))
    pasted = source.copy()
    if first_x >= last_x or first_y >= last_y:
        return pasted
    # A False pixel where the picture goes on beyond the region makes that side an edge.
    seen = np.s_[max(0, first_y - 1) : last_y + 1, max(0, first_x - 1) : last_x + 1]
    inside = np.s_[first_y:last_y, first_x:last_x]
    allowed = np.zeros_like(allow[seen])
    painted = source[seen].copy()
    within = np.s_[first_y - seen[0].start : last_y - seen[0].start, first_x - seen[1].start : last_x - seen[1].start]
    allowed[within] = allow[inside]
    painted[within] = fitted[first_y - top : last_y - top, first_x - left : last_x - left]
    pasted[seen] = paste(source[seen], painted, allowed, feather_px)
    return pasted


def _fitted(painted_crop: Rgb, size_wh: tuple[int, int]) -> Rgb:
    if min(size_wh) < 1:
        raise ValueError(f"a region of {size_wh[0]} x {size_wh[1]} pixels is empty; expected at least 1 x 1")
    if painted_crop.shape == (size_wh[1], size_wh[0], 3):
        return painted_crop
    up = size_wh[0] > painted_crop.shape[1]
    resampling = Image.Resampling.BICUBIC if up else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(painted_crop).resize(size_wh, resampling))


def _check_same_size(rgb: Rgb, allow: Mask) -> None:
    if rgb.shape != (*allow.shape, 3):
        raise ValueError(
            f"a picture of shape {rgb.shape} has an allow mask of shape {allow.shape}; expected (H, W, 3) and (H, W)"
        )
