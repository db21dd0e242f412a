"""A Segmenter that segments each box in a crop of its own, as large as the model's input takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.models import Candidates, Segmenter
from pipelines.pixels.boxes import square_with_margin
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import Window


class PerBoxSegmenter:
    """Calls another Segmenter on a square crop round each box, and puts its masks back into the whole picture.

    A small product gets a finer outline, for one more picture to encode a box. Points name no size, so they are
    segmented in the whole picture.

    Args:
        segmenter: is called with the crops.
        crop_margin: round the box on each side, a share of its longer side.
    """

    def __init__(self, segmenter: Segmenter, crop_margin: float) -> None:
        self.segmenter = segmenter
        self.crop_margin = crop_margin

    def __call__(
        self, images: Sequence[Rgb], prompts: Sequence[Sequence[NDArray[np.float32]]]
    ) -> Iterator[list[Candidates]]:
        """As `Segmenter`; masks are (C, H, W) of the whole picture."""
        asked = [
            (image, self._window(image, prompt), prompt)
            for image, some in zip(images, prompts, strict=True)
            for prompt in some
        ]
        answers = iter(
            self.segmenter(
                [np.ascontiguousarray(image[window]) for image, window, _ in asked],
                [[_moved(prompt, window)] for _, window, prompt in asked],
            )
        )
        places = iter(asked)
        for some in prompts:
            yield [_in_picture(next(answers)[0], *next(places)[:2]) for _ in some]

    def _window(self, image: Rgb, prompt: NDArray[np.float32]) -> Window:
        if prompt.ndim != 1:
            return np.s_[0 : image.shape[0], 0 : image.shape[1]]
        left, top, right, bottom = square_with_margin(prompt, self.crop_margin, (image.shape[1], image.shape[0]))
        return np.s_[top:bottom, left:right]


def _moved(prompt: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    rows, columns = window
    return prompt - np.array([columns.start, rows.start] * 2, np.float32) if prompt.ndim == 1 else prompt


def _in_picture(candidates: Candidates, image: Rgb, window: Window) -> Candidates:
    masks = np.zeros((len(candidates.masks), *image.shape[:2]), np.bool_)
    masks[:, *window] = candidates.masks
    return Candidates(masks, candidates.predicted_ious)
