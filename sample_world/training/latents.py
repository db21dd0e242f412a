"""Encode the painter's training set once: every picture and its masked version as the inpainting pipeline makes it."""

import logging
import os
import time
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from sample_world.training.examples import Examples
from sample_world.training.loop import SEED
from sample_world.training.vae import LEVELS, as_input

CHUNK: Final = 64
FACTOR: Final = 2 ** (len(LEVELS) - 1)
MIN_HIDDEN_SHARE: Final = 0.4
BACKGROUND_WEIGHT: Final = 2.0
BOX_WEIGHT: Final = 2.5  # where the mask is a box, the prompt alone says what belongs there, and that is learnt last
_log = logging.getLogger(__name__)


class Hidden(IntEnum):
    """What a mask hides, and so what a prompt says: most of the product, all but the product, or neither."""

    PRODUCT = 0
    BACKGROUND = 1
    NEITHER = 2


@dataclass(frozen=True)
class Latents:
    """Scaled latents (N, 4, h, w) of pictures and masked pictures, masks (N, 1, h, w), their objects and `Hidden`."""

    pictures: Tensor
    masked: Tensor
    masks: Tensor
    objects: NDArray[np.int64]
    hidden: NDArray[np.int64]

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Row numbers of a batch; backgrounds, of which there are few, and boxes come more often than the rest."""
        return rng.choice(len(self.objects), count, p=self._shares)

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        in_box = (self.hidden == Hidden.PRODUCT) & np.array([_is_box(mask[0].numpy()) for mask in self.masks])
        weights = np.select([self.hidden == Hidden.BACKGROUND, in_box], [BACKGROUND_WEIGHT, BOX_WEIGHT], 1.0)
        return np.asarray(weights / weights.sum())


def _is_box(mask: NDArray[np.bool_]) -> bool:
    height, width = (np.ptp(np.flatnonzero(mask.any(axis))) + 1 if mask.any() else 0 for axis in (1, 0))
    return bool(mask.sum() == height * width)


def encode_latents(examples: Examples, vae: Any, folder: Path, minutes: float) -> Latents:
    """Encode crops in a fixed random order until the minutes are over or all are done; a later call goes on.

    A product that stands alone comes a second time, with all but itself hidden.
    """
    folder.mkdir(parents=True, exist_ok=True)
    alone = [number for number in examples.with_crop if stands_alone(examples, number)]
    pairs = [(number, False) for number in examples.with_crop] + [(number, True) for number in alone]
    order = np.random.default_rng(SEED).permutation(np.array(pairs, np.int64))
    started = logged = time.monotonic()
    for first in range(0, len(order), CHUNK):
        path = folder / f"{first:06d}.pt"
        if path.exists():
            continue
        if time.monotonic() - started > 60 * minutes:
            break
        objects, around = order[first : first + CHUNK].T
        torch.save(_encode(examples, vae, objects, around, first), path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
        if time.monotonic() - logged > 15:
            logged = time.monotonic()
            _log.info("latents: %d of %d crops", first + CHUNK, len(order))
    return load_latents(folder)


def load_latents(folder: Path) -> Latents:
    """Open what `encode_latents` has done so far."""
    chunks = [torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))]
    joined = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return Latents(
        joined["pictures"], joined["masked"], joined["masks"], joined["objects"].numpy(), joined["hidden"].numpy()
    )


def stands_alone(examples: Examples, number: int) -> bool:
    """Whether a product is the only thing in its scene: then all around it is background."""
    one = examples.objects[number]
    return not one.worn and len(examples.of_scene[one.scene]) == 1


@torch.no_grad()
def _encode(
    examples: Examples, vae: Any, objects: NDArray[np.int64], around: NDArray[np.int64], first: int
) -> dict[str, Tensor]:
    rng = np.random.default_rng((SEED, first))
    rows = np.array([examples.objects[number].crop for number in objects])
    pictures, shown = examples.arrays["crops"][rows], examples.masks("crop_masks", rows)
    repaint = np.stack(
        [
            ~grown(mask, rng.uniform(0, 3)) if all_around else inpaint_mask(mask, rng)
            for mask, all_around in zip(shown, around, strict=True)
        ]
    )
    flip = rng.random(len(rows)) < 0.5
    pictures[flip], shown[flip], repaint[flip] = pictures[flip, :, ::-1], shown[flip, :, ::-1], repaint[flip, :, ::-1]
    inputs = as_input(pictures)
    # The pipeline sets masked pixels to 0, which is mid-grey, and reads the mask where each latent's block begins.
    masked = inputs * torch.from_numpy(~repaint)[:, None].to(inputs)
    return {
        "pictures": _latents(vae, inputs),
        "masked": _latents(vae, masked),
        "masks": torch.from_numpy(repaint[:, None, ::FACTOR, ::FACTOR].copy()),
        "objects": torch.from_numpy(objects),
        "hidden": torch.from_numpy(_hidden(repaint, shown, around)),
    }


def _latents(vae: Any, inputs: Tensor) -> Tensor:
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        means = [vae.encode(part).latent_dist.mode().float() for part in torch.split(inputs, 16)]
    scaled: Tensor = torch.cat(means) * vae.config.scaling_factor
    return scaled.half().cpu()


def _hidden(repaint: NDArray[np.bool_], shown: NDArray[np.bool_], around: NDArray[np.int64]) -> NDArray[np.int64]:
    most = (repaint & shown).sum((1, 2)) > MIN_HIDDEN_SHARE * shown.sum((1, 2))
    return np.where(around, Hidden.BACKGROUND, np.where(most, Hidden.PRODUCT, Hidden.NEITHER)).astype(np.int64)


def inpaint_mask(shown: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask as users make them (H, W): the object grown by 2 to 12 pixels, its box, its shape elsewhere, any box,
    strokes, or borders.

    Boxes come as often as outlines: where the shape does not tell what belongs there, the prompt has to.
    """
    kind = rng.random()
    if kind < 0.35:
        return grown(shown, rng.uniform(2, 12))
    if kind < 0.73 and shown.any():
        return _boxed(shown, rng)
    if kind < 0.81:
        return _elsewhere(grown(shown, rng.uniform(2, 12)), rng)
    if kind < 0.86:
        return _any_box(shown, rng)
    return _strokes(shown, rng) if kind < 0.92 else _borders(shown, rng)


