"""Inpainting by diffusers' StableDiffusionInpaintPipeline (Rombach et al. 2022, arXiv:2112.10752): SD 1.5, SD 2, own.

UNets of 9 channels see the mask and the masked picture; those of 4 are blended with the noised source at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionInpaintPipeline
from diffusers.utils.torch_utils import randn_tensor
from numpy.typing import NDArray
from torch import Tensor

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.models import Call, Painting, Sampling, lora
from pipelines.models.calls import batches, inference
from pipelines.models.files import PARTS, described, pipeline_class
from pipelines.models.opening import check_tokenizer, open_network
from pipelines.models.samplers import check_steps, make_scheduler
from pipelines.pixels.images import Rgb

OPENS = "a diffusers folder of Stable Diffusion 1.5 or 2, for inpainting or plain"
PIPELINES = ("StableDiffusionInpaintPipeline", "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
Pipeline = Any  # a StableDiffusionInpaintPipeline, whose parts diffusers does not annotate


class InpaintingPainter:
    """A Painter whose pictures depend on nothing but their own Painting, the call and the sampling.

    Texts and pictures are encoded alone, once a call; the UNet and the decoder see exactly `call_size` paintings; and
    every painting draws all of its noise from its own CPU generator, what a sampler draws on its way included.

    A painting with `softness` is painted by Differential Diffusion (Levin and Fried 2023, arXiv:2306.00950).

    Raises:
        ConfigError: sampler, steps and strength do not go together, or `clip_skip` leaves no layer of the text model.
    """

    def __init__(self, network: Pipeline, call: Call, sampling: Sampling) -> None:
        check_steps(sampling.sampler, sampling.steps, sampling.strength)
        layers = network.text_encoder.config.num_hidden_layers
        if sampling.clip_skip >= layers:
            raise ConfigError(
                f"`paint.clip_skip` is {sampling.clip_skip}; this painter's text model has {layers} layers, "
                f"so expected 0 to {layers - 1}"
            )
        self.call = call
        self.sampling = sampling
        # A pipeline of its own over the shared networks: its scheduler is replaced at every call.
        make: Any = StableDiffusionInpaintPipeline
        self.pipeline: Pipeline = make(**network.components, requires_safety_checker=False)
        self.pipeline.set_progress_bar_config(disable=True)
        self.schedule = dict(network.scheduler.config)

    def __call__(self, paintings: Sequence[Painting]) -> list[Rgb | None]:
        """One crop a painting, in order; None where the networks gave no numbers.

        Raises:
            ConfigError: the crops' side is not a multiple of the autoencoder's factor (8).
        """
        painted: dict[int, Rgb | None] = {}
        with inference(self.call):
            for side in sorted({len(one.rgb) for one in paintings}):
                self._check_side(side)
                numbers = [number for number, one in enumerate(paintings) if len(one.rgb) == side]
                encoded = self._encode([paintings[number] for number in numbers])
                for batch, count in batches(numbers, self.call.call_size):
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
            for text in (one.prompt, one.negative_prompt) if self.sampling.guidance > 1 else (one.prompt,):
                if text not in encoded:
                    encoded[text] = self._embed(text)
            if _masked_key(one) not in encoded:
                encoded[_masked_key(one)] = self._latents(np.where(one.inpaint_mask[..., None], np.nan, one.rgb))
            if self._source_key(one) not in encoded:
                start = self._start(one)
                source = one.rgb if start is None else np.where(one.inpaint_mask[..., None], start, one.rgb)
                encoded[self._source_key(one)] = self._latents(source)
        return encoded

    def _embed(self, text: str) -> Tensor:
        """(1, T, D) of one text, prompt or negative prompt, from the layer that `clip_skip` says."""
        if self.sampling.clip_skip == 0:
            embedded: Tensor = self.pipeline.encode_prompt(text, self.call.device, 1, False)[0]
            return embedded
        # Not by the pipeline's own `clip_skip`: diffusers 0.42 looks for a `text_model`, which transformers 5 has not.
        encoder, tokenizer = self.pipeline.text_encoder, self.pipeline.tokenizer
        padded = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
        tokens = tokenizer(text, **padded, return_tensors="pt").input_ids
        states = encoder(tokens.to(self.call.device), output_hidden_states=True).hidden_states
        normed: Tensor = encoder.final_layer_norm(states[-1 - self.sampling.clip_skip])
        return normed

    def _start(self, one: Painting) -> Rgb | None:
        return one.start if self.sampling.strength < 1 or one.softness is not None else None

    def _source_key(self, one: Painting) -> tuple[int, ...]:
        """Of what noise is put on and what is kept; where neither is done, of what is encoded anyway."""
        if self.sampling.strength == 1 and one.softness is None and self.pipeline.unet.config.in_channels == 9:
            return _masked_key(one)
        return (*_masked_key(one), id(self._start(one)))

    def _latents(self, rgb: np.ndarray[Any, Any]) -> Tensor:
        """(H, W, 3) of 0..255, hidden pixels NaN -> (1, 4, H/8, W/8) scaled; hidden pixels become mid-grey."""
        pixels = torch.from_numpy(rgb.astype(np.float32) / 127.5 - 1).nan_to_num(0.0).permute(2, 0, 1)[None]
        vae = self.pipeline.vae
        latents: Tensor = vae.encode(pixels.to(self.call.device, vae.dtype)).latent_dist.mode()
        return latents * float(vae.config.scaling_factor)

    def _paint(self, batch: list[Painting], encoded: dict[Any, Tensor], side: int) -> list[Rgb | None]:
        self.pipeline.scheduler = make_scheduler(self.sampling.sampler, self.schedule, self.sampling.spacing)
        masked = torch.cat([encoded[_masked_key(one)] for one in batch])
        source = torch.cat([encoded[self._source_key(one)] for one in batch])
        negative = [encoded[one.negative_prompt] for one in batch] if self.sampling.guidance > 1 else []
        answer = self.pipeline(
            prompt_embeds=torch.cat([encoded[one.prompt] for one in batch]),
            negative_prompt_embeds=torch.cat(negative) if negative else None,
            # Four channels are latents to the pipeline: it encodes nothing again, and noises them below strength 1.
            image=source,
            mask_image=torch.from_numpy(np.stack([one.inpaint_mask for one in batch])).float()[:, None],
            masked_image_latents=masked,
            height=side,
            width=side,
            num_inference_steps=self.sampling.steps,
            strength=self.sampling.strength,
            guidance_scale=self.sampling.guidance,
            # Not `latents`: given those, the pipeline leaves the source out even where strength asks for it.
            generator=_generators(batch),
            num_images_per_prompt=1,
            output_type="np",
            callback_on_step_end=None if all(one.softness is None for one in batch) else _hold(batch, source),
        )
        return [_as_levels(picture) for picture in answer.images]


def _as_levels(picture: NDArray[np.float32]) -> Rgb | None:
    """0..1 -> 0..255; None if any number is none, which a cast would turn into black."""
    return (picture * 255).round().astype(np.uint8) if np.isfinite(picture).all() else None


def _masked_key(one: Painting) -> tuple[int, ...]:
    return id(one.rgb), id(one.inpaint_mask)


def _generators(batch: list[Painting]) -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(one.seed) for one in batch]


def _hold(batch: list[Painting], source: Tensor) -> Callable[..., dict[str, Tensor]]:
    """After each step, put the noised source back where `softness` is at most the share of steps that remains.

    So a softness of 0 ends as the source itself, and one of 1 is never held. The noise is the pipeline's own: each
    generator's first draw.
    """
    noise = randn_tensor(source.shape, generator=_generators(batch), device=source.device, dtype=source.dtype)
    softness = torch.cat([_softness(one, source) for one in batch])

    def hold(pipeline: Pipeline, step: int, _: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        scheduler, calls = pipeline.scheduler, pipeline.num_timesteps
        steps = -(-calls // scheduler.order)  # heun calls twice a step, but once the last
        remaining = 1 - (step // scheduler.order + 1) / steps
        if step + 1 < calls:
            noised = scheduler.add_noise(source, noise, scheduler.timesteps[-calls:][step + 1 : step + 2])
        else:
            noised = source
        return {"latents": torch.where(softness <= remaining, noised, tensors["latents"])}

    return hold


def _softness(one: Painting, source: Tensor) -> Tensor:
    """(1, 1, H/8, W/8): the mean of the pixels under each latent; 1 where a painting has none."""
    softness = np.ones(one.inpaint_mask.shape, np.float32) if one.softness is None else one.softness
    pixels = torch.from_numpy(np.ascontiguousarray(softness, np.float32))[None, None].to(source.device)
    return F.adaptive_avg_pool2d(pixels, (source.shape[-2], source.shape[-1]))


make_painter = InpaintingPainter


def opens(path: Path) -> bool:
    """Whether a path is a diffusers folder of Stable Diffusion 1.5 or 2."""
    return path.is_dir() and pipeline_class(path) in PIPELINES


def load(path: Path, call: Call, loras: Sequence[tuple[Path, float]] = ()) -> Pipeline:
    """Load a diffusers folder, without its safety checker.

    `loras` are safetensors files with their weights; their changes are added to the networks for good.

    Raises:
        ConfigError: a LoRA changes no layer of these networks.
        InfrastructureError: weights are missing or misshapen, or the tokenizer is not the text model's.
    """
    parts = {name: _part(path, name, call) for name in PARTS}
    pipeline: Pipeline = StableDiffusionInpaintPipeline.from_pretrained(  # type: ignore[no-untyped-call]  # not annotated
        path,
        **parts,
        local_files_only=True,
        use_safetensors=True,
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    check_tokenizer(pipeline.tokenizer, pipeline.text_encoder.config.vocab_size, path / "tokenizer")
    for file, weight in loras:
        lora.add(pipeline, file, weight)
    for network in parts.values():
        network.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return pipeline if call.device == "meta" else pipeline.to(call.device)


def _part(path: Path, name: str, call: Call) -> Any:
    """One network of a diffusers folder, of the class that its index names."""
    library, kind = described(path / "model_index.json").get(name) or ("", "")
    if library not in ("diffusers", "transformers") or not hasattr(import_module(library), kind):
        raise InfrastructureError(
            f"{path / 'model_index.json'} has no {name!r} of diffusers or transformers, but {kind!r} of {library!r}; "
            "expected the parts of Stable Diffusion"
        )
    # Read and copied, in place of mapped from the file: so that no bit can depend on where in it a weight begins.
    options = {"low_cpu_mem_usage": call.device == "meta"} if library == "diffusers" else {}
    return open_network(getattr(import_module(library), kind), path / name, PARTS[name], call, **options)
