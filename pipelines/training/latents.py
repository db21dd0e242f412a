"""Encode the painter's training set once: every picture and its masked version as the inpainting pipeline makes it."""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from pipelines.training.examples import Examples
from pipelines.training.loop import SEED
from pipelines.training.vae import as_input

CHUNK: Final = 64
LATENT: Final = (4, 32, 32)
FACTOR: Final = 8
MIN_NAMED_SHARE: Final = 0.4
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Latents:
    """Scaled latents (N, 4, 32, 32) of pictures and masked pictures, masks (N, 1, 32, 32), and which object each shows.

    `named` is False where the mask leaves most of the object standing, so that its words say nothing of what belongs
    there.
    """

    pictures: Tensor
    masked: Tensor
    masks: Tensor
    objects: NDArray[np.int64]
    named: NDArray[np.bool_]


def encode_latents(examples: Examples, vae: Any, folder: Path, minutes: float) -> Latents:
    """Encode crops in a fixed random order until the minutes are over or all are done; a later call goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(SEED).permutation(examples.with_crop)
    started = logged = time.monotonic()
    for first in range(0, len(order), CHUNK):
        path = folder / f"{first:06d}.pt"
        if path.exists():
            continue
        if time.monotonic() - started > 60 * minutes:
            break
        torch.save(_encode(examples, vae, order[first : first + CHUNK], first), path.with_suffix(".part"))
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
        joined["pictures"], joined["masked"], joined["masks"], joined["objects"].numpy(), joined["named"].numpy()
    )


@torch.no_grad()
def _encode(examples: Examples, vae: Any, objects: NDArray[np.int64], first: int) -> dict[str, Tensor]:
    rng = np.random.default_rng((SEED, first))
    rows = np.array([examples.objects[number].crop for number in objects])
    pictures, shown = examples.arrays["crops"][rows], examples.masks("crop_masks", rows)
    repaint = np.stack([repaint_mask(mask, rng) for mask in shown])
    flip = rng.random(len(rows)) < 0.5
    pictures[flip], shown[flip], repaint[flip] = pictures[flip, :, ::-1], shown[flip, :, ::-1], repaint[flip, :, ::-1]
    inputs = as_input(pictures)
    # The pipeline sets masked pixels to 0, which is mid-grey, and samples the mask at every 8th pixel.
    masked = inputs * torch.from_numpy(~repaint)[:, None].to(inputs)
    return {
        "pictures": _latents(vae, inputs),
        "masked": _latents(vae, masked),
        "masks": torch.from_numpy(repaint[:, None, ::FACTOR, ::FACTOR].copy()),
        "objects": torch.from_numpy(objects),
        "named": torch.from_numpy((repaint & shown).sum((1, 2)) > MIN_NAMED_SHARE * shown.sum((1, 2))),
    }


def _latents(vae: Any, inputs: Tensor) -> Tensor:
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        means = [vae.encode(part).latent_dist.mode().float() for part in torch.split(inputs, 16)]
    scaled: Tensor = torch.cat(means) * vae.config.scaling_factor
    return scaled.half().cpu()


def repaint_mask(shown: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask as users make them (H, W): the object grown by 2 to 12 pixels, its box, or any box."""
    kind = rng.random()
    if kind < 0.65:
        return grown(shown, rng.uniform(2, 12))
    boxed = np.zeros_like(shown)
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    if kind < 0.85 and rows.size:
        grow = rng.integers(0, 13, 4)
        boxed[
            max(0, rows[0] - grow[0]) : rows[-1] + 1 + grow[1], max(0, columns[0] - grow[2]) : columns[-1] + 1 + grow[3]
        ] = True
        return boxed
    height, width = rng.integers(32, 160, 2)
    top, left = rng.integers(0, shown.shape[0] - height), rng.integers(0, shown.shape[1] - width)
    boxed[top : top + height, left : left + width] = True
    return boxed


def grown(mask: NDArray[np.bool_], by_px: float) -> NDArray[np.bool_]:
    """A mask (H, W) and all pixels at most `by_px` from it; an empty one stays empty."""
    return np.asarray(distance_transform_edt(~mask) <= by_px) if mask.any() else mask.copy()
