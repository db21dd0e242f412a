"""A reference product set on a stage's region: what the painter of an insertion starts from."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.images import Rgb
from pipelines.pixels.layouts.laying import lay, product_box, trimmed, warped
from pipelines.pixels.layouts.layout import Layout
from pipelines.pixels.masks import bounding_box

BOX_GROWTH: Final = 1.1


def inserted(reference: Cutout, source: Rgb, region: NDArray[np.bool_], *, ground: Rgb | None = None) -> Layout:
    """Lay a reference product over a region of a picture: the collage that an insertion denoises.

    The product keeps its aspect, fits into the region's box times 1.1, so that the region is covered, and lies in its
    middle; what would show outside the region is cut off.

    Args:
        reference: the product.
        source: (H, W, 3).
        region: (H, W), where the product goes; an empty one lets nothing change.
        ground: (H, W, 3), what shows in the region round the product, such as the source with the old product filled
            in; None leaves the source there.

    Returns:
        The layout; `allow` and `inpaint_mask` are the region.

    Raises:
        ValueError: the reference is transparent everywhere, or sizes differ.

    Source: AnyDoor (Chen et al. 2023, arXiv:2307.09481) grows the target's box by 1.1 to 1.2; the collage as a hint is
    Diffuse to Choose's (Seyfioglu et al. 2024, arXiv:2401.13795).
    """
    if region.shape != source.shape[:2] or (ground is not None and ground.shape != source.shape):
        raise ValueError(
            f"a source of shape {source.shape}, a region of {region.shape} and a ground of "
            f"{None if ground is None else ground.shape}; expected one size"
        )
    if not region.any():
        return Layout(source, source, allow=region, inpaint_mask=region)
    left, top, right, bottom = product_box(reference)
    box = bounding_box(region)
    scale = BOX_GROWTH * min((box[2] - box[0]) / (right - left), (box[3] - box[1]) / (bottom - top))
    piece = warped(trimmed(reference), scale)
    left, top, right, bottom = product_box(piece)
    canvas = (source if ground is None else ground).copy()
    lay(canvas, piece, round((box[0] + box[2] - left - right) / 2), round((box[1] + box[3] - top - bottom) / 2))
    np.copyto(canvas, source, where=~region[..., None])
    return Layout(source, canvas, allow=region, inpaint_mask=region)
