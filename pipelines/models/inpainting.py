"""Inpainting by diffusers' StableDiffusionInpaintPipeline (Rombach et al. 2022, arXiv:2112.10752): SD 1.5, SD 2, own.

UNets of 9 channels see the mask and the masked picture; those of 4 are blended with the noised source at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from torch import Tensor

from pipelines.errors import ConfigError
from pipelines.models import RGB, Painting
from pipelines.models.calls import batches, device
from pipelines.models.samplers import check_steps, make_scheduler
from pipelines.recipe import PaintSettings

Pipeline = Any  # a StableDiffusionInpaintPipeline, whose parts diffusers does not annotate


class InpaintingPainter:
    """A Painter whose pictures depend on nothing but their own Painting and the settings.

    Texts and pictures are encoded alone, once a call; the UNet and the decoder see exactly `call_size` paintings; and
    every painting draws all of its noise from its own CPU generator, what a sampler draws on its way included.

    Raises:
        ConfigError: sampler, steps and strength do not go together.
    """

    def __init__(self, network: Pipeline, settings: PaintSettings) -> None:
        check_steps(settings.sampler, settings.steps, settings.strength)
        self.settings = settings
        # A pipeline of its own over the shared networks: its scheduler is replaced at every call.
        make: Any = StableDiffusionInpaintPipeline
        self.pipeline: Pipeline = make(**network.components, requires_safety_checker=False)
        self.pipeline.set_progress_bar_config(disable=True)
        self.schedule = dict(network.scheduler.config)

    @torch.inference_mode()
    def __call__(self, paintings: Sequence[Painting]) -> list[RGB]:
        """One crop a painting, in order.

        Raises:
            ConfigError: the crops' side is not a multiple of the autoencoder's factor (8).
        """
        torch.set_num_threads(self.settings.threads)
        painted: dict[int, RGB] = {}
        for side in sorted({len(one.rgb) for one in paintings}):
            self._check_side(side)
            numbers = [number for number, one in enumerate(paintings) if len(one.rgb) == side]
            encoded = self._encode([paintings[number] for number in numbers])
            for batch, count in batches(numbers, self.settings.call_size):
                pictures = self._paint([paintings[number] for number in batch], encoded, side)
                painted.update(zip(batch[:count], pictures, strict=False))
        return [painted[number] for number in range(len(paintings))]

    def _check_side(self, side: int) -> None:
        factor = self.pipeline.vae_scale_factor
        if side % factor:
            raise ConfigError(f"`mask.crop_px` is {side}; this painter needs a multiple of {factor}")

    def _encode(self, paintings: Sequence[Painting]) -> dict[Any, Tensor]:
        """Every distinct text and picture of a call, encoded once and alone, so that no neighbour changes its bits."""
        encoded: dict[Any, Tensor] = {}
        for one in paintings:
            for text in (one.prompt, one.negative_prompt) if self.settings.guidance > 1 else (one.prompt,):
                if text not in encoded:
                    encoded[text] = self.pipeline.encode_prompt(text, device(), 1, False)[0]
            if _masked_key(one) not in encoded:
                encoded[_masked_key(one)] = self._latents(np.where(one.repaint_mask[..., None], np.nan, one.rgb))
            if self._needs_source() and id(one.rgb) not in encoded:
                encoded[id(one.rgb)] = self._latents(one.rgb)
        return encoded

    def _needs_source(self) -> bool:
        return self.settings.strength < 1 or self.pipeline.unet.config.in_channels == 4

    def _latents(self, rgb: np.ndarray[Any, Any]) -> Tensor:
        """(H, W, 3) of 0..255, hidden pixels NaN -> (1, 4, H/8, W/8) scaled; hidden pixels become mid-grey."""
        pixels = torch.from_numpy(rgb.astype(np.float32) / 127.5 - 1).nan_to_num(0.0).permute(2, 0, 1)[None]
        vae = self.pipeline.vae
        latents: Tensor = vae.encode(pixels.to(device(), vae.dtype)).latent_dist.mode()
        return latents * float(vae.config.scaling_factor)

    def _paint(self, batch: list[Painting], encoded: dict[Any, Tensor], side: int) -> list[RGB]:
        self.pipeline.scheduler = make_scheduler(self.settings.sampler, self.schedule)
        masked = torch.cat([encoded[_masked_key(one)] for one in batch])
        negative = [encoded[one.negative_prompt] for one in batch] if self.settings.guidance > 1 else []
        answer = self.pipeline(
            prompt_embeds=torch.cat([encoded[one.prompt] for one in batch]),
            negative_prompt_embeds=torch.cat(negative) if negative else None,
            # Four channels are latents to the pipeline: it encodes nothing again, and noises them below strength 1.
            image=torch.cat([encoded[id(one.rgb)] for one in batch]) if self._needs_source() else masked,
            mask_image=torch.from_numpy(np.stack([one.repaint_mask for one in batch])).float()[:, None],
            masked_image_latents=masked,
            height=side,
            width=side,
            num_inference_steps=self.settings.steps,
            strength=self.settings.strength,
            guidance_scale=self.settings.guidance,
            # Not `latents`: given those, the pipeline leaves the source out even where strength asks for it.
            generator=[torch.Generator("cpu").manual_seed(one.seed) for one in batch],
            num_images_per_prompt=1,
            output_type="np",
        )
        return [(picture * 255).round().astype(np.uint8) for picture in answer.images]


def _masked_key(one: Painting) -> tuple[int, int]:
    return id(one.rgb), id(one.repaint_mask)


def load_network(path: Path) -> Pipeline:
    """Load a diffusers folder, without its safety checker: fp32 on CPUs, fp16 on GPUs."""
    pipeline: Pipeline = StableDiffusionInpaintPipeline.from_pretrained(  # type: ignore[no-untyped-call]  # not annotated
        path,
        local_files_only=True,
        use_safetensors=True,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        low_cpu_mem_usage=False,  # the other way needs accelerate, and warns without it
        dtype=torch.float16 if device().type == "cuda" else torch.float32,
    )
    for network in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        network.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return pipeline.to(device())
