"""The diffusion samplers, by the names people know, as diffusers' schedulers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from pipelines.errors import ConfigError

# Latents are not pixels: a config that leaves `clip_sample` at its default would cut them to -1..1.
UNCLIPPED = {"clip_sample": False}
SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, UNCLIPPED),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, UNCLIPPED),
    "dpm++_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "dpm++_2m_sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, UNCLIPPED),
}
"""Each sampler's scheduler class, and what it sets beside the model's own config.

Those that draw noise while they sample (euler_a, dpm++_2m_sde, lcm) take it from the generators that the pipeline hands
to `step`, one a painting; diffusers' DPMSolverSDEScheduler does not, and is left out.
"""


def make_scheduler(sampler: str, config: Mapping[str, Any]) -> Any:
    """A fresh scheduler (they hold the state of one call) that keeps the model's noise schedule and prediction type."""
    kind, kwargs = SAMPLERS[sampler]
    if config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in inspect.signature(kind).parameters:
        kwargs = {**kwargs, "trained_betas": _zero_snr_betas(config)}
    return kind.from_config(config, **kwargs)


def check_steps(sampler: str, steps: int, strength: float) -> None:
    """Refuse what a sampler cannot do.

    Raises:
        ConfigError: fewer than one step is left by `strength`, or more steps than LCM knows.
    """
    if int(steps * strength) < 1:
        raise ConfigError(
            f"`paint.strength` {strength} of `paint.steps` {steps} leaves no step; their product must reach 1"
        )
    most = inspect.signature(LCMScheduler).parameters["original_inference_steps"].default
    if sampler == "lcm" and steps > most:
        raise ConfigError(f"`paint.steps` is {steps}; the sampler `lcm` knows at most {most}, and 4 to 8 are usual")


def _zero_snr_betas(config: Mapping[str, Any]) -> list[float]:
    """The rescaled betas, for schedulers that cannot rescale; the last stays just below 1, as in diffusers' others."""
    sampled: Any = EulerDiscreteScheduler.from_config(config)  # type: ignore[no-untyped-call]  # not annotated
    kept = np.asarray(sampled.alphas_cumprod, np.float64)
    betas: list[float] = (1 - kept / np.concatenate([[1.0], kept[:-1]])).tolist()
    return betas
