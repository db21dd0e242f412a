"""Cut-outs: a product's own colours and how much of each pixel it covers, so that it can stand on any background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.pixels.images import Rgb, decode, encode
from pipelines.pixels.masks import Mask, padded_window

SURE_INSIDE = 255
SURE_OUTSIDE = 0
UNKNOWN = 128


@dataclass(frozen=True, eq=False)
class Cutout:
    """A product without its background.

    rgb: uint8 (H, W, 3), its colours with no old background mixed in; of a picture's cut-out they are the source's own
    pixels where alpha is 255, and black far from the product. alpha: uint8 (H, W), its share of each pixel, 0..255.

    Raises:
        ValueError: the shapes differ, or the arrays are not uint8.
    """

    rgb: Rgb
    alpha: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.rgb.shape != (*self.alpha.shape, 3) or self.alpha.ndim != 2:
            raise ValueError(
                f"a cut-out's rgb has shape {self.rgb.shape} and its alpha {self.alpha.shape}; "
                "expected (H, W, 3) and (H, W)"
            )
        if self.rgb.dtype != np.uint8 or self.alpha.dtype != np.uint8:
            raise ValueError(f"a cut-out of {self.rgb.dtype} and {self.alpha.dtype}; expected uint8, 0..255")


class Matting(Protocol):
    """Cut a product out with a soft edge."""

    def __call__(self, rgb: Rgb, product: Mask) -> Cutout:
        """The cut-out (H, W) of the product that the mask (H, W) names: source pixels where opaque, unmixed colours."""


def hard_cutout(rgb: Rgb, product: Mask) -> Cutout:
    """The cut-out without a soft edge: the source's pixels (H, W, 3) where the mask (H, W) is True, nothing elsewhere.

    Raises:
        ValueError: the shapes differ.
    """
    if rgb.shape[:2] != product.shape:
        raise ValueError(f"a picture of {rgb.shape[:2]} and a mask of {product.shape}; expected one size (H, W)")
    return Cutout(np.where(product[..., None], rgb, np.uint8(0)), np.where(product, np.uint8(255), np.uint8(0)))


def trimap(product: Mask, band_px: int) -> NDArray[np.uint8]:
    """What a mask is sure of, and the band along its outline of which it is not.

    A part narrower than twice the band, such as a strap, keeps its middle line as sure inside; so do a narrow gap and a
    narrow hole as sure outside. The picture's border is no outline: what reaches it goes on beyond it.

    Args:
        product: (H, W), True on the product; an empty one is sure outside everywhere, a full one sure inside.
        band_px: how far the band reaches to each side of the outline, pixels; 0 leaves nothing unknown.

    Returns:
        uint8 (H, W): 255 sure inside, 0 sure outside, 128 unknown.

    Raises:
        ValueError: the band is negative.

    Source: rembg erodes both sides by 10 pixels at any size; here the caller makes the band fit the product.
    """
    if band_px < 0:
        raise ValueError(f"a band of {band_px!r} pixels; expected 0 or more")
    sure = np.where(product, np.uint8(SURE_INSIDE), np.uint8(SURE_OUTSIDE))
    if band_px == 0 or product.all() or not product.any():
        return sure
    window = padded_window(product, 2 * band_px + 1)
    inside, outside = product[window], ~product[window]
    # A window that the product fills has no outside within reach: nothing of it is near an outline.
    if outside.any():
        sure[window][~(_deep(inside, band_px) | _deep(outside, band_px))] = UNKNOWN
    return sure


def _deep(side: Mask, band_px: int) -> Mask:
    """What lies further than the band from the other side, and the middle line of what is too narrow for that."""
    depth_px = np.minimum(ndimage.distance_transform_edt(side), band_px + 1)
    # The deepest within reach: at most the band only where the part is that narrow all round.
    middle = side & (depth_px >= ndimage.maximum_filter(depth_px, size=3))
    narrow = ndimage.maximum_filter(depth_px, size=2 * band_px + 1) <= band_px
    return np.asarray((depth_px > band_px) | (middle & narrow), np.bool_)


def core(cutout: Cutout) -> Mask:
    """The opaque pixels (H, W): what stays bit for bit wherever the cut-out is set."""
    return np.asarray(cutout.alpha == 255)


def on_colour(cutout: Cutout, rgb: tuple[int, int, int]) -> Rgb:
    """The cut-out on a flat colour (H, W, 3); the blend rounds, so opaque pixels and bare colour are exact.

    Args:
        cutout: what stands in front.
        rgb: the colour behind it, 0..255 each.
    """
    alpha = cutout.alpha[..., None].astype(np.int32)
    mixed = alpha * cutout.rgb + (255 - alpha) * np.asarray(rgb, np.int32)
    return np.asarray((mixed + 127) // 255, np.uint8)


def to_png(cutout: Cutout) -> bytes:
    """The cut-out as a PNG file with transparency; `from_png` gives back the same pixels."""
    return encode(cutout.rgb, "png", alpha=cutout.alpha)


def from_png(encoded: bytes) -> Cutout:
    """A picture file with transparency as a cut-out; one without is opaque everywhere.

    Raises:
        ImageError: as `images.decode`.
    """
    picture = decode(encoded)
    opaque = np.full(picture.rgb.shape[:2], 255, np.uint8)
    return Cutout(picture.rgb, opaque if picture.alpha is None else picture.alpha)
