"""What the stages ask of a model: one narrow Protocol a role, one adapter file a library.

Nothing here loads torch; `models.loading` imports an adapter when a stage first needs it. Adapters call their network
at one fixed batch shape (`call_size`, the last call padded) and one thread count, so that a result never depends on
batch mates (DESIGN 6).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True)
class Found:
    """Boxes that match a prompt, best first: (N, 4) pixels, scores (N,) in 0..1, N labels; N may be 0."""

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Candidates:
    """SAM's answers for one box: masks (C, H, W) bool at the picture's size, predicted_ious (C,)."""

    masks: NDArray[np.bool_]
    predicted_ious: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Painting:
    """One crop to paint: rgb uint8 (S, S, 3), repaint_mask bool (S, S), True is repainted; the words; the noise's seed.

    Paintings of one item share the `rgb` and `repaint_mask` objects: an adapter encodes them once.
    """

    rgb: RGB
    repaint_mask: NDArray[np.bool_]
    prompt: str
    negative_prompt: str
    seed: int


class Detector(Protocol):
    """Find the boxes that a prompt names (open vocabulary)."""

    def __call__(self, images: Sequence[RGB], prompts: Sequence[str]) -> list[Found]:
        """One answer an image, in order; boxes below the adapter's threshold are left out."""


class Segmenter(Protocol):
    """Cut the mask of what a box holds."""

    def __call__(self, images: Sequence[RGB], boxes_xyxy: Sequence[NDArray[np.float32]]) -> Iterator[list[Candidates]]:
        """One list an image, in order, with one entry a box; an image without boxes answers an empty list."""


class Painter(Protocol):
    """Repaint the masked part of square crops as a prompt says."""

    def __call__(self, paintings: Sequence[Painting]) -> list[RGB]:
        """One crop (S, S, 3) a painting, in order; the whole crop is the model's, nothing is pasted back yet."""


class Encoder(Protocol):
    """Embed pictures and texts in one space (CLIP); `side_px` is the side of the square that the network sees."""

    side_px: int

    def embed_images(self, images: Sequence[RGB]) -> NDArray[np.float32]:
        """(N, D) of unit length; N may be 0."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) of unit length; N may be 0."""
