"""Trainers, for two steps each: they learn something, save, and go on where they stopped.

A processor without bfloat16 takes three to six times as long for a step in it: a test that is not of it does without.
"""

import json

import pytest
import torch
from diffusers import AutoencoderKL

from sample_world.training.detector import DetectorLearner
from sample_world.training.embedded import export, train
from sample_world.training.encoder import EncoderLearner
from sample_world.training.examples import Examples, render_examples
from sample_world.training.judge import JudgeLearner
from sample_world.training.latents import encode_latents
from sample_world.training.loop import begin_with, load_ema
from sample_world.training.loop import train as run
from sample_world.training.painter import PainterLearner
from sample_world.training.segmenter import SegmenterLearner
from sample_world.training.vae import CONFIG, VaeLearner, standardise


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    render_examples(folder / "examples", 2)
    return folder


def a_painter(examples, folder):
    narrow = AutoencoderKL(**CONFIG | {"block_out_channels": (8, 8, 8, 8)}).eval()
    return PainterLearner(examples, encode_latents(examples, narrow, folder / "latents", minutes=1), batch=2)


LEARNERS = {
    "vae": lambda examples, _: VaeLearner(examples, batch=2),
    "detector": lambda examples, _: DetectorLearner(examples, batch=2),
    "segmenter": lambda examples, _: SegmenterLearner(examples, batch=2),
    "encoder": lambda examples, _: EncoderLearner(examples, batch=4),
    "judge": lambda examples, _: JudgeLearner(examples, batch=4),
    "painter": a_painter,
}


def in_float32(learner):
    learner.autocast = False
    return learner


def test_an_unknown_part_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no part 'unet'; expected `all` or some of vae, detector"):
        train(["unet"], tmp_path)


def test_rendered_examples_are_opened_and_not_rendered_again(work):
    before = (work / "examples" / "index.json").stat().st_mtime_ns

    examples = render_examples(work / "examples", 2)

    assert (work / "examples" / "index.json").stat().st_mtime_ns == before
    assert len(examples.of_scene) == 2
    assert sum(map(len, examples.of_scene)) == len(examples.objects) > 0


@pytest.mark.parametrize("name", LEARNERS)
def test_a_trainer_saves_and_goes_on_from_its_own_checkpoint(name, work, tmp_path):
    examples = Examples(work / "examples")
    folder = tmp_path / name

    assert run(LEARNERS[name](examples, work), folder, minutes=5, max_steps=1) == 1
    assert run(in_float32(LEARNERS[name](examples, work)), folder, minutes=5, max_steps=2) == 2

    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert saved["step"] == len(saved["losses"]) == 2
    assert (folder / "loss.png").stat().st_size > 0


def test_what_made_the_weights_is_noted_beside_them(work, tmp_path):
    run(EncoderLearner(Examples(work / "examples"), batch=4), work / "encoder", minutes=5, max_steps=1)

    export("encoder", work, tmp_path)

    noted = json.loads((tmp_path / "training.json").read_text())["encoder"]
    assert noted["steps"] == 1
    assert noted["settings"]["learning_rate"] == EncoderLearner.learning_rate
    assert (tmp_path / "encoder" / "model.safetensors").exists()


def test_a_broken_run_and_an_unbroken_one_learn_the_same(work, tmp_path):
    examples = Examples(work / "examples")
    torch.manual_seed(0)
    first = in_float32(EncoderLearner(examples, batch=4))
    started = {name: value.clone() for name, value in first.models.state_dict().items()}
    run(first, tmp_path / "unbroken", minutes=1000, max_steps=2)

    second = in_float32(EncoderLearner(examples, batch=4))
    second.models.load_state_dict(started)
    run(second, tmp_path / "broken", minutes=1000, max_steps=1)
    third = in_float32(EncoderLearner(examples, batch=4))
    run(third, tmp_path / "broken", minutes=1000, max_steps=2)

    load_ema(tmp_path / "unbroken", first.models)
    load_ema(tmp_path / "broken", third.models)
    for one, other in zip(first.models.parameters(), third.models.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_earlier_weights_fill_what_fits_and_a_grown_table_keeps_its_new_rows():
    model = torch.nn.ModuleDict({"words": torch.nn.Embedding(5, 2), "head": torch.nn.Linear(2, 3)})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    earlier = {"words.weight": torch.ones(4, 2), "head.weight": torch.ones(3, 7), "head.bias": torch.ones(3)}

    begin_with(model, earlier)

    assert (model["words"].weight[:4] == 1).all()
    assert torch.equal(model["words"].weight[4:], before["words.weight"][4:])
    assert torch.equal(model["head"].weight, before["head.weight"])
    assert (model["head"].bias == 1).all()


@torch.no_grad()
def test_standard_latents_decode_to_what_they_were():
    vae, pictures = AutoencoderKL(**CONFIG).eval(), torch.rand(4, 3, 64, 64) * 2 - 1
    before = vae.decode(vae.encode(pictures).latent_dist.mode()).sample

    standardise(vae, pictures)

    latents = vae.encode(pictures).latent_dist.mode()
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(vae.decode(latents).sample, before, atol=1e-4, rtol=1e-3)
