"""A reference product set on a stage's region: what the painter of an insertion starts from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.layouts.laying import lay, product_box, trimmed, warped
from pipelines.pixels.layouts.layout import Layout, nowhere
from pipelines.pixels.masks import bounding_box

Rgb = NDArray[np.uint8]


def inserted(
    reference: Cutout, source: Rgb, region: NDArray[np.bool_], *, ground: Rgb | None = None, box_growth: float = 1.1
) -> Layout:
    """Lay a reference product over a region of a picture: the collage that an insertion denoises.

    The product keeps its aspect, fits into the region's box times `box_growth`, and lies in its middle; what would
    show outside the region is cut off.

    Args:
        reference: the product.
        source: (H, W, 3).
        region: (H, W), where the product goes; an empty one lets nothing change.
        ground: (H, W, 3), what shows in the region round the product, such as the source with the old product filled
            in; None leaves the source there.
        box_growth: 1 fits the product into the region's box exactly; more makes sure that the region is covered.

    Returns:
        The layout; `allow` and `repaint` are the region.

    Raises:
        ValueError: the reference is transparent everywhere, sizes differ, or the growth is not above 0.

    Source: AnyDoor grows the target's box by 1.1 to 1.2; the collage as a hint is Diffuse-to-Choose's
    (research/mission.md, sections 3 and 6.9).
    """
    if region.shape != source.shape[:2] or (ground is not None and ground.shape != source.shape):
        raise ValueError(
            f"a source of shape {source.shape}, a region of {region.shape} and a ground of "
            f"{None if ground is None else ground.shape}; expected one size"
        )
    if not region.any():
        return Layout(source, source, allow=region, repaint=region, kept=nowhere(source))
    left, top, right, bottom = product_box(reference)
    box = bounding_box(region)
    scale = box_growth * min((box[2] - box[0]) / (right - left), (box[3] - box[1]) / (bottom - top))
    piece = warped(trimmed(reference), scale)
    left, top, right, bottom = product_box(piece)
    canvas = (source if ground is None else ground).copy()
    lay(canvas, piece, round((box[0] + box[2] - left - right) / 2), round((box[1] + box[3] - top - bottom) / 2))
    np.copyto(canvas, source, where=~region[..., None])
    return Layout(source, canvas, allow=region, repaint=region, kept=nowhere(source))
