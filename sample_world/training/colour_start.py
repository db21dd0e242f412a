"""Begin an autoencoder as a codec of 8 x 8 mean colours, so that training has only the detail left to learn.

From the usual start a small autoencoder learns lightness for a long time and colours late. Here three of the latent
channels begin as the block's whitened mean colour. Twelve channels carry it through either half: for each of three
colours x, the channels x, -x, k and -k. Every residual block begins as its shortcut; the constants k keep group
normalisation nearly linear; and silu(x) - silu(-x) = x, so the activation at the end lets the pair through unchanged.
"""

from typing import Any, Final

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

COLOURS: Final = 3
CARRIED: Final = 4 * COLOURS
CONSTANT: Final = 4.0
CENTRE: Final = ((1, 1),)
ONLY: Final = ((0, 0),)
MEAN_OF_FOUR: Final = ((0, 0), (0, 1), (1, 0), (1, 1))  # the downsampler pads right and below alone
FIRST_LOG_VARIANCE: Final = -6.0


@torch.no_grad()
def start_as_colours(vae: Any, pixels: Tensor) -> None:
    """Set an untrained autoencoder's weights in place.

    Args:
        vae: an AutoencoderKL of 4 latent channels; at least 16 channels everywhere, groups of 4 in its last
            normalisation.
        pixels: (N, 3), -1 to 1, by whose mean and covariance colours are whitened.
    """
    values, axes = torch.linalg.eigh(torch.cov(pixels.T))
    spread, mean = values.clamp(min=1e-4).sqrt(), pixels.mean(0)
    _carry_through(vae)
    _begin_encoder(vae, (axes / spread).T, mean)
    _begin_decoder(vae, axes * spread, mean)


def _carry_through(vae: Any) -> None:
    blocks: list[Any] = [block for block in vae.modules() if isinstance(block, ResnetBlock2D)]
    for block in blocks:
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)
        if block.conv_shortcut is not None:
            _carry(block.conv_shortcut, ONLY)
    for down in vae.encoder.down_blocks:
        for sampler in down.downsamplers or ():
            _carry(sampler.conv, MEAN_OF_FOUR)
    for up in vae.decoder.up_blocks:
        for sampler in up.upsamplers or ():
            _carry(sampler.conv, CENTRE)


def _carry(conv: Any, taps: tuple[tuple[int, int], ...]) -> None:
    """Let the carried channels through, averaged over the taps of the kernel."""
    _constants_alone(conv)
    for colour in range(COLOURS):
        for channel in (4 * colour, 4 * colour + 1):
            for y, x in taps:
                conv.weight[channel, channel, y, x] = 1 / len(taps)


def _constants_alone(conv: Any) -> None:
    conv.weight[:CARRIED] = 0
    conv.bias[:CARRIED] = torch.tensor([0, 0, CONSTANT, -CONSTANT] * COLOURS)


def _begin_encoder(vae: Any, whiten: Tensor, mean: Tensor) -> None:
    first, last = vae.encoder.conv_in, vae.encoder.conv_out
    _constants_alone(first)
    for colour in range(COLOURS):
        for channel, sign in ((4 * colour, 1), (4 * colour + 1, -1)):
            first.weight[channel, :, 1, 1] = sign * whiten[colour]
            first.bias[channel] = -sign * whiten[colour] @ mean
    group = last.in_channels // vae.config.norm_num_groups
    deviation = (2 * COLOURS * (1 + CONSTANT**2) / group) ** 0.5
    nn.init.zeros_(last.weight[:COLOURS])
    nn.init.zeros_(last.bias)
    _open_pairs(last, torch.eye(COLOURS) * deviation)
    nn.init.zeros_(last.weight[vae.config.latent_channels :])
    nn.init.constant_(last.bias[vae.config.latent_channels :], FIRST_LOG_VARIANCE)
    _identity(vae.quant_conv)


def _begin_decoder(vae: Any, unwhiten: Tensor, mean: Tensor) -> None:
    first, last = vae.decoder.conv_in, vae.decoder.conv_out
    _identity(vae.post_quant_conv)
    _constants_alone(first)
    for colour in range(COLOURS):
        first.weight[4 * colour, colour, 1, 1] = 1
        first.weight[4 * colour + 1, colour, 1, 1] = -1
    nn.init.zeros_(last.weight[:, :CARRIED])
    _open_pairs(last, unwhiten * ((1 + CONSTANT**2) / 2) ** 0.5)
    last.bias.copy_(mean)


def _open_pairs(conv: Any, mix: Tensor) -> None:
    """Put out row c as the sum over colours i of mix[c, i] times the carried colour i."""
    for colour in range(COLOURS):
        conv.weight[: len(mix), 4 * colour, 1, 1] = mix[:, colour]
        conv.weight[: len(mix), 4 * colour + 1, 1, 1] = -mix[:, colour]


def _identity(conv: Any) -> None:
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(conv.bias)
