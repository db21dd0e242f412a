"""A product set into a scene or on a model's photo: the scene stays, the product's interior is the warped cut-out."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.images import Rgb
from pipelines.pixels.layouts.laying import VISIBLE_ALPHA, lay, product_box, trimmed, warped
from pipelines.pixels.layouts.layout import Layout, nowhere
from pipelines.pixels.masks import Mask, Window
from pipelines.pixels.shadows import contact_shadow


def placed_in_scene(
    cutout: Cutout,
    scene: Rgb,
    *,
    centre_xy: tuple[float, float],
    height: float,
    rotation_deg: float = 0.0,
    in_front: Mask | None = None,
    shadow_opacity: float = 0.5,
    seam_px: int = 4,
) -> Layout:
    """Set a product into a scene, with the shadow where it stands, and mark its seam for harmonising.

    Args:
        cutout: the product.
        scene: (H, W, 3).
        centre_xy: where the middle of the product lies, shares of the scene's width and height; beyond 0..1 part of
            it is cut off by the scene's border.
        height: how tall the product is before it is turned, a share of the scene's height. At the height
            that it has in its own picture, without a rotation, it is copied bit for bit.
        rotation_deg: counter-clockwise, about the product's middle.
        in_front: (H, W), True on what lies before the product, such as an arm: it hides the product and its shadow and
            stays as it is. None hides nothing.
        shadow_opacity: how dark the shadow is at most, 0..1; 0 for none, as for a garment on a person.
        seam_px: how far to both sides of the product's outline is repainted; 0 leaves the collage as it is.

    Returns:
        The layout: `base` is the scene, `canvas` the collage. `allow` is what the product, its shadow and the seam
        touch; it is empty if nothing of the product can be seen, outside the scene or behind what lies in front.
        `inpaint_mask` is the seam alone.

    Raises:
        ValueError: the cut-out is transparent everywhere, a size differs, or a number is outside its range.
    """
    _check(scene, height, in_front, seam_px)
    _, top, _, bottom = product_box(cutout)
    piece = warped(trimmed(cutout), height * scene.shape[0] / (bottom - top), rotation_deg)
    box = product_box(piece)
    x = round(centre_xy[0] * scene.shape[1] - (box[0] + box[2]) / 2)
    y = round(centre_xy[1] * scene.shape[0] - (box[1] + box[3]) / 2)
    hidden = nowhere(scene) if in_front is None else in_front
    canvas = scene.copy()
    shadow = contact_shadow(piece.alpha, shadow_opacity)
    under, of_shadow = lay(canvas, shadow.cutout, x + shadow.left, y + shadow.top)
    on, of = lay(canvas, piece, x, y)
    alpha = np.where(hidden[on], np.uint8(0), piece.alpha[of])
    if not alpha.any():
        return Layout(scene, scene, allow=nowhere(scene), inpaint_mask=nowhere(scene), at_xy=None)
    np.copyto(canvas, scene, where=hidden[..., None])
    allow, inpaint_mask = (np.zeros(scene.shape[:2], np.bool_) for _ in range(2))
    allow[under] = shadow.cutout.alpha[of_shadow] > 0
    allow[on] |= alpha > 0
    inpaint_mask[on] = alpha >= VISIBLE_ALPHA
    near = _padded(on, seam_px)
    inpaint_mask[near] = _ring(inpaint_mask[near], seam_px) & ~hidden[near]
    allow = (allow | inpaint_mask) & ~hidden
    return Layout(scene, canvas, allow, inpaint_mask, at_xy=None)


def _ring(product: Mask, width_px: int) -> Mask:
    """What is near the outline on both sides, in a square; the border of the array is no outline."""
    if width_px == 0:
        return np.zeros_like(product)
    # By running maxima: their time does not grow with the width, nor their memory as a distance transform's does.
    span = 2 * width_px + 1
    widened, narrowed = ndimage.maximum_filter(product, span), ndimage.minimum_filter(product, span)
    return np.asarray(widened & ~narrowed, np.bool_)


def _padded(window: Window, padding_px: int) -> Window:
    rows, columns = (slice(max(0, side.start - padding_px), side.stop + padding_px) for side in window)
    return rows, columns


def _check(scene: Rgb, height: float, in_front: Mask | None, seam_px: int) -> None:
    if not height > 0:
        raise ValueError(f"`height` is {height!r} of the scene's; expected more than 0")
    if in_front is not None and in_front.shape != scene.shape[:2]:
        raise ValueError(f"`in_front` has shape {in_front.shape}, the scene {scene.shape[:2]}; expected the same")
    if seam_px < 0:
        raise ValueError(f"`seam_px` is {seam_px!r}; expected 0 or more")
