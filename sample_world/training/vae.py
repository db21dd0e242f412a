"""Train the painter's autoencoder: an f = 8 AutoencoderKL with 4 latent channels (docs/decisions/0010)."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipelines.models.calls import device
from sample_world.tensors import as_tensor
from sample_world.training.colour_start import start_as_colours
from sample_world.training.examples import SIDE_PX, Examples
from sample_world.training.loop import load_ema

LEVELS: Final = (16, 48, 96, 128)
CONFIG: Final = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": LEVELS,
    "layers_per_block": 1,
    "norm_num_groups": 4,  # at least 4 channels a group: one a group is instance norm, which forgets flat colours
    "mid_block_add_attention": False,
    "sample_size": SIDE_PX,
}
WHOLE_PICTURES_FROM: Final = 0.55
CHROMA_WEIGHT: Final = 4.0
KL_WEIGHT: Final = 1e-5
STANDARD_PICTURES: Final = 64
HALF: Final = (0.5, 0.5, 0.5)


class VaeLearner:
    """Crops of 128 pixels first, whole pictures from 55 % on; parts are blanked as inpainting blanks them."""

    learning_rate = 1.5e-3
    weight_decay = 0.0
    schedule = "cosine"
    ema_decay = 0.998
    autocast = True

    def __init__(self, examples: Examples, batch: int = 8) -> None:
        self.examples = examples
        self.batch = batch
        make: Any = AutoencoderKL
        vae = make(**CONFIG)
        some = examples.arrays["crops"][:: max(1, len(examples.arrays["crops"]) // 64)]
        start_as_colours(vae, as_input(some).permute(0, 2, 3, 1).reshape(-1, 3).cpu())
        self.vae = vae.to(device(), memory_format=torch.channels_last)
        self.models = nn.ModuleDict({"vae": self.vae})

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """How far pictures are from themselves after encoding and decoding, and the latents' KL divergence."""
        whole = progress > WHOLE_PICTURES_FROM
        pictures = as_input(
            _pictures(
                self.examples, rng, max(1, self.batch // 4) if whole else self.batch, SIDE_PX if whole else SIDE_PX // 2
            )
        )
        pictures = _blank_parts(pictures, rng)
        posterior = self.vae.encode(pictures).latent_dist
        latents = posterior.mean + torch.randn_like(posterior.mean) * posterior.std
        divergence: Tensor = posterior.kl().float().mean() / latents[0].numel()
        return _reconstruction_loss(self.vae.decode(latents).sample.float() - pictures) + KL_WEIGHT * divergence


def as_input(pictures: NDArray[np.uint8]) -> Tensor:
    """(N, H, W, 3) of 0 to 255 -> (N, 3, H, W) of -1 to 1, channels last, on the device."""
    return as_tensor(pictures, mean=HALF, std=HALF).contiguous(memory_format=torch.channels_last)


def _pictures(examples: Examples, rng: np.random.Generator, count: int, side_px: int) -> NDArray[np.uint8]:
    """Squares of scenes and of products' surroundings, half of each, half of them mirrored."""
    squares = []
    for number in range(count):
        source = examples.arrays["crops" if number % 2 else "scenes"]
        picture = source[rng.integers(len(source))]
        top, left = rng.integers(0, SIDE_PX - side_px + 1, 2)
        square = picture[top : top + side_px, left : left + side_px]
        squares.append(square[:, ::-1] if rng.random() < 0.5 else square)
    return np.stack(squares)


def _blank_parts(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """Fill a rectangle of a third of the pictures with mid-grey, which is 0 after scaling, or with black."""
    side = pictures.shape[-1]
    for picture in pictures:
        if rng.random() < 0.35:
            top, left = rng.integers(0, side // 2, 2)
            height, width = rng.integers(side // 8, side // 2, 2)
            picture[:, top : top + height, left : left + width] = 0.0 if rng.random() < 0.7 else -1.0
    return pictures


def _reconstruction_loss(error: Tensor) -> Tensor:
    """Squared and absolute error, edges, and colour, which shapes alone would drown: they are learnt first and fast."""
    chroma = error - error.mean(1, keepdim=True)
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    flat = functional.avg_pool2d(error, 16).abs().mean()
    return (
        error.pow(2).mean() + CHROMA_WEIGHT * chroma.pow(2).mean() + 0.2 * error.abs().mean() + 0.1 * edges + 0.3 * flat
    )


@torch.no_grad()
def standardise(vae: Any, pictures: Tensor) -> None:
    """Bring every latent channel to mean 0 and standard deviation 1, in place; what comes out of the decoder stays.

    The two 1 x 1 convolutions round the latents take it up, so that the painter's noise drowns no channel before
    another. Only a latent's mean is used after training; its variance is left as it is.
    """
    means = torch.cat([vae.encode(part).latent_dist.mode() for part in torch.split(pictures, 8)])
    centre, spread = means.mean((0, 2, 3)), means.std((0, 2, 3))
    channels = len(centre)
    vae.quant_conv.bias[:channels] = (vae.quant_conv.bias[:channels] - centre) / spread
    vae.quant_conv.weight[:channels] /= spread.view(-1, 1, 1, 1)
    vae.post_quant_conv.bias += vae.post_quant_conv.weight.flatten(1) @ centre
    vae.post_quant_conv.weight *= spread.view(1, -1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)


def export_vae(examples: Examples, folder: Path, out_dir: Path) -> None:
    """Write the averaged autoencoder as a diffusers folder in fp16."""
    learner = VaeLearner(examples)
    load_ema(folder, learner.models)
    vae = learner.vae
    standardise(vae, as_input(_pictures(examples, np.random.default_rng(0), STANDARD_PICTURES, SIDE_PX)))
    vae.half().save_pretrained(out_dir)
