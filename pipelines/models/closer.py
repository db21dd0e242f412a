"""A Segmenter that looks closer: at each box by itself, as large as the model's input takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.models import RGB, Candidates, Segmenter
from pipelines.pixels.boxes import with_room

Window = tuple[slice, slice]


class CloserSegmenter:
    """Asks another Segmenter about the square round each box, and lays its masks where they were in the picture.

    What is small in its picture gets a finer outline, for one more picture to encode a box. Points name no size, so for
    them the whole picture is shown.

    Args:
        segmenter: what is asked.
        room: round the box on each side, a share of its longer side.
    """

    def __init__(self, segmenter: Segmenter, room: float) -> None:
        self.segmenter = segmenter
        self.room = room

    def __call__(
        self, images: Sequence[RGB], prompts: Sequence[Sequence[NDArray[np.float32]]]
    ) -> Iterator[list[Candidates]]:
        """As `Segmenter`; masks are (C, H, W) of the whole picture."""
        looks = [
            (image, self._window(image, prompt), prompt)
            for image, some in zip(images, prompts, strict=True)
            for prompt in some
        ]
        answers = iter(
            self.segmenter(
                [np.ascontiguousarray(image[window]) for image, window, _ in looks],
                [[_moved(prompt, window)] for _, window, prompt in looks],
            )
        )
        windows = iter(looks)
        for some in prompts:
            yield [_in_picture(next(answers)[0], *next(windows)[:2]) for _ in some]

    def _window(self, image: RGB, prompt: NDArray[np.float32]) -> Window:
        if prompt.ndim != 1:
            return np.s_[0 : image.shape[0], 0 : image.shape[1]]
        left, top, right, bottom = with_room(prompt, self.room, (image.shape[1], image.shape[0]))
        return np.s_[top:bottom, left:right]


def _moved(prompt: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    rows, columns = window
    return prompt - np.array([columns.start, rows.start] * 2, np.float32) if prompt.ndim == 1 else prompt


def _in_picture(candidates: Candidates, image: RGB, window: Window) -> Candidates:
    masks = np.zeros((len(candidates.masks), *image.shape[:2]), np.bool_)
    masks[:, *window] = candidates.masks
    return Candidates(masks, candidates.predicted_ious)
