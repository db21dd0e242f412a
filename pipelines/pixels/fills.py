"""What lies under the mask before denoising ("content" in A1111, "fill" in Krita)."""

from __future__ import annotations

from typing import Final, Literal, get_args

import cv2
import numpy as np
from scipy import ndimage

from pipelines.pixels.composite import paste
from pipelines.pixels.crops import GREY
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask, padded_window

Content = Literal["original", "blur", "neutral", "edge", "telea", "navier_stokes", "border"]

BLUR_PX: Final = 65
FALLOFF_PX: Final = 9
INPAINT_RADIUS_PX: Final = 3
CONTINUED_SIDE_PX: Final = 512
KNOWN_ROUND_PX: Final = 64


def filled(rgb: Rgb, mask: Mask, content: Content) -> Rgb:
    """A picture with something plain in place of what the mask covers; all else stays bit for bit.

    | content | under the mask |
    |---|---|
    | original | what was there |
    | blur | what was there, blurred (Gaussian kernel of 65 px, faded in over 9 px): its colours without its shapes |
    | neutral | mid-grey, 128 |
    | edge | the nearest known pixel |
    | telea | the surroundings continued by fast marching, Telea 2004 |
    | navier_stokes | the surroundings continued along their lines, Bertalmio et al. 2001 |
    | border | navier_stokes, then blur: what Krita lays under a grown canvas |

    Widths are pixels of the picture given, as a rule a crop at the model's size. Only the mask's box and 64 px round it
    are looked at. Where that is larger than 512 px, the last four work at 512 and enlarge, so that the time is bounded
    and a large fill is soft.

    Args:
        rgb: (H, W, 3).
        mask: (H, W), True where the content goes; an empty one gives a copy. Where it covers the whole picture
            nothing is known, so that `edge`, `telea`, `navier_stokes` and `border` give mid-grey.
        content: see the table.

    Raises:
        ValueError: shapes differ, or an unknown content.

    Source: the words, and the numbers of `blur`, of Krita AI Diffusion; the radius of 3 px of OpenCV's manual.
    """
    if rgb.shape != (*mask.shape, 3):
        raise ValueError(f"a picture of shape {rgb.shape} has a mask of shape {mask.shape}; expected (H, W, 3), (H, W)")
    covered = rgb.copy()
    if content == "original" or not mask.any():
        return covered
    window = padded_window(mask, KNOWN_ROUND_PX)
    inside, known = mask[window], rgb[window]
    covered[window][inside] = _content(known, inside, content)[inside]
    return covered


def _content(rgb: Rgb, mask: Mask, content: Content) -> Rgb:
    if content == "blur":
        return _blurred(rgb, mask)
    if content == "neutral" or mask.all():
        return np.full_like(rgb, GREY)
    if content == "border":
        continued = _continued(rgb, mask, "navier_stokes")
        return _blurred(np.where(mask[..., None], continued, rgb), mask)
    return _continued(rgb, mask, content)


def _blurred(rgb: Rgb, mask: Mask) -> Rgb:
    return paste(rgb, np.asarray(cv2.GaussianBlur(rgb, (BLUR_PX, BLUR_PX), 0), np.uint8), mask, FALLOFF_PX)


def _continued(rgb: Rgb, mask: Mask, content: Content) -> Rgb:
    """The surroundings carried on, at most 512 px large while they are; OpenCV's time grows faster than the area."""
    height, width = mask.shape
    scale = min(1.0, CONTINUED_SIDE_PX / max(height, width))
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    small, unknown = (rgb, mask) if scale == 1 else _reduced(rgb, mask, size_wh)
    match content:
        case "edge":
            rows, columns = ndimage.distance_transform_edt(unknown, return_distances=False, return_indices=True)
            done = small[rows, columns]
        case "telea":
            done = _inpainted(small, unknown, cv2.INPAINT_TELEA)
        case "navier_stokes":
            done = _inpainted(small, unknown, cv2.INPAINT_NS)
        case _:
            raise ValueError(f"the content is {content!r}; expected one of {', '.join(get_args(Content))}")
    return done if scale == 1 else np.asarray(cv2.resize(done, (width, height), interpolation=cv2.INTER_CUBIC))


def _inpainted(rgb: Rgb, unknown: Mask, method: int) -> Rgb:
    # OpenCV never looks at the outermost pixels, so they are doubled. And in 8 bits Telea's rounding adds up: 31 levels
    # across 500 px of a flat colour, where floats are 2 off.
    levels = np.pad(rgb, ((2, 2), (2, 2), (0, 0)), "edge").astype(np.float32)
    where = np.pad(unknown, 2, "edge").astype(np.uint8)
    channels = [
        cv2.inpaint(np.ascontiguousarray(levels[..., channel]), where, INPAINT_RADIUS_PX, method)
        for channel in range(3)
    ]
    return np.clip(np.rint(np.dstack(channels)[2:-2, 2:-2]), 0, 255).astype(np.uint8)


def _reduced(rgb: Rgb, mask: Mask, size_wh: tuple[int, int]) -> tuple[Rgb, Mask]:
    """Smaller, each pixel the mean of what is known in it; unknown is where that is less than half."""
    kept = np.where(mask[..., None], np.uint8(0), rgb)
    sums = cv2.resize(kept, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
    share = cv2.resize((~mask).astype(np.uint8) * 255, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    # A sliver of known pixels may be less than half of every pixel; the best of them are known all the same.
    unknown = share < min(0.5, float(share.max()))
    means = sums / np.maximum(share, 1 / 255)[..., None]
    return np.clip(np.rint(means), 0, 255).astype(np.uint8), unknown
