"""The product of a reference picture: cut out by the file's own transparency, or off its plain background."""

from __future__ import annotations

from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.measure import label

from pipelines.pixels.cutouts import Cutout, hard_cutout
from pipelines.pixels.images import decode, thumbnail
from pipelines.pixels.masks import drop_specks, fill_holes
from pipelines.pixels.proposals import enlarged, product_crop

MAX_DELTA_E: Final = 3.0  # CIEDE2000 to the background's colour
SHADOW_DEPTH: Final = 40.0  # of L*
MAX_SHADOW_SLOPE: Final = 4.0  # of L* a pixel; more is an outline
MIN_ENCLOSED_SHARE: Final = 0.02  # of the product
BORDER_SHARE: Final = 0.02  # of the picture's longer side
MAX_BORDER_DELTA_E: Final = 10.0  # CIEDE2000 to the border's median: what is farther off is a product that is cut off
MIN_PRODUCT_SHARE: Final = 0.01  # of the picture
CUT_OUT_AT_PX: Final = 1024  # a reference's longest side, where the product is cut out to be laid into a picture
COMPARED_AT_PX: Final = 512  # the same, where the product only has to be compared
HALF: Final = 128  # of opacity


def reference_cutout(encoded: bytes) -> Cutout:
    """The product of a reference picture at its own size.

    Raises:
        ImageError: as `images.decode`.
    """
    picture = decode(encoded)
    if has_cutout_alpha(picture.alpha):
        return Cutout(picture.rgb, picture.alpha)
    product = foreground(thumbnail(picture.rgb, CUT_OUT_AT_PX))
    return hard_cutout(picture.rgb, enlarged(product, (picture.rgb.shape[0], picture.rgb.shape[1])))


def reference_crop(encoded: bytes, side_px: int) -> NDArray[np.uint8]:
    """The product of a reference picture alone on grey, (side_px, side_px, 3): as CLIP sees a product that was painted.

    Raises:
        ImageError: as `images.decode`.
    """
    picture = decode(encoded)
    if has_cutout_alpha(picture.alpha):
        return product_crop(picture.rgb, picture.alpha >= HALF, side_px)
    return product_crop(picture.rgb, foreground(thumbnail(picture.rgb, COMPARED_AT_PX)), side_px)


def has_cutout_alpha(alpha: NDArray[np.uint8] | None) -> TypeGuard[NDArray[np.uint8]]:
    """Whether a picture's transparency (H, W) cuts out a product: some pixels are mostly clear, and some are not."""
    return alpha is not None and bool(alpha.min() < HALF <= alpha.max())


def foreground(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """What stands on a picture's plain background; the whole picture where the background is not plain.

    The background may be lighter on one side than on the other: its colour is a surface of second order through the
    picture's border. To it belong all pixels joined to the border that have nearly this colour, or are a soft shadow:
    darker, without another hue, and without an outline. So does what a product encloses, such as the gap between two
    legs, if it is too large for a pattern's spot and has the background's colour.

    Args:
        rgb: (H, W, 3), some 500 to 1,000 pixels; shadows of larger pictures are smoother than the figures expect.

    Returns:
        (H, W), True on the product.

    Source: the figures are those with which the products of 150 drawn shop pictures came out best, at a mean IoU of
    0.96; by the border's median colour and a CIEDE2000 of 8 it was 0.84.
    """
    lab = rgb2lab(rgb)
    background = _background_colour(lab)
    difference: Any = deltaE_ciede2000  # not annotated, as `label`
    is_near = difference(lab, background) <= MAX_DELTA_E
    off = lab - background
    is_darker = (off[..., 0] < 0) & (off[..., 0] >= -SHADOW_DEPTH) & (np.abs(off[..., 1:]) <= MAX_DELTA_E).all(2)
    is_smooth = ndimage.gaussian_gradient_magnitude(lab[..., 0], 1.0) <= MAX_SHADOW_SLOPE
    behind = _joined_to_border(is_near | (is_darker & is_smooth))
    product = ~(behind | _large_parts(is_near, MIN_ENCLOSED_SHARE * np.count_nonzero(~behind)))
    product = drop_specks(fill_holes(product, MIN_PRODUCT_SHARE), MIN_PRODUCT_SHARE)
    return product if MIN_PRODUCT_SHARE <= product.mean() < 1 else np.ones_like(product)


def _background_colour(lab: NDArray[np.float64]) -> NDArray[np.float64]:
    """The background's colour (H, W, 3), by least squares through the border pixels of about the median colour."""
    height, width = lab.shape[:2]
    border = np.ones((height, width), np.bool_)
    depth = max(1, round(BORDER_SHARE * max(height, width)))
    border[depth:-depth, depth:-depth] = False
    difference: Any = deltaE_ciede2000
    border[border] = difference(lab[border], np.median(lab[border], axis=0)[None]) <= MAX_BORDER_DELTA_E
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)
    weights, *_ = np.linalg.lstsq(terms[border], lab[border], rcond=None)
    return np.asarray(terms @ weights)


def _joined_to_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    joined: Any = label
    parts = joined(mask, connectivity=1)
    at_border = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.isin(parts, at_border[at_border > 0])


def _large_parts(mask: NDArray[np.bool_], min_area_px: float) -> NDArray[np.bool_]:
    joined: Any = label
    parts = joined(mask, connectivity=1)
    is_large = np.bincount(parts.ravel()) > min_area_px
    is_large[0] = False
    return np.asarray(is_large[parts])
