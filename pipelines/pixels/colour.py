"""Match a painted crop's tone to the picture: both are known in the ring outside the mask, so the fit is made there.

Krita AI Diffusion and IOPaint take their statistics outside the mask too; matching histograms over the whole crop
moves the seam (auto-sd-paint-ext, issue 22).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import grow

MIN_RING_PIXELS: Final = 16  # with fewer a slope is chance
MIN_SPREAD: Final = 2.0  # standard deviation, levels: below it a slope is the noise's
MIN_CORRELATION: Final = 0.5  # between the rings: below it a slope would only wash the product out
MAX_OFFSET: Final = 40.0  # levels


def ring(mask: NDArray[np.bool_], width_px: int) -> NDArray[np.bool_]:
    """The pixels outside a mask (H, W) that are at most `width_px` from it; empty where the mask is empty or all.

    Raises:
        ValueError: the width is negative.
    """
    return grow(mask, width_px) & ~mask


def fit(
    generated: Rgb, source: Rgb, ring: NDArray[np.bool_], max_gain: float = 1.4
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gain and offset per channel that take the generated ring to the source's, by least squares.

    A channel gets gain 1 and the mean difference alone where a slope would be chance: fewer than 16 pixels in the
    ring, a flat ring (standard deviation below 2 levels), or two rings that do not vary together (correlation below
    0.5), whose slope would only wash the product out.

    Args:
        generated: (H, W, 3), what the painter made.
        source: (H, W, 3), what was there.
        ring: (H, W), True where both show the same thing; an empty one gives gain 1 and offset 0.
        max_gain: the gain stays within 1 / max_gain and max_gain; at least 1.

    Returns:
        Gain (3,) and offset (3,), float32; the offset stays within -40 and 40 levels.

    Raises:
        ValueError: shapes differ, or `max_gain` is below 1.
    """
    if max_gain < 1:
        raise ValueError(f"`max_gain` is {max_gain!r}; expected 1 or more")
    seen, wanted = _within(generated, ring), _within(source, ring)
    if not len(seen):
        return np.ones(3, np.float32), np.zeros(3, np.float32)
    gain = np.array([_slope(seen[:, channel], wanted[:, channel]) for channel in range(3)])
    gain = np.clip(gain, 1 / max_gain, max_gain)
    offset = np.clip(wanted.mean(axis=0) - gain * seen.mean(axis=0), -MAX_OFFSET, MAX_OFFSET)
    return gain.astype(np.float32), offset.astype(np.float32)


def apply_fit(rgb: Rgb, gain: NDArray[np.float32], offset: NDArray[np.float32]) -> Rgb:
    """Every channel of (H, W, 3) times its gain plus its offset, rounded and cut to 0..255."""
    levels = np.arange(256, dtype=np.float64)[:, None]
    table = np.clip(np.rint(levels * gain + offset), 0, 255).astype(np.uint8)
    return np.stack([table[rgb[..., channel], channel] for channel in range(3)], axis=-1)


def ring_error(a: Rgb, b: Rgb, ring: NDArray[np.bool_]) -> float | None:
    """Mean absolute difference of two pictures (H, W, 3) within the ring (H, W), 0..255; None where the ring is empty.

    Raises:
        ValueError: shapes differ.
    """
    inside_a, inside_b = _within(a, ring), _within(b, ring)
    return float(np.abs(inside_a - inside_b).mean()) if len(inside_a) else None


def _slope(seen: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    if len(seen) < MIN_RING_PIXELS or min(seen.std(), wanted.std()) < MIN_SPREAD:
        return 1.0
    covariance = float(((seen - seen.mean()) * (wanted - wanted.mean())).mean())
    if covariance < MIN_CORRELATION * float(seen.std() * wanted.std()):
        return 1.0
    return covariance / float(seen.var())


def _within(rgb: Rgb, ring: NDArray[np.bool_]) -> NDArray[np.float64]:
    if rgb.shape != (*ring.shape, 3):
        raise ValueError(f"a picture of shape {rgb.shape}, a ring of shape {ring.shape}; expected (H, W, 3) and (H, W)")
    return rgb[ring].astype(np.float64)
