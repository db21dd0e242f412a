"""What the stages ask of a model: one narrow Protocol a role, one adapter file a library.

Nothing here loads torch; `models.loading` imports an adapter when a stage first needs it. Adapters call their network
at one fixed batch shape (`call_size`, the last call padded) and one thread count, so that a result never depends on
batch mates (docs/design.md, Exactness).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.images import Rgb
from pipelines.strict import Checkpoint


@dataclass(frozen=True)
class Call:
    """How a network is called: which weights, samples and CPU threads a call, on which device, at which precision.

    On the device `meta` a network has no weights: only its names and shapes are checked.
    """

    checkpoint: Checkpoint
    call_size: int
    threads: int
    device: Literal["cpu", "cuda", "meta"]
    dtype: Literal["float32", "float16"]


@dataclass(frozen=True)
class Sampling:
    """How a painter samples: the names and units are those of the settings `paint`."""

    sampler: str
    spacing: str
    steps: int
    guidance: float
    strength: float
    clip_skip: int


@dataclass(frozen=True)
class Grid:
    """How a proposer asks for masks: the names and units are those of the settings `find`."""

    points_per_side: int
    crop_layers: int
    min_predicted_iou: float
    min_stability: float
    box_nms_iou: float
    box_rounds: int


@dataclass(frozen=True)
class Found:
    """Boxes that match a prompt, best first: (N, 4) pixels, scores (N,) in 0..1, N labels; N may be 0."""

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Candidates:
    """SAM's answers for one prompt: masks (C, H, W) bool at the picture's size, predicted_ious (C,)."""

    masks: NDArray[np.bool_]
    predicted_ious: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Painting:
    """One crop to paint: rgb uint8 (S, S, 3), inpaint_mask bool (S, S), True is repainted; the words; the noise's seed.

    `start` uint8 (S, S, 3) takes the place of `rgb` inside the mask as what noise is put on (None: `rgb` itself); the
    model's view of the surroundings stays `rgb`'s. A strength of 1 forgets it, save where `softness` holds it.

    `softness` float (S, S) in 0..1 is how strongly each pixel is repainted, as a share of the painter's strength: 1
    fully, 0 not at all, so that the start comes out as well as the autoencoder can draw it (None: 1 everywhere).

    Paintings of one item share the arrays: an adapter encodes them once.
    """

    rgb: Rgb
    inpaint_mask: NDArray[np.bool_]
    prompt: str
    negative_prompt: str
    seed: int
    start: Rgb | None = None
    softness: NDArray[np.float32] | None = None


class Detector(Protocol):
    """Find the boxes that a prompt names (open vocabulary)."""

    def __call__(self, images: Sequence[Rgb], prompts: Sequence[str]) -> list[Found]:
        """One answer an image, in order; whatever its score, every box is in it that matches a phrase of the prompt."""


class Segmenter(Protocol):
    """Segment what a box holds, or what lies under points."""

    def __call__(
        self, images: Sequence[Rgb], prompts: Sequence[Sequence[NDArray[np.float32]]]
    ) -> Iterator[list[Candidates]]:
        """One list an image, in order, with one entry a prompt; an image without prompts answers an empty list.

        A prompt is a box (4,): left, top, right, bottom; or points (P, 3): x, y, and 1 on the thing or 0 beside it.
        Pixels of the image.
        """


@dataclass(frozen=True)
class Proposals:
    """Masks of a whole picture, as COCO run lengths, and the IoU that the model predicts for each (N,); N may be 0.

    All have one size: the picture's, or that of a smaller copy (`pixels.proposals.enlarged` brings them back).
    """

    masks_rle: tuple[dict[str, Any], ...]
    predicted_ious: NDArray[np.float32]


class Proposer(Protocol):
    """Segment everything in a picture, without a prompt."""

    def __call__(self, images: Sequence[Rgb]) -> Iterator[Proposals]:
        """One answer an image, in order; masks may overlap or contain one another."""


class Painter(Protocol):
    """Repaint the masked part of square crops as a prompt says."""

    def __call__(self, paintings: Sequence[Painting]) -> Sequence[Rgb | None]:
        """One crop (S, S, 3) a painting, in order; the whole crop is the model's, nothing is pasted back yet.

        None where the network gave no numbers (NaN or infinite), as an autoencoder in half precision may.
        """


class Encoder(Protocol):
    """Embed pictures and texts in one space (CLIP); `side_px` is the side of the square that the network sees."""

    side_px: int

    def embed_images(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        """(N, D) of unit length; N may be 0."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) of unit length; N may be 0."""
