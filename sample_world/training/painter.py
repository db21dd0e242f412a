"""Train the painter: a 9-channel inpainting UNet and its CLIP text model, on cached latents."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from pipelines.models.calls import device
from sample_world.training.examples import SIDE_PX, Examples
from sample_world.training.latents import FACTOR, Hidden, Latents
from sample_world.training.loop import load_ema
from sample_world.training.words import (
    END,
    MAX_TOKENS,
    PAD,
    PAINTER_IDS,
    START,
    background_prompt,
    paint_prompt,
    painter_tokenizer,
)

STEPS: Final = 1000
UNET: Final = {
    "sample_size": SIDE_PX // FACTOR,
    "in_channels": 9,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (64, 128, 192),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 128,
    "attention_head_dim": 4,  # the number of heads, in spite of its name
    "norm_num_groups": 16,
}
SCHEDULE: Final = {
    "num_train_timesteps": STEPS,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,  # so that the noisiest step says nothing of the picture, as at the start of use
    "timestep_spacing": "trailing",
    "clip_sample": False,
}
NOISY_SHARE: Final = 0.3
OUTSIDE_WEIGHT: Final = 0.1


def text_config() -> CLIPTextConfig:
    """Two layers of width 128 over the sample world's words."""
    return CLIPTextConfig(
        vocab_size=len(PAINTER_IDS),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=128,
        pad_token_id=PAINTER_IDS[PAD],
        bos_token_id=PAINTER_IDS[START],
        eos_token_id=PAINTER_IDS[END],
    )


class PainterLearner:
    """Predict the velocity of noised latents, given the mask, the masked picture and a prompt."""

    learning_rate = 4e-4
    weight_decay = 0.01
    schedule = "cosine"
    ema_decay = 0.999
    autocast = True

    def __init__(self, examples: Examples, latents: Latents, batch: int = 24) -> None:
        self.examples = examples
        self.latents = latents
        self.batch = batch
        self.tokenizer = painter_tokenizer()
        make: Any = DDPMScheduler
        self.noise = make(**SCHEDULE)
        self.unet, self.text_encoder = painter_models()
        self.models = _together(self.unet, self.text_encoder)
        # The fused attention's backward pass is slow on a CPU; written out it is the same sum in a third of the time.
        self.unet.set_attn_processor(AttnProcessor())

    def loss(self, rng: np.random.Generator, progress: float) -> Tensor:
        """The mean squared error of the predicted velocity; outside the mask it weighs less."""
        rows = self.latents.draw(rng, self.batch)
        clean, masked, mask = (
            some[rows].float().to(device()) for some in (self.latents.pictures, self.latents.masked, self.latents.masks)
        )
        steps = _time_steps(rng, self.batch).to(device())
        noise = torch.randn_like(clean)
        noisy = self.noise.add_noise(clean, noise, steps)
        encoded = self.text_encoder(self._prompts(rows, rng)).last_hidden_state
        predicted: Tensor = self.unet(torch.cat([noisy, mask, masked], 1), steps, encoded).sample
        error: Tensor = predicted.float() - self.noise.get_velocity(clean, noise, steps)
        weight = mask * (1 - OUTSIDE_WEIGHT) + OUTSIDE_WEIGHT
        return (error.pow(2) * weight).sum() / (weight.sum() * clean.shape[1])

    def _prompts(self, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        prompts = [self._prompt(row, rng) for row in rows]
        make: Any = self.tokenizer
        ids: Tensor = make(
            prompts, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        ).input_ids
        return ids.to(device())

    def _prompt(self, row: int, rng: np.random.Generator) -> str:
        one = self.examples.objects[self.latents.objects[row]]
        match self.latents.hidden[row]:
            case Hidden.PRODUCT:
                return paint_prompt(one.category, one.colour, one.pattern, rng)
            case Hidden.BACKGROUND:
                return background_prompt(self.examples.backgrounds[one.scene], one.category, one.colour, rng)
            case _:
                return ""


def painter_models() -> tuple[Any, Any]:
    """A new UNet and text model, on the device."""
    make: Any = UNet2DConditionModel
    unet = make(**UNET).to(device(), memory_format=torch.channels_last)
    text_encoder: Any = CLIPTextModel(text_config())
    return unet, text_encoder.to(device())


def _together(unet: Any, text_encoder: Any) -> nn.ModuleDict:
    return nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})


def _time_steps(rng: np.random.Generator, count: int) -> Tensor:
    """Uniform, but three in ten from the noisiest 30 %, where colour and pattern are decided."""
    low = np.where(rng.random(count) < NOISY_SHARE, int(STEPS * (1 - NOISY_SHARE)), 0)
    return torch.from_numpy(rng.integers(low, STEPS))


def export_painter(vae_dir: Path, folder: Path, out_dir: Path) -> None:
    """Write a StableDiffusionInpaintPipeline folder in fp16 from the averaged weights and a finished autoencoder."""
    unet, text_encoder = painter_models()
    load_ema(folder, _together(unet, text_encoder))
    make: Any = StableDiffusionInpaintPipeline
    load: Any = AutoencoderKL.from_pretrained
    make_scheduler: Any = DDIMScheduler
    pipeline = make(
        vae=load(vae_dir, dtype=torch.float16),
        text_encoder=text_encoder.half(),
        tokenizer=painter_tokenizer(),
        unet=unet.half(),
        scheduler=make_scheduler(**SCHEDULE, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out_dir)
