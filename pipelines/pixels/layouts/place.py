"""A product set into a scene or on a model's photo: the scene stays, the product's interior is the warped cut-out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.pixels.cutouts import Cutout
from pipelines.pixels.layouts.laying import VISIBLE_ALPHA, Window, lay, product_box, trimmed, warped
from pipelines.pixels.layouts.layout import Layout, nowhere
from pipelines.pixels.shadows import contact_shadow

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def placed_in_scene(
    cutout: Cutout,
    scene: Rgb,
    *,
    centre_xy: tuple[float, float],
    height: float | None = None,
    scale: float | None = None,
    rotation_deg: float = 0.0,
    in_front: Mask | None = None,
    shadow_opacity: float = 0.5,
    shadow_softness: float = 0.08,
    seam_px: int = 4,
) -> Layout:
    """Set a product into a scene, with the shadow where it stands, and mark its seam for harmonising.

    Args:
        cutout: the product.
        scene: (H, W, 3).
        centre_xy: where the middle of the product lies, shares of the scene's width and height; beyond 0..1 part of
            it is cut off by the scene's border.
        height: how tall the product is before it is turned, a share of the scene's height. Give this or `scale`.
        scale: pixels of the scene per pixel of the cut-out; 1 without a rotation copies the product bit for bit.
        rotation_deg: counter-clockwise, about the product's middle.
        in_front: (H, W), True on what lies before the product, such as an arm: it hides the product and its shadow and
            stays as it is. None hides nothing.
        shadow_opacity: how dark the shadow is at most, 0..1; 0 for none, as for a garment on a person.
        shadow_softness: how far it reaches at most, as a share of the product's longer side.
        seam_px: how far to both sides of the product's outline is repainted; 0 leaves the collage as it is.

    Returns:
        The layout, `base` the scene and `canvas` the collage. `allow` is what the product, its shadow and the seam
        touch; empty if nothing of the product can be seen, outside the scene or behind what lies in front. `repaint` is
        the seam alone, `kept` the product's opaque pixels inside it.

    Raises:
        ValueError: the cut-out is transparent everywhere, a size differs, or a number is outside its range.
    """
    _check(scene, height, scale, in_front, seam_px)
    _, top, _, bottom = product_box(cutout)
    wanted_scale = scale if height is None else height * scene.shape[0] / (bottom - top)
    piece = warped(trimmed(cutout), wanted_scale or 0, rotation_deg)
    box = product_box(piece)
    x = round(centre_xy[0] * scene.shape[1] - (box[0] + box[2]) / 2)
    y = round(centre_xy[1] * scene.shape[0] - (box[1] + box[3]) / 2)
    hidden = nowhere(scene) if in_front is None else in_front
    canvas = scene.copy()
    shadow = contact_shadow(piece.alpha, shadow_opacity, shadow_softness)
    under, of_shadow = lay(canvas, shadow.cutout, x + shadow.left, y + shadow.top)
    on, of = lay(canvas, piece, x, y)
    alpha = np.where(hidden[on], np.uint8(0), piece.alpha[of])
    if not alpha.any():
        return Layout(scene, scene, allow=nowhere(scene), repaint=nowhere(scene), kept=nowhere(scene), at_xy=None)
    np.copyto(canvas, scene, where=hidden[..., None])
    allow, repaint, kept = (np.zeros(scene.shape[:2], np.bool_) for _ in range(3))
    allow[under] = shadow.cutout.alpha[of_shadow] > 0
    allow[on] |= alpha > 0
    kept[on] = alpha == 255
    repaint[on] = alpha >= VISIBLE_ALPHA
    near = _padded(on, seam_px)
    repaint[near] = _ring(repaint[near], seam_px) & ~hidden[near]
    allow = (allow | repaint) & ~hidden
    return Layout(scene, canvas, allow, repaint, kept & ~repaint, at_xy=None)


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


def _check(scene: Rgb, height: float | None, scale: float | None, in_front: Mask | None, seam_px: int) -> None:
    if (height is None) == (scale is None):
        raise ValueError(f"`height` is {height!r} and `scale` {scale!r}; expected exactly one of them")
    if height is not None and not height > 0:
        raise ValueError(f"`height` is {height!r} of the scene's; expected more than 0")
    if in_front is not None and in_front.shape != scene.shape[:2]:
        raise ValueError(f"`in_front` has shape {in_front.shape}, the scene {scene.shape[:2]}; expected the same")
    if seam_px < 0:
        raise ValueError(f"`seam_px` is {seam_px!r}; expected 0 or more")
