"""Masks: bool (H, W) in pixels of the upright source; what True means stands in the name of the variable."""

from __future__ import annotations

from collections.abc import Mapping
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco
from scipy import ndimage

from pipelines.pixels.images import Picture

Mask = NDArray[np.bool_]
Window = tuple[slice, slice]
GREY_IS_WHITE = 128
EIGHT_NEIGHBOURS = np.ones((3, 3), np.bool_)


def to_rle(mask: Mask) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed run lengths: `size` is [H, W], `counts` text; the form of `rows.RLE`.

    Raises:
        ValueError: the mask is not two-dimensional.

    Source: pycocotools.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask has shape {mask.shape}; expected (H, W)")
    encoded = coco.encode(np.asfortranarray(mask, np.uint8))
    height, width = mask.shape
    return {"size": [int(height), int(width)], "counts": encoded["counts"].decode("ascii")}


def from_rle(rle: Mapping[str, Any]) -> Mask:
    """The mask (H, W) that `to_rle` wrote."""
    return np.ascontiguousarray(coco.decode(_for_coco(rle)), np.bool_)


def rle_area(rle: Mapping[str, Any]) -> int:
    """How many pixels are True, without decoding."""
    return int(coco.area(_for_coco(rle)))


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """The box round all True pixels: left, top, right, bottom, right and bottom exclusive.

    Raises:
        ValueError: no pixel is True.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise ValueError("the mask is empty, so it has no bounding box; expected at least one True pixel")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def diagonal_px(mask: Mask) -> float:
    """The diagonal of the bounding box, pixels: the measure that growth is a share of; 0 for an empty mask."""
    if not mask.any():
        return 0.0
    left, top, right, bottom = bounding_box(mask)
    return hypot(right - left, bottom - top)


def padded_window(mask: Mask, padding_px: int) -> tuple[slice, slice]:
    """Rows and columns of the bounding box, padded within the picture: where all that matters to a mask happens.

    Raises:
        ValueError: no pixel is True.
    """
    left, top, right, bottom = bounding_box(mask)
    return (
        slice(max(0, top - padding_px), min(mask.shape[0], bottom + padding_px)),
        slice(max(0, left - padding_px), min(mask.shape[1], right + padding_px)),
    )


def fill_holes(mask: Mask, max_hole_fraction: float) -> Mask:
    """Fill the small holes of a mask; a larger one, such as a bag's handle, stays open.

    A hole is background that True pixels enclose (4-connected); what touches the picture's border is none.

    Args:
        mask: (H, W); an empty one stays empty.
        max_hole_fraction: holes of at most this share of the mask's own area are filled, 0..1.
    """
    if not mask.any():
        return mask.copy()
    window = padded_window(mask, 0)
    # One False pixel on each side joins all that is open to the outside into one part.
    parts, count = ndimage.label(np.pad(~mask[window], 1, constant_values=True))
    small = np.bincount(parts.ravel(), minlength=count + 1) <= max_hole_fraction * np.count_nonzero(mask)
    small[[0, parts[0, 0]]] = False
    filled = mask.copy()
    filled[window] |= small[parts[1:-1, 1:-1]]
    return filled


def drop_specks(mask: Mask, min_fraction: float) -> Mask:
    """Take away loose parts (8-connected) that are smaller than a share of the largest part; the largest always stays.

    Args:
        mask: (H, W); an empty one stays empty.
        min_fraction: 0..1; 0 keeps every part, 1 only the largest and its equals.
    """
    parts, count = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    areas[0] = 0
    kept = areas >= min_fraction * areas.max(initial=0)
    kept[0] = False
    return np.asarray(kept[parts], np.bool_)


def grow(mask: Mask, radius_px: int) -> Mask:
    """Widen a mask by a disc: all pixels whose centre is at most `radius_px` from a True pixel's.

    Args:
        mask: (H, W); an empty one stays empty.
        radius_px: 0 changes nothing.

    Raises:
        ValueError: the radius is negative.
    """
    if radius_px < 0:
        raise ValueError(f"a mask cannot grow by {radius_px!r} pixels; expected 0 or more")
    grown = mask.copy()
    if radius_px == 0 or not mask.any():
        return grown
    window = padded_window(mask, radius_px)
    grown[window] = ndimage.distance_transform_edt(~mask[window]) <= radius_px
    return grown


def shrink(mask: Mask, radius_px: int) -> Mask:
    """Narrow a mask by a disc: all pixels whose centre is more than `radius_px` from every False pixel's.

    What lies beyond the picture counts as inside, so a mask does not draw back from the picture's border.

    Args:
        mask: (H, W); an empty one stays empty, one of everything stays everything.
        radius_px: 0 changes nothing.

    Raises:
        ValueError: the radius is negative.
    """
    if radius_px < 0:
        raise ValueError(f"a mask cannot shrink by {radius_px!r} pixels; expected 0 or more")
    shrunk = mask.copy()
    if radius_px == 0 or not mask.any():
        return shrunk
    window = padded_window(mask, 1)
    if not mask[window].all():  # without a False pixel there is no distance to one
        shrunk[window] = ndimage.distance_transform_edt(mask[window]) > radius_px
    return shrunk


def depth(mask: Mask, band_px: int) -> NDArray[np.float32]:
    """How deep each pixel lies in the mask, as a share of a band along its edge.

    Args:
        mask: (H, W) bool; the border of the picture is no edge.
        band_px: the band's width, above 0.

    Returns:
        (H, W): 0 outside, rising evenly through the band, 1 from its inner side on; 1 everywhere in a full mask.
    """
    if mask.all():  # without a False pixel there is no distance to one
        return np.ones(mask.shape, np.float32)
    return np.asarray(np.minimum(ndimage.distance_transform_edt(mask) / band_px, 1.0), np.float32)


def closed(mask: Mask, radius_px: int) -> Mask:
    """Close gaps and cracks up to twice `radius_px` wide, and nothing else: growth, then as much shrinkage.

    What lies beyond the picture counts as inside, as in Crop&Stitch: a gap of at most `radius_px` between a mask and
    the picture's border closes too.

    Args:
        mask: (H, W); an empty one stays empty.
        radius_px: 0 changes nothing.

    Raises:
        ValueError: the radius is negative.
    """
    return shrink(grow(mask, radius_px), radius_px)


def largest_parts(mask: Mask, count: int) -> Mask:
    """Keep the `count` largest connected parts (8-connected) of a mask; of equals, the first from the top left.

    Args:
        mask: (H, W); an empty one stays empty.
        count: a mask of fewer parts stays as it is.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"the {count!r} largest parts of a mask; expected 1 or more")
    parts, found = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
    areas = np.bincount(parts.ravel(), minlength=found + 1)[1:]
    kept = np.zeros(found + 1, np.bool_)
    kept[1 + np.argsort(-areas, kind="stable")[:count]] = True
    return np.asarray(kept[parts], np.bool_)


