import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from safetensors.torch import save_file

from pipelines.errors import ConfigError, InfrastructureError
from pipelines.models import Painting, Sampling
from pipelines.models.inpainting import InpaintingPainter, load
from pipelines.models.loading import load_painter
from pipelines.models.samplers import SAMPLERS
from pipelines.recipe.settings import Lora
from pipelines.strict import Checkpoint
from tests.models.tiny import a_call, noise, write_lora, write_painter

MASK = np.zeros((64, 64), np.bool_)
MASK[16:48, 8:40] = True
SOURCES = [noise(0, 64, 64), np.full((64, 64, 3), 200, np.uint8)]
ALL = np.ones((64, 64), np.float32)
SAMPLING = Sampling(sampler="ddim", spacing="default", steps=3, guidance=3.0, strength=1.0, clip_skip=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_painter(tmp_path_factory.mktemp("painter"), text_layers=2)


@pytest.fixture(scope="module")
def network(folder):
    return load(folder, a_call(role="painter"))


@pytest.fixture(scope="module")
def blended_network(tmp_path_factory):
    return load(write_painter(tmp_path_factory.mktemp("painter"), channels=4), a_call(role="painter"))


def painter(network, call_size=4, **sampling):
    return InpaintingPainter(network, a_call(call_size, role="painter"), replace(SAMPLING, **sampling))


def painting(number=0, prompt="a red shirt", negative="a bag", seed=7, mask=MASK, start=None, softness=None):
    return Painting(SOURCES[number], mask, prompt, negative, seed, start, softness)


def as_decoded(network, rgb):
    """What a network without any skill can draw of a picture."""
    pixels = torch.from_numpy(rgb.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.inference_mode():
        decoded = network.vae.decode(network.vae.encode(pixels).latent_dist.mode()).sample[0].permute(1, 2, 0)
    return ((decoded / 2 + 0.5).clamp(0, 1) * 255).numpy()


def away(picture, other):
    return float(np.abs(picture.astype(np.float32) - other).mean())


MATES = [
    painting(),
    painting(1, "a blue bag", seed=8),
    painting(0, "striped shoe", seed=2**62),
    painting(1, seed=9),
    painting(0, "photo", "", seed=10),
    painting(0, "a blue bag", "shoe", seed=11),
]


def library_s(folder, one, steps, guidance, strength):
    """What diffusers' own pipeline makes of a painting's picture, mask and words, in the same memory layout."""
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False, low_cpu_mem_usage=False
    )
    for network in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        network.to(memory_format=torch.channels_last)
    answer = pipeline(
        prompt=one.prompt,
        negative_prompt=one.negative_prompt,
        image=Image.fromarray(one.rgb),
        mask_image=Image.fromarray(one.inpaint_mask),
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=guidance,
        strength=strength,
        generator=torch.Generator("cpu").manual_seed(one.seed),
        output_type="np",
    )
    return (answer.images[0] * 255).round().astype(np.uint8)


@pytest.mark.parametrize("strength", [1.0, 0.7])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("number", [0, 1])
def test_picture_is_bit_equal_to_the_library_s_own_pipeline(folder, network, number, guidance, strength, monkeypatch):
    # The library draws the masked picture's latent from its distribution, where the painter takes the mode.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda drawn, generator=None: drawn.mode())
    expected = library_s(folder, painting(number), 4, guidance, strength)

    paint = painter(network, steps=4, guidance=guidance, strength=strength, call_size=1)
    (picture,) = paint([painting(number)])

    assert picture.std() > 1
    np.testing.assert_array_equal(picture, expected)


def test_picture_of_nan_is_none_and_its_neighbour_is_not(folder):
    network = load(folder, a_call(role="painter"))
    decode = network.vae.decode

    def overflowing(latents, **named):
        (pictures,) = decode(latents, **named)
        pictures[0, 0, 3, 5] = torch.nan
        return (pictures,)

    network.vae.decode = overflowing

    black, picture = painter(network, call_size=2)([painting(), painting(seed=8)])

    assert black is None
    assert picture.std() > 0


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
    paint = painter(network, sampler=sampler, strength=strength, steps=8)  # enough for a step of the third order
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
    reached = as_decoded(network, SOURCES[1])

    (weak,), (full,) = (
        painter(network, sampler=sampler, strength=strength, steps=10)([painting(1)]) for strength in (0.3, 1.0)
    )

    assert away(weak, reached) < away(full, reached)


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
@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_softness_of_one_everywhere_changes_no_bit(network, sampler, strength):
    paint = painter(network, sampler=sampler, strength=strength, steps=5)

    plain, soft = paint([painting(), painting(softness=ALL)])

    np.testing.assert_array_equal(soft, plain)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_softness_of_zero_gives_back_what_the_autoencoder_can_draw_of_the_source(network, sampler):
    (kept,) = painter(network, sampler=sampler, steps=5)([painting(softness=0 * ALL)])

    np.testing.assert_allclose(kept, as_decoded(network, SOURCES[0]), atol=1)


def test_softness_of_zero_holds_a_part_while_the_rest_is_painted(network, blended_network):
    half = ALL.copy()
    half[:, :32] = 0
    for one in (network, blended_network):
        drawn = []
        with one.vae.post_quant_conv.register_forward_pre_hook(lambda _, given, drawn=drawn: drawn.append(given[0])):
            painter(one, steps=5)([painting(1, mask=np.ones_like(MASK), softness=half)])

        source = one.vae.encode(torch.from_numpy(SOURCES[1] / np.float32(127.5) - 1).permute(2, 0, 1)[None])
        differences = (drawn[0][0] - source.latent_dist.mode()[0]).abs().mean((0, 1))
        assert (differences[:4] < 1e-5).all()
        assert (differences[4:] > 0.1).all()


@pytest.mark.parametrize("sampler", ["ddim", "heun", "unipc"])
def test_less_softness_stays_nearer_to_the_source(network, sampler):
    reached = as_decoded(network, SOURCES[1])
    levels = [np.float32(level) * ALL for level in (0, 0.2, 0.5, 0.8, 1)]

    pictures = painter(network, sampler=sampler, steps=10)([painting(1, softness=level) for level in levels])

    distances = [away(picture, reached) for picture in pictures]
    assert distances == sorted(distances)
    assert len(set(distances)) == 5


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_soft_picture_is_bit_equal_whatever_its_neighbours(network, sampler):
    slope = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(64, 0)
    soft = painting(softness=slope)
    paint = painter(network, sampler=sampler, strength=0.7, steps=5)
    (alone,) = paint([soft])

    mates = paint([*MATES, soft, painting(1, softness=0 * ALL)])

    np.testing.assert_array_equal(mates[6], alone)
    np.testing.assert_array_equal(mates[0], paint([MATES[0]])[0])


def test_start_is_what_noise_is_put_on_below_full_strength(network):
    mates = [painting(), painting(start=SOURCES[0]), painting(start=255 - SOURCES[0])]

    weak, full = painter(network, strength=0.5, steps=4)(mates), painter(network)(mates)

    np.testing.assert_array_equal(weak[0], weak[1])
    assert not np.array_equal(weak[0], weak[2])
    np.testing.assert_array_equal(full[0], full[2])


def test_start_outside_the_mask_says_nothing(network, blended_network):
    other = SOURCES[0].copy()
    other[~MASK] = 255 - other[~MASK]
    for one in (network, blended_network):
        mine, same = painter(one, strength=0.5, steps=4)([painting(), painting(start=other)])

        np.testing.assert_array_equal(mine, same)


def test_softness_holds_the_start_even_at_full_strength(network):
    mask, start = np.ones_like(MASK), SOURCES[1]

    (kept,) = painter(network)([painting(mask=mask, start=start, softness=0 * ALL)])

    np.testing.assert_allclose(kept, as_decoded(network, start), atol=1)


def test_skipping_a_layer_is_the_text_model_without_it(folder, network):
    shorter = load(folder, a_call(role="painter"))
    del shorter.text_encoder.encoder.layers[1]
    (whole,) = painter(network)([painting()])

    (skipped,) = painter(network, clip_skip=1)([painting()])

    np.testing.assert_array_equal(skipped, painter(shorter)([painting()])[0])
    assert not np.array_equal(skipped, whole)


def test_skipping_every_layer_is_refused(network):
    with pytest.raises(
        ConfigError, match=r"`paint.clip_skip` is 2; this painter's text model has 2 layers, so .* 0 to 1"
    ):
        painter(network, clip_skip=2)


def lora(path, weight=1.0):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Checkpoint(uri=str(path), sha256=sha256), weight


def painted_with(folder, *loras):
    paint = load_painter(a_call(2, role="painter", path=folder), SAMPLING, loras)
    return paint([painting()])[0]


def test_lora_changes_the_picture_by_its_weight_and_only_where_it_is_named(folder, tmp_path):
    file = write_lora(tmp_path / "style.safetensors", folder)
    without = painted_with(folder)

    full, weak, none = (painted_with(folder, lora(file, weight)) for weight in (1.0, 0.1, 0.0))

    np.testing.assert_array_equal(none, without)
    assert 0 < away(weak, without) < away(full, without)
    np.testing.assert_array_equal(painted_with(folder), without)  # in the same process, after the others
    np.testing.assert_array_equal(painted_with(folder, lora(file)), full)


def test_loras_add_up(folder, tmp_path):
    file = write_lora(tmp_path / "style.safetensors", folder)

    halves, whole = painted_with(folder, lora(file, 0.5), lora(file, 0.5)), painted_with(folder, lora(file))

    np.testing.assert_allclose(halves.astype(int), whole, atol=1)


def test_lora_of_another_family_is_refused(folder, tmp_path):
    file = tmp_path / "other.safetensors"
    save_file({"transformer.blocks.0.lora_A.weight": torch.zeros(2, 2)}, file)

    with pytest.raises(ConfigError, match=r"the LoRA .*other.safetensors changes no layer of this painter's UNet"):
        painted_with(folder, lora(file))


def test_lora_with_another_hash_is_refused(folder, tmp_path):
    file = write_lora(tmp_path / "style.safetensors", folder)
    pinned = lora(file)
    file.write_bytes(b"another")

    with pytest.raises(InfrastructureError, match="fetch it again, or pin the new hash"):
        painted_with(folder, pinned)


@pytest.mark.parametrize("uri", ["style.safetensors", "org/style", "style.pt#sha256=" + "0" * 64])
def test_lora_that_is_not_a_pinned_safetensors_file_is_refused(uri):
    with pytest.raises(ValueError, match=r"is not a pinned `.safetensors` file"):
        Lora(checkpoint=uri)
