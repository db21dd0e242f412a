"""What known tools' paste-backs change outside the mask, beside our own, on the same pictures.

Each function repeats a tool's arithmetic with its default numbers (read in the tools' sources, as noted); none is the
tool itself. All take the source (H, W, 3), the whole picture as a painter made it (H, W, 3) and the mask (H, W), True
where the painter was asked to paint, and return the picture that the tool would hand out (H, W, 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from scipy.ndimage import distance_transform_edt, gaussian_filter, grey_dilation

from pipelines.pixels.composite import paste
from pipelines.pixels.images import Rgb, decode, encode
from pipelines.pixels.masks import Mask

Example = tuple[Rgb, Rgb, Mask]
"""A source, the whole picture as a painter made it, and the mask."""
FEATHER_PX: Final = 4.0  # of our own paste


def no_paste(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The pipeline's output as it is: a plain diffusers or Grounded-SAM demo."""
    return painted


def diffusers_binary(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """diffusers' `apply_overlay` with the mask as it is."""
    return _overlay(source, painted, _grey(mask))


def diffusers_blurred(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The same with the mask blurred by the processor's default factor of 4."""
    return _overlay(source, painted, _grey(mask).filter(ImageFilter.GaussianBlur(4)))


def diffusers_as_documented(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The same with the factor of 33 of its documentation's example."""
    return _overlay(source, painted, _grey(mask).filter(ImageFilter.GaussianBlur(33)))


def webui(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """Stable Diffusion web UI (A1111): its default mask blur of 4, a kernel of 21, under the same kind of overlay."""
    return _overlay(source, painted, Image.fromarray(cv2.GaussianBlur(np.asarray(_grey(mask)), (21, 21), 4)))


def iopaint(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """IOPaint: `sd_mask_blur` 11 as a kernel of 23, and a blend cut down to whole numbers."""
    return _cut_blend(source, painted, cv2.GaussianBlur(np.asarray(_grey(mask)), (23, 23), 0))


def crop_and_stitch(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """ComfyUI Crop&Stitch: `mask_blend_pixels` 32 grows by a square of 13, blurs twice by 4, cuts what is below 0.1."""
    once = gaussian_filter(grey_dilation(mask.astype(np.float32), (13, 13)), 4)
    alpha = gaussian_filter(np.where(once < 0.1, 0, once), 4)[..., None]
    return np.asarray(np.rint(alpha * painted + (1 - alpha) * source), np.uint8)


def catvton(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """CatVTON `--repaint`: a blur of a fiftieth of the height, made odd, and a blend cut down to whole numbers."""
    radius = mask.shape[0] // 50
    radius += 1 - radius % 2
    return _cut_blend(source, painted, np.asarray(_grey(mask).filter(ImageFilter.GaussianBlur(radius))))


def fooocus(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """Fooocus: the mask grown by 12 and box-blurred by 25, whole where it was given, and a blend cut down."""
    soft = _grey(mask).filter(ImageFilter.MaxFilter(25)).filter(ImageFilter.BoxBlur(25))
    return _cut_blend(source, painted, np.where(mask, np.uint8(255), np.asarray(soft)))


def packshot(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """Inward feather and a hard copy outside."""
    return paste(source, painted, mask, FEATHER_PX)


def packshot_as_jpeg(source: Rgb, painted: Rgb, mask: Mask) -> Rgb:
    """The exact picture, saved once more as a JPEG of quality 95: why the container has to be lossless."""
    return decode(encode(packshot(source, painted, mask), "jpeg"), keep=False).rgb


TOOLS: Final[dict[str, Callable[[Rgb, Rgb, Mask], Rgb]]] = {
    "none (plain pipeline)": no_paste,
    "diffusers `apply_overlay`, binary": diffusers_binary,
    "diffusers `apply_overlay`, blur 4": diffusers_blurred,
    "diffusers `apply_overlay`, blur 33": diffusers_as_documented,
    "A1111, mask blur 4": webui,
    "IOPaint, mask blur 11": iopaint,
    "Crop&Stitch, blend 32": crop_and_stitch,
    "CatVTON, repaint": catvton,
    "Fooocus": fooocus,
    "Packshot, saved as JPEG 95": packshot_as_jpeg,
    "Packshot": packshot,
}


@dataclass(frozen=True)
class OutsideChange:
    """What one paste-back did outside the masks.

    shares: of the pixels outside, how many changed, 0..1, a picture each. largest: the largest change of a channel,
    levels. reach_px: how far from the mask the furthest change lies, pixels. Both are 0 where nothing changed.
    """

    tool: str
    shares: tuple[float, ...]
    largest: int
    reach_px: float


def compare(examples: Iterable[Example]) -> list[OutsideChange]:
    """Paste each painted picture back in every tool's way, and measure outside its mask; one picture at a time.

    Examples whose mask is everything have no outside and are left out.

    Raises:
        ValueError: shapes differ.
    """
    shares: dict[str, list[float]] = {tool: [] for tool in TOOLS}
    largest, reach_px = dict.fromkeys(TOOLS, 0), dict.fromkeys(TOOLS, 0.0)
    for source, painted, mask in examples:
        if mask.all():
            continue
        outside, distance_px = ~mask, distance_transform_edt(~mask)
        for tool, back in TOOLS.items():
            made = back(source, painted, mask)
            changes = np.abs(made.astype(np.int16) - source).max(axis=2) * outside
            shares[tool].append(int(np.count_nonzero(changes)) / int(outside.sum()))
            largest[tool] = max(largest[tool], int(changes.max()))
            reach_px[tool] = max(reach_px[tool], float(distance_px[changes > 0].max(initial=0)))
    return [OutsideChange(tool, tuple(shares[tool]), largest[tool], reach_px[tool]) for tool in TOOLS]


def _grey(mask: Mask) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _overlay(source: Rgb, painted: Rgb, mask: Image.Image) -> Rgb:
    """The source, cut out where the mask is not, laid over the painted picture, by way of premultiplied alpha."""
    kept = Image.new("RGBa", mask.size)
    kept.paste(Image.fromarray(source).convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    under = Image.fromarray(painted).convert("RGBA")
    return np.asarray(Image.alpha_composite(under, kept.convert("RGBA")).convert("RGB"))


def _cut_blend(source: Rgb, painted: Rgb, soft: NDArray[Any]) -> Rgb:
    """A blend that is cut down, not rounded, to whole numbers."""
    alpha = soft[..., None] / 255
    return np.asarray(painted * alpha + source * (1 - alpha)).astype(np.uint8)
