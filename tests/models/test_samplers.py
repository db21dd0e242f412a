import inspect

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)
from pydantic import ValidationError

from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.models.samplers import SAMPLERS, SPACINGS, make_scheduler
from pipelines.recipe.settings import PaintSettings
from tests.models.tiny import SCHEDULE

RESCALED = DDIMScheduler(**SCHEDULE).config
# As Stable Diffusion 1.5 ships it.
ORDINARY = DDIMScheduler(
    **{**SCHEDULE, "prediction_type": "epsilon", "rescale_betas_zero_snr": False, "timestep_spacing": "leading"}
).config
SIGMA_MIN, SIGMA_MAX = 0.02917, 14.6146
SPACED = [name for name, (kind, _) in SAMPLERS.items() if "use_karras_sigmas" in inspect.signature(kind).parameters]


def scheduled(sampler, config, spacing="default", steps=12):
    scheduler = make_scheduler(sampler, config, spacing)
    scheduler.set_timesteps(steps)
    return scheduler


def sigmas(sampler, config, spacing):
    """Each step's noise once: heun lists those between its double calls twice."""
    found = scheduled(sampler, config, spacing).sigmas.numpy()
    return found[np.r_[True, np.diff(found) != 0]]


def settings(sampler, spacing):
    return PaintSettings(checkpoint="embedded:painter", sampler=sampler, spacing=spacing)


@pytest.mark.parametrize(
    ("sampler", "kind", "config"),
    [
        ("ddim", DDIMScheduler, {}),
        ("euler", EulerDiscreteScheduler, {}),
        ("euler_a", EulerAncestralDiscreteScheduler, {}),
        ("heun", HeunDiscreteScheduler, {}),
        ("dpm++_2m", DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
        ("dpm++_2m_sde", DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
        ("dpm++_3m_sde", DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
        ("unipc", UniPCMultistepScheduler, {}),
        ("lcm", LCMScheduler, {}),
    ],
)
def test_name_is_the_scheduler_that_people_mean_by_it(sampler, kind, config):
    scheduler = make_scheduler(sampler, ORDINARY)

    assert isinstance(scheduler, kind)
    assert config.items() <= dict(scheduler.config).items()


def test_settings_know_every_sampler_and_spacing():
    fields = PaintSettings.model_fields

    assert set(fields["sampler"].annotation.__args__) == set(SAMPLERS)
    assert set(fields["spacing"].annotation.__args__) == set(SPACINGS)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("spacing", list(SPACINGS))
def test_settings_refuse_exactly_the_spacings_that_a_scheduler_has_not(sampler, spacing):
    asked = {name for name, value in SPACINGS[spacing].items() if value}
    known = set(inspect.signature(SAMPLERS[sampler][0]).parameters) - (
        {"timestep_spacing"} if sampler == "lcm" else set()
    )

    if asked <= known:
        settings(sampler, spacing)
    else:
        with pytest.raises(ValidationError, match="has no spacing"):
            settings(sampler, spacing)


def test_impossible_pair_is_told_with_the_recipe():
    given = {
        "name": "a",
        "models": "embedded",
        "prompts": {"paint": "a mug"},
        "paint": {"sampler": "ddim", "spacing": "karras"},
    }

    with pytest.raises(
        ConfigError, match="the sampler 'ddim' has no spacing 'karras'; say `spacing: default`, or take"
    ):
        recipes.parse(given)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_default_spacing_is_the_model_s_own(sampler):
    assert make_scheduler(sampler, ORDINARY).config.timestep_spacing == "leading"
    assert make_scheduler(sampler, RESCALED).config.timestep_spacing == "trailing"


@pytest.mark.parametrize("sampler", SPACED)
@pytest.mark.parametrize("config", [ORDINARY, RESCALED], ids=["ordinary", "rescaled"])
@pytest.mark.parametrize("spacing", ["karras", "exponential"])
def test_noise_falls_step_by_step_from_all_of_the_schedule_to_none(sampler, config, spacing):
    found = sigmas(sampler, config, spacing)

    assert len(found) == 13
    assert (np.diff(found) < 0).all()
    np.testing.assert_allclose(found[[0, -2, -1]], [SIGMA_MAX, SIGMA_MIN, 0], rtol=1e-3)
    assert not np.allclose(found, sigmas(sampler, config, "default"), rtol=0.1)


@pytest.mark.parametrize("sampler", SPACED)
def test_karras_steps_are_even_in_the_seventh_root_and_exponential_ones_in_the_logarithm(sampler):
    karras, exponential = (sigmas(sampler, ORDINARY, spacing)[:-1] for spacing in ("karras", "exponential"))

    np.testing.assert_allclose(np.diff(karras ** (1 / 7), 2), 0, atol=1e-4)
    np.testing.assert_allclose(np.diff(np.log(exponential), 2), 0, atol=1e-4)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "lcm"])
def test_sgm_uniform_begins_at_the_last_timestep_and_steps_evenly(sampler):
    own, uniform = (
        scheduled(sampler, ORDINARY, spacing, 10).timesteps.numpy() for spacing in ("default", "sgm_uniform")
    )

    assert own[0] < 999
    np.testing.assert_array_equal(np.unique(uniform)[::-1], np.arange(999, 0, -100))


def test_spacing_takes_the_place_of_the_model_s_own():
    own = {**ORDINARY, "use_karras_sigmas": True}

    assert make_scheduler("euler", own, "exponential").config.use_karras_sigmas is False
    np.testing.assert_array_equal(sigmas("euler", own, "sgm_uniform"), sigmas("euler", ORDINARY, "sgm_uniform"))


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_sampler_keeps_prediction_type_zero_snr_and_trailing_steps(sampler):
    scheduler = scheduled(sampler, RESCALED, steps=10)

    assert scheduler.config.prediction_type == "v_prediction"
    assert float(scheduler.timesteps[0]) == 999
    # The first step starts from noise and nothing else; heun's from as much as its corrections bear.
    assert float(scheduler.alphas_cumprod[-1]) <= (1.01e-4 if sampler == "heun" else 2**-23)
    assert not scheduler.config.get("clip_sample", False)


def test_third_order_is_nearer_to_a_curved_path_than_the_second():
    scheduler = scheduled("dpm++_3m_sde", {**ORDINARY, "prediction_type": "sample"}, steps=40)
    scheduler.sigmas = scheduler.sigmas.double()
    scheduler._step_index = 20
    alpha = 1 / (scheduler.sigmas[:-1] ** 2 + 1).sqrt()
    log_snr = -scheduler.sigmas[:-1].log()
    h = log_snr[21] - log_snr[20]

    def clean(at):
        return 1 + 0.5 * at + 0.3 * at**2

    predicted, sample, no_noise = [clean(at) for at in log_snr[18:21]], torch.tensor(0.7).double(), torch.zeros(1)
    # The SDE's step without its noise: what is left of the sample, and what the path of predictions adds meanwhile.
    on_way = torch.linspace(0, 1, 10_001, dtype=torch.float64) * h
    kept = (scheduler.sigmas[21] * alpha[21]) / (scheduler.sigmas[20] * alpha[20]) * torch.exp(-h)
    added = 2 * alpha[21] * torch.trapezoid(torch.exp(-2 * (h - on_way)) * clean(log_snr[20] + on_way), on_way)

    second = scheduler.multistep_dpm_solver_second_order_update(predicted[1:], sample=sample, noise=no_noise)
    third = scheduler.multistep_dpm_solver_third_order_update(predicted, sample=sample, noise=no_noise)

    assert abs(third - (kept * sample + added)) < abs(second - (kept * sample + added)) / 2
