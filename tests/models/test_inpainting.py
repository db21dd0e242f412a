import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from pipelines.errors import ConfigError
from pipelines.models import Painting
from pipelines.models.inpainting import InpaintingPainter, load_network
from pipelines.models.samplers import SAMPLERS, make_scheduler
from pipelines.recipe import PaintSettings
from tests.models.tiny import SCHEDULE, noise, write_painter

MASK = np.zeros((64, 64), np.bool_)
MASK[16:48, 8:40] = True
SOURCES = [noise(0, 64, 64), np.full((64, 64, 3), 200, np.uint8)]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load_network(write_painter(tmp_path_factory.mktemp("painter")))


@pytest.fixture(scope="module")
def blended_network(tmp_path_factory):
    return load_network(write_painter(tmp_path_factory.mktemp("painter"), channels=4))


def painter(network, **settings):
    given = {"checkpoint": "embedded:painter", "steps": 3, "guidance": 3.0, "call_size": 4, "threads": 1, **settings}
    return InpaintingPainter(network, PaintSettings(**given))


def painting(number=0, prompt="a red shirt", negative="a bag", seed=7, mask=MASK):
    return Painting(SOURCES[number], mask, prompt, negative, seed)


MATES = [
    painting(),
    painting(1, "a blue bag", seed=8),
    painting(0, "striped shoe", seed=2**62),
    painting(1, seed=9),
    painting(0, "photo", "", seed=10),
    painting(0, "a blue bag", "shoe", seed=11),
]


def test_no_paintings_have_no_answers(network):
    assert painter(network)([]) == []


def test_crop_has_the_side_that_came_in(network):
    (picture,) = painter(network)([painting()])

    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 0


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_picture_is_bit_equal_whatever_its_neighbours_their_order_and_number(network, sampler, strength):
    paint = painter(network, sampler=sampler, strength=strength)
    (alone,) = paint([MATES[0]])

    together = paint(MATES)
    backwards = paint(MATES[::-1])

    np.testing.assert_array_equal(together[0], alone)
    np.testing.assert_array_equal(backwards[-1], alone)
    np.testing.assert_array_equal(together[3], backwards[2])


def test_blended_model_is_as_independent_of_neighbours(blended_network):
    paint = painter(blended_network, strength=0.7)
    (alone,) = paint([MATES[0]])

    np.testing.assert_array_equal(paint(MATES)[0], alone)


def test_blended_model_keeps_what_the_mask_leaves(blended_network):
    nothing, everything = np.zeros_like(MASK), np.ones_like(MASK)
    paint = painter(blended_network)

    kept, other_seed, repainted = paint(
        [painting(mask=nothing), painting(mask=nothing, seed=8), painting(mask=everything)]
    )

    np.testing.assert_array_equal(kept, other_seed)
    assert not np.array_equal(kept, repainted)


def test_each_seed_prompt_and_negative_prompt_gives_its_own_picture(network):
    pictures = painter(network)(
        [painting(), painting(seed=8), painting(prompt="bag"), painting(negative="shirt"), painting(1)]
    )

    assert len({picture.tobytes() for picture in pictures}) == 5


def test_guidance_of_one_ignores_the_negative_prompt(network):
    one, other = painter(network, guidance=1.0)([painting(), painting(negative="shirt")])

    np.testing.assert_array_equal(one, other)


def test_masked_pixels_are_hidden_from_the_painter_and_others_are_not(network):
    inside, outside = SOURCES[0].copy(), SOURCES[0].copy()
    inside[MASK] = 255 - inside[MASK]
    outside[~MASK] = 255 - outside[~MASK]

    source, hidden, shown = painter(network)(
        [painting(), *(Painting(rgb, MASK, "a red shirt", "a bag", 7) for rgb in (inside, outside))]
    )

    np.testing.assert_array_equal(source, hidden)
    assert not np.array_equal(source, shown)


def test_weak_strength_starts_from_the_source(network):
    other = Painting(255 - SOURCES[0], np.ones_like(MASK), "a red shirt", "a bag", 7)
    mine = painting(mask=np.ones_like(MASK))

    differences = {}
    for strength in (1.0, 0.4):
        one, two = painter(network, strength=strength, steps=10)([mine, other])
        differences[strength] = float(np.abs(one.astype(int) - two).mean())

    assert differences[1.0] == 0  # all is hidden and all is noise: the source says nothing
    assert differences[0.4] > 0


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_weaker_strength_stays_nearer_to_the_source_s_latents(network, sampler):
    # What a network without any skill paints is told from the decoded source itself, not from the source.
    vae = network.vae
    pixels = torch.from_numpy(SOURCES[1].astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.inference_mode():
        decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample[0].permute(1, 2, 0)
    reached = ((decoded / 2 + 0.5).clamp(0, 1) * 255).numpy()

    away = []
    for strength in (0.3, 1.0):
        (picture,) = painter(network, sampler=sampler, strength=strength, steps=10)([painting(1)])
        away.append(float(np.abs(picture - reached).mean()))

    assert away[0] < away[1]


def test_crops_of_two_sides_are_painted_each_at_its_own(network):
    small = Painting(noise(3, 32, 32), np.ones((32, 32), np.bool_), "bag", "", 1)

    pictures = painter(network)([small, painting(), small])

    assert [picture.shape[0] for picture in pictures] == [32, 64, 32]
    np.testing.assert_array_equal(pictures[0], pictures[2])


def test_side_that_the_autoencoder_cannot_halve_is_refused(network):
    odd = Painting(noise(0, 60, 60), np.ones((60, 60), np.bool_), "bag", "", 1)

    with pytest.raises(ConfigError, match=r"`mask.crop_px` is 60; this painter needs a multiple of 8"):
        painter(network)([odd])


def test_strength_that_leaves_no_step_is_refused(network):
    with pytest.raises(ConfigError, match="leaves no step"):
        painter(network, steps=3, strength=0.3)


def test_lcm_refuses_more_steps_than_it_knows(network):
    with pytest.raises(ConfigError, match="the sampler `lcm` knows at most 50"):
        painter(network, steps=51, sampler="lcm")


def test_two_painters_share_the_networks_but_no_scheduler(network):
    one, other = painter(network, sampler="euler"), painter(network, sampler="unipc")
    (before,) = one([painting()])

    other([painting()])

    np.testing.assert_array_equal(one([painting()])[0], before)
    assert one.pipeline.unet is other.pipeline.unet


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_sampler_keeps_prediction_type_zero_snr_and_trailing_steps(sampler):
    scheduler = make_scheduler(sampler, DDIMScheduler(**SCHEDULE).config)
    scheduler.set_timesteps(10)

    assert scheduler.config.prediction_type == "v_prediction"
    assert float(scheduler.timesteps[0]) == 999
    assert float(scheduler.alphas_cumprod[-1]) <= 2**-23  # the first step starts from noise and nothing else
    assert not scheduler.config.get("clip_sample", False)
