"""What the painter's autoencoder loses of a picture that it only has to repeat."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_gradient_magnitude, label
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from pipelines.models.checkpoints import resolve
from pipelines.models.inpainting import load
from pipelines.models.loading import make_call
from pipelines.pixels.crops import context_region, cut
from pipelines.pixels.images import Rgb
from pipelines.recipe import Recipe
from sample_world.evaluation.cases import Case
from sample_world.evaluation.figures import Figure, average
from sample_world.tensors import as_tensor

FLAT_GRADIENT: Final = 4.0  # levels a pixel, of the picture smoothed by a pixel: grain stays below, edges do not
FROM_EDGE_PX: Final = 4
LARGE_PX: Final = 400
MOST_DB: Final = 100.0
HALF: Final = (0.5, 0.5, 0.5)  # the autoencoder takes -1 to 1


def measure_reconstruction(recipe: Recipe, cases: list[Case]) -> dict[str, Figure]:
    """Encode and decode the crops that the painter would see round some products."""
    paint = recipe.paint
    call = make_call(paint.role, paint.checkpoint, paint.call_size, paint.threads)
    vae = load(resolve(paint.checkpoint), call).vae
    side = recipe.mask.crop_px
    crops = [cut(case.held.scene.rgb, context_region(case.thing.mask, side), side) for case in cases]
    repeated = [reconstruct(vae, crop, recipe.paint.threads) for crop in crops]
    errors = [error for pair in zip(crops, repeated, strict=True) for error in flat_colour_errors(*pair)]
    return {
        "autoencoder: PSNR, dB": average([psnr(*pair) for pair in zip(crops, repeated, strict=True)]),
        "autoencoder: colour error of large flat areas, Delta E 2000, 95th percentile": average(errors, _p95),
    }


@torch.inference_mode()
def reconstruct(vae: Any, rgb: Rgb, threads: int) -> Rgb:
    """A crop (S, S, 3) through an autoencoder and back, without noise."""
    torch.set_num_threads(threads)
    pixels = as_tensor(rgb[None], mean=HALF, std=HALF).to(vae.dtype)
    out = vae.decode(vae.encode(pixels).latent_dist.mode()).sample[0].permute(1, 2, 0).float().cpu().numpy()
    return np.asarray(np.clip(np.rint((out + 1) * 127.5), 0, 255), np.uint8)


def psnr(first: Rgb, second: Rgb) -> float:
    """Peak signal to noise ratio of two pictures, dB; at most 100, so that equal pictures have a number too."""
    with np.errstate(divide="ignore"):  # of equal pictures it is infinite
        ratio_db = peak_signal_noise_ratio(first, second)  # type: ignore[no-untyped-call]  # scikit-image has no types
    return min(MOST_DB, float(ratio_db))


def flat_areas(rgb: Rgb) -> list[NDArray[np.bool_]]:
    """The areas (H, W) of a picture without edges or patterns: 400 pixels or more, 4 pixels from what has them."""
    gradient = np.max([gaussian_gradient_magnitude(rgb[..., channel].astype(float), 1) for channel in range(3)], 0)
    parts, count = label(binary_erosion(gradient < FLAT_GRADIENT, iterations=FROM_EDGE_PX, border_value=1))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    return [parts == number for number in range(1, count + 1) if sizes[number] >= LARGE_PX]


def flat_colour_errors(source: Rgb, repeated: Rgb) -> list[float]:
    """Delta E 2000 of the mean colours of each flat area of the source, before and after; a list that may be empty.

    Source: CIEDE2000, Sharma et al. 2005, by scikit-image.
    """
    difference: Any = deltaE_ciede2000  # not annotated
    means = [[rgb2lab(rgb[area].mean(0) / 255) for rgb in (source, repeated)] for area in flat_areas(source)]
    return [float(difference(*pair)) for pair in means]


def _p95(values: NDArray[np.float64]) -> float:
    return float(np.percentile(values, 95))
