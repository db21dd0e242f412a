"""From painted crops to a finished picture: what `deliver` sends out, and what a step hands on to the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.composite import paste_region
from pipelines.pixels.cutouts import from_png
from pipelines.pixels.images import Picture, Rgb, decode
from pipelines.pixels.layouts.laying import lay
from pipelines.pixels.masks import from_rle
from pipelines.rows import Row, pictures


def base_of(row: Row) -> Picture:
    """What the finished picture is, bit for bit, outside what may change: `rows.Pictures.base`, decoded."""
    return decode(pictures(row).base)


def changeable(row: Row) -> NDArray[np.bool_]:
    """Where the finished picture (H, W) may differ from its base: what this step may change, and those before it."""
    return from_rle(row.get("changed_mask_rle") or row["allow_mask_rle"])


def finished_picture(row: Row, crops: Sequence[Rgb], feather_px: float) -> Rgb:
    """A variant's finished crops (R of them), pasted into the canvas at its own size (H, W, 3).

    Each is resized back once and shows only where it was denoised and may change; the product of a new background is
    laid over it. Everything else is the canvas's.

    Args:
        row: with the columns of `mask`.
        crops: (S, S, 3) each, in the order of the regions.
        feather_px: inward feather of the paste, pixels of the picture.
    """
    encoded = pictures(row)
    picture = decode(encoded.canvas).rgb
    overlay = None if encoded.overlay is None else from_png(encoded.overlay)
    shown = from_rle(row["allow_mask_rle"]) & from_rle(row["repaint_mask_rle"])
    for crop, region in zip(crops, row["regions_xyxy"], strict=True):
        # Under a cut-out nothing of the old picture may shine through: the soft edge is the cut-out's own.
        picture = paste_region(picture, crop, tuple(region), shown, feather_px if overlay is None else 0)
    if overlay is None:
        return picture
    picture = picture.copy()
    lay(picture, overlay, 0, 0)
    return picture