def with_shadow_margin(mask: Mask, margin_share: float) -> Mask:
    """A product's mask and the area of the shadow that it casts, which lies below and beside its foot.

    The lower half of the product (of its bounding box) is grown by a disc; beside and above the upper half nothing is
    added. Several products need a call each, since each has a foot of its own.

    Args:
        mask: (H, W), one product; an empty one stays empty.
        margin_share: the disc's radius as a share of the mask's diagonal; 0 adds nothing.

    Raises:
        ValueError: the share is negative.
    """
    if margin_share < 0:
        raise ValueError(f"a shadow margin of {margin_share!r} of the diagonal; expected 0 or more")
    if not mask.any():
        return mask.copy()
    _, top, _, bottom = bounding_box(mask)
    foot = mask.copy()
    foot[: (top + bottom) // 2] = False
    return mask | grow(foot, round(margin_share * diagonal_px(mask)))


def mask_from_picture(picture: Picture) -> Mask:
    """What a given mask file asks to be repainted: True is repainted.

    With an alpha channel, transparent pixels (alpha below 128) are repainted, as in OpenAI's API; without one, white
    pixels (luminance of at least 128, Rec. 601) are. An alpha channel that is opaque everywhere on a grey picture says
    nothing: many programs add it when they save black and white, so there too white is repainted.
    """
    red, green, blue = (picture.rgb[..., channel].astype(np.int32) for channel in range(3))
    if picture.alpha is not None and not (_opaque(picture.alpha) and _grey(picture.rgb)):
        return np.asarray(picture.alpha < GREY_IS_WHITE, np.bool_)
    return np.asarray(299 * red + 587 * green + 114 * blue >= 1000 * GREY_IS_WHITE, np.bool_)


def _opaque(alpha: NDArray[np.uint8]) -> bool:
    return bool((alpha == 255).all())


def _grey(rgb: NDArray[np.uint8]) -> bool:
    return bool((rgb == rgb[..., :1]).all())


def _for_coco(rle: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].encode("ascii")}