def _boxed(shown: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """The object's box, each side further out by up to 12 pixels, or 40, which makes it another thing's box as well."""
    boxed = np.zeros_like(shown)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    grow = rng.integers(0, rng.choice((13, 41)), 4)
    boxed[
        max(0, rows[0] - grow[0]) : rows[-1] + 1 + grow[1], max(0, columns[0] - grow[2]) : columns[-1] + 1 + grow[3]
    ] = True
    return boxed


def _elsewhere(shape: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A product's outline where there is none: a hole shaped like a shirt does not mean that there was one."""
    height, width = shape.shape
    down, right = (int(rng.choice((-1, 1)) * rng.uniform(0.3, 0.7) * side) for side in (height, width))
    moved = np.zeros_like(shape)
    moved[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = shape[
        max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return moved if moved.any() else shape


def _any_box(shown: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    boxed = np.zeros_like(shown)
    height, width = rng.integers(32, 160, 2)
    top, left = rng.integers(0, shown.shape[0] - height), rng.integers(0, shown.shape[1] - width)
    boxed[top : top + height, left : left + width] = True
    return boxed


def _strokes(shown: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """One to three strokes of a brush of 10 to 40 pixels, as somebody paints a mask by hand."""
    image = Image.new("1", shown.shape[::-1])
    for _ in range(rng.integers(1, 4)):
        points = np.clip(rng.uniform(0, 1, 2) + np.cumsum(rng.normal(0, 0.15, (5, 2)), 0), 0, 1) * shown.shape[::-1]
        ImageDraw.Draw(image).line(
            [tuple(point) for point in points], fill=1, width=int(rng.integers(10, 41)), joint="curve"
        )
    return np.asarray(image)


def _borders(shown: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """What lies beyond one to four sides, up to two fifths of a picture: a canvas that grows."""
    borders = np.zeros_like(shown)
    for side in rng.permutation(4)[: rng.integers(1, 5)]:
        depth = int(rng.uniform(0.08, 0.4) * shown.shape[side % 2])
        turned = np.rot90(borders, side)
        turned[:depth] = True
    return borders


def grown(mask: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    """A mask (H, W) and all pixels at most `by_px` from it; an empty one stays empty."""
    return np.asarray(distance_transform_edt(~mask) <= by_px) if mask.any() else mask.copy()
