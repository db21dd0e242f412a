"""The diffusion samplers and their spacings, by the names people know, as diffusers' schedulers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from pipelines.errors import ConfigError


class ThirdOrderSDE(DPMSolverMultistepScheduler):
    """DPM-Solver++ 3M SDE as k-diffusion's `sample_dpmpp_3m_sde` has it.

    diffusers 0.42 subtracts a half where the coefficient of the second difference adds it (Lu et al. 2022,
    arXiv:2211.01095, with h doubled for the SDE), which makes its third order worse than its second.
    """

    def multistep_dpm_solver_third_order_update(
        self,
        model_output_list: list[Tensor],
        *args: Any,
        sample: Tensor | None = None,
        noise: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """One step from the last three predictions of the clean picture, oldest first."""
        stepped = super().multistep_dpm_solver_third_order_update(
            model_output_list, *args, sample=sample, noise=noise, **kwargs
        )
        alphas, sigmas = self._sigma_to_alpha_sigma_t(self.sigmas[self.step_index - 2 : self.step_index + 2])
        before, last, now = (alphas.log() - sigmas.log()).diff()
        first, second, third = model_output_list
        curve = ((third - second) / last - (second - first) / before) / (before + last)
        mended: Tensor = stepped + alphas[-1] * now**2 * curve
        return mended


# Latents are not pixels: a config that leaves `clip_sample` at its default would cut them to -1..1.
UNCLIPPED = {"clip_sample": False}
SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, UNCLIPPED),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, UNCLIPPED),
    "dpm++_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpm++_2m_sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "dpm++_3m_sde": (ThirdOrderSDE, {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, UNCLIPPED),
}
"""Each sampler's scheduler class, and what it sets beside the model's own config.

Those that draw noise while they sample (euler_a, dpm++_2m_sde, dpm++_3m_sde, lcm) take it from the generators that the
pipeline hands to `step`, one a painting; diffusers' DPMSolverSDEScheduler does not, and is left out.
"""

# Signal to noise 1 to 100 is as good as none. Heun's correction of a step grows with the step's share of noise: from
# 4096, where diffusers' own rescaling ends, its first step burns the picture.
MOST_NOISE = 100.0
EVEN = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
# From the schedule's very end to its very start, as A1111 and ComfyUI; other spacings stop short of a clean picture.
WHOLE = {"timestep_spacing": "linspace"}
SPACINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "karras": {**EVEN, **WHOLE, "use_karras_sigmas": True},
    "exponential": {**EVEN, **WHOLE, "use_exponential_sigmas": True},
    "sgm_uniform": {**EVEN, "timestep_spacing": "trailing"},
}
"""What each spacing of the steps sets: the table of diffusers' "Schedulers" page; `default` is the model's own.

karras: Karras et al. 2022, arXiv:2206.00364, equation 5, rho 7. sgm_uniform: "trailing" of Lin et al. 2023,
arXiv:2305.08891, table 2.
"""


def make_scheduler(sampler: str, config: Mapping[str, Any], spacing: str = "default") -> Any:
    """A fresh scheduler (they hold the state of one call) that keeps the model's noise schedule and prediction type.

    A model of zero terminal SNR starts karras and exponential from the noise that its schedule had before it was
    rescaled (14.6 for Stable Diffusion): spaced from its own 4096, half of the steps would see nothing but noise.
    `PaintSettings` refuses a spacing that a sampler does not have.
    """
    kind, kwargs = SAMPLERS[sampler]
    if config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in inspect.signature(kind).parameters:
        kwargs = {**kwargs, "trained_betas": _zero_snr_betas(config)}
    scheduler = kind.from_config(config, **kwargs, **SPACINGS[spacing])
    if config.get("rescale_betas_zero_snr") and SPACINGS[spacing].items() >= WHOLE.items():
        scheduler.register_to_config(sigma_max=_unrescaled_sigma_max(config))
    return scheduler


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
    """The rescaled betas, for schedulers that cannot rescale (heun), whose noise ends at `MOST_NOISE`."""
    sampled: Any = EulerDiscreteScheduler.from_config(config)  # type: ignore[no-untyped-call]  # not annotated
    kept = np.maximum(np.asarray(sampled.alphas_cumprod, np.float64), 1 / (MOST_NOISE**2 + 1))
    betas: list[float] = (1 - kept / np.concatenate([[1.0], kept[:-1]])).tolist()
    return betas


def _unrescaled_sigma_max(config: Mapping[str, Any]) -> float:
    plain: Any = EulerDiscreteScheduler.from_config(config, rescale_betas_zero_snr=False)  # type: ignore[no-untyped-call]  # not annotated
    return float(plain.sigmas.max())
