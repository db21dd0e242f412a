"""What a layout says, and the layouts of the tasks that paint on the source as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Mask

MAX_CANVAS_PIXELS: Final = 100_000_000  # 300 MB a picture; a step holds a few of them


class CanvasTooLarge(ValueError):
    """A canvas of more pixels than `MAX_CANVAS_PIXELS`."""


@dataclass(frozen=True, eq=False)
class Layout:
    """The geometry of one task on one picture; all arrays have one size, that of the delivered picture.

    base: uint8 (H, W, 3), what the delivered picture is, bit for bit, outside `allow`. canvas: uint8 (H, W, 3), what
    the painter paints on; it equals `base` outside `allow`. allow: bool (H, W), where the delivered picture may differ
    from `base`. inpaint_mask: bool (H, W), what the painter denoises; where it is empty nothing is painted and the
    canvas is the result. at_xy: where the source's first pixel lies, pixels of the canvas; None where the source was
    resampled, or is not the picture that stays. Masks that are False or True everywhere may be read-only views.

    Raises:
        ValueError: sizes differ.
    """

    base: Rgb
    canvas: Rgb
    allow: Mask
    inpaint_mask: Mask
    at_xy: tuple[int, int] | None = (0, 0)

    def __post_init__(self) -> None:
        size = self.allow.shape
        masks, pictures = (size, self.inpaint_mask.shape), (self.base.shape, self.canvas.shape)
        if len(size) != 2 or masks[1] != size or any(shape != (*size, 3) for shape in pictures):
            raise ValueError(
                f"a layout of pictures {pictures} and masks {masks}; expected one size, (H, W, 3) and (H, W)"
            )


def replaced(source: Rgb, allow: Mask, inpaint_mask: Mask) -> Layout:
    """The source itself is painted on, in a part of it.

    Args:
        source: (H, W, 3).
        allow: (H, W), where the result may differ from the source; an empty one lets nothing change.
        inpaint_mask: (H, W), what is denoised; it may reach beyond `allow`, the result does not.

    Raises:
        ValueError: sizes differ.
    """
    return Layout(base=source, canvas=source, allow=allow, inpaint_mask=inpaint_mask)


def background(source: Rgb, core: Mask) -> Layout:
    """All but the product is painted.

    Args:
        source: (H, W, 3).
        core: (H, W), True on the product's opaque pixels, which stay; an empty one lets everything change.

    Raises:
        ValueError: sizes differ.
    """
    return Layout(base=source, canvas=source, allow=~core, inpaint_mask=~core)


def everything(source: Rgb) -> Layout:
    """The whole picture (H, W, 3) is painted."""
    return Layout(source, source, allow=everywhere(source), inpaint_mask=everywhere(source))


def blank(width: int, height: int) -> Rgb:
    """A new canvas (H, W, 3), not filled yet.

    Raises:
        CanvasTooLarge: more than `MAX_CANVAS_PIXELS`.
    """
    if width * height > MAX_CANVAS_PIXELS:
        raise CanvasTooLarge(
            f"the canvas would have {width} x {height} = {width * height} pixels; at most {MAX_CANVAS_PIXELS} are made"
        )
    return np.empty((height, width, 3), np.uint8)


def nowhere(rgb: Rgb) -> Mask:
    """A mask of the picture's size that is False everywhere and weighs nothing; read-only."""
    return np.broadcast_to(np.False_, rgb.shape[:2])


def everywhere(rgb: Rgb) -> Mask:
    """A mask of the picture's size that is True everywhere and weighs nothing; read-only."""
    return np.broadcast_to(np.True_, rgb.shape[:2])
