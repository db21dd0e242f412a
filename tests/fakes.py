"""Models that obey the contract of `pipelines.models` (shapes, order, ranges) and cost nothing; importable by workers.

A fake answers from the pixels that it is given, so that a mix-up of rows or crops shows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipelines.graph import Graph, build
from pipelines.models import Candidates, Found, Painting, Proposals
from pipelines.pixels.images import Rgb
from pipelines.pixels.masks import to_rle
from pipelines.recipe import Recipe, parse
from pipelines.rows import plain
from pipelines.storage import Store
from pipelines.tasks import task_of

POISON = (255, 0, 255)  # a picture whose first pixel is this breaks the fake detector
SLOW = "slowly"  # a prompt over which the fake detector takes a second


@dataclass(frozen=True)
class FakeDetector:
    """Finds the pixels that are not the colour of the picture's corner; an unknown prompt finds nothing."""

    def __call__(self, images: Sequence[Rgb], prompts: Sequence[str]) -> list[Found]:
        if SLOW in prompts:
            time.sleep(1)
        return [self._find(image, prompt) for image, prompt in zip(images, prompts, strict=True)]

    def _find(self, image: Rgb, prompt: str) -> Found:
        if tuple(image[0, 0]) == POISON:
            raise ValueError("poisoned picture")
        product = (image != image[0, 0]).any(2)
        if prompt == "nothing" or not product.any():
            return Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), ())
        rows, columns = np.flatnonzero(product.any(1)), np.flatnonzero(product.any(0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        return Found(np.array([box], np.float32), np.array([0.9], np.float32), (prompt,))


@dataclass(frozen=True)
class FakeSegmenter:
    """Cuts what is not the corner's colour inside the box; a second, worse candidate is the whole box.

    Of points it cuts what has the colour under the first one.
    """

    def __call__(
        self, images: Sequence[Rgb], prompts: Sequence[Sequence[NDArray[np.float32]]]
    ) -> Iterator[list[Candidates]]:
        for image, some in zip(images, prompts, strict=True):
            yield [self._cut(image, prompt) if prompt.ndim == 1 else self._under(image, prompt) for prompt in some]

    def _under(self, image: Rgb, points: NDArray[np.float32]) -> Candidates:
        column, row = points[0, :2].astype(int)
        return Candidates((image == image[row, column]).all(2)[None], np.array([0.9], np.float32))

    def _cut(self, image: Rgb, box: NDArray[np.float32]) -> Candidates:
        whole = np.zeros(image.shape[:2], bool)
        left, top, right, bottom = box.astype(int)
        whole[top:bottom, left:right] = True
        return Candidates(np.stack([whole, whole & (image != image[0, 0]).any(2)]), np.array([0.4, 0.95], np.float32))


@dataclass(frozen=True)
class FakeProposer:
    """Cuts out every loose part that is not the corner's colour."""

    def __call__(self, images: Sequence[Rgb]) -> Iterator[Proposals]:
        for image in images:
            parts, count = ndimage.label((image != image[0, 0]).any(2))
            masks = tuple(dict(to_rle(parts == number)) for number in range(1, count + 1))
            yield Proposals(masks, np.full(count, 0.9, np.float32))


@dataclass(frozen=True)
class FakePainter:
    """Paints a flat colour that follows from prompt and seed, shifts everything else by two levels, as a VAE does."""

    def __call__(self, paintings: Sequence[Painting]) -> list[Rgb]:
        return [self._paint(painting) for painting in paintings]

    def _paint(self, painting: Painting) -> Rgb:
        noise = np.random.default_rng([painting.seed, *painting.prompt.encode()])
        around = np.clip(painting.rgb.astype(int) + 2, 0, 255)
        colour = noise.integers(0, 256, 3)
        return np.where(painting.inpaint_mask[..., None], colour, around).astype(np.uint8)


@dataclass(frozen=True)
class FakeEncoder:
    """Embeds a picture as its mean colour and a text as its letters, both of unit length."""

    side_px: int = 32

    def embed_images(self, images: Sequence[Rgb]) -> NDArray[np.float32]:
        return self._unit([np.append(image.mean((0, 1)), 1.0) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._unit([np.array([len(text), *(text.count(letter) for letter in "aeo")], float) for text in texts])

    def _unit(self, vectors: list[NDArray[np.float64]]) -> NDArray[np.float32]:
        if not vectors:
            return np.zeros((0, 4), np.float32)
        stacked = np.stack(vectors)
        return (stacked / np.linalg.norm(stacked, axis=1, keepdims=True)).astype(np.float32)


FAKES = {
    "detect": {"detector": FakeDetector()},
    "segment": {"segmenter": FakeSegmenter()},
    "find": {"proposer": FakeProposer(), "encoder": FakeEncoder()},
    "paint": {"painter": FakePainter()},
    "score": {"encoder": FakeEncoder(), "segmenter": FakeSegmenter()},
}


def a_recipe(folder: Path, **sections: object) -> Recipe:
    """A recipe whose checkpoints are one small file; crops of 64 pixels, three variants of which the best two stay."""
    weights = folder / "weights.safetensors"
    if not weights.exists():
        weights.write_bytes(b"not looked into")
    finds = "find" in sections
    given: dict[str, dict[str, object]] = {name: {"checkpoint": str(weights)} for name in FAKES}
    given["find"]["encoder"] = str(weights)
    for name in ("detect", "segment") if finds else ("find",):
        del given[name]
    given["mask"] = {"crop_px": 64}
    given["paint"]["variants"] = 3
    # The fake segmenter takes a new background for more of the product.
    asked = {"keep_best": 2, "max_expansion": 1e9}
    given["judge"] = {} if sections.get("judge") == {"keep": "all"} else asked
    given["prompts"] = {"find": "{category}", "paint": "a {colour} {category}"}
    for name, section in sections.items():
        given[name] = {**given.get(name, {}), **section} if isinstance(section, dict) else section  # type: ignore[assignment,dict-item]
    if not task_of(given["paint"].get("task")).finds_product:
        del given["detect"], given["segment"]
    return parse({"name": "fake", "models": "own", **given})


def a_graph(recipe: Recipe, store: Store | None = None, fakes: Mapping[str, Mapping[str, object]] = FAKES) -> Graph:
    """The recipe's graph with fakes in the place of models; `fakes` stand before the usual ones."""
    graph, known = build(recipe, store), {**FAKES, **fakes}
    nodes = (
        replace(node, given=tuple(known[plain(node.name)].items())) if plain(node.name) in known else node
        for node in graph.nodes
    )
    return Graph(tuple(nodes))


def a_picture(seed: int, size_wh: tuple[int, int] = (96, 80)) -> Rgb:
    """A coloured rectangle on a plain ground, the ground's colour in every corner."""
    random = np.random.default_rng(seed)
    width, height = size_wh
    picture = np.full((height, width, 3), random.integers(180, 250, 3), np.uint8)
    left, top = random.integers(4, width // 3), random.integers(4, height // 3)
    picture[top : top + height // 3, left : left + width // 3] = random.integers(0, 150, 3)
    return picture
