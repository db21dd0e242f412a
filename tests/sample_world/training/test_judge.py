"""The judges' trainer, for two steps: it learns, saves, and what it exports answers in words."""

import json

import numpy as np
import pytest
import torch

from sample_world.evaluation.judge import PRODUCT, load_judge
from sample_world.tensors import as_tensor
from sample_world.training.examples import Examples, render_examples
from sample_world.training.judge import JudgeLearner, export_judge, roughened
from sample_world.training.loop import train


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    render_examples(folder, 4)
    return Examples(folder)


def test_judges_learn_and_their_export_answers_in_words(examples, tmp_path):
    learner = JudgeLearner(examples, batch=4)
    before = {name: value.clone() for name, value in learner.models.state_dict().items()}

    assert train(learner, tmp_path / "work", minutes=5, max_steps=2) == 2
    export_judge(tmp_path / "work", tmp_path / "judge")

    after = learner.models.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "judge" / "config.json").read_text())["product"]["pattern"] == list(
        PRODUCT["pattern"]
    )
    assert sum(path.stat().st_size for path in (tmp_path / "judge").iterdir()) < 1_200_000
    (said,) = load_judge(tmp_path / "judge", "product")([examples.arrays["alone"][0]])
    assert said["pattern"] in PRODUCT["pattern"]
    assert said["category"] in PRODUCT["category"]


def test_what_a_trained_judge_sees_is_what_its_export_sees(examples, tmp_path):
    learner = JudgeLearner(examples, batch=4)
    train(learner, tmp_path / "work", minutes=5, max_steps=1)
    export_judge(tmp_path / "work", tmp_path / "judge")

    squares = np.array(examples.arrays["alone"][:2])
    exported = load_judge(tmp_path / "judge", "product").network(as_tensor(squares))
    saved = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=True)
    with torch.no_grad():
        for parameter, average in zip(learner.models.parameters(), saved["ema"]["shadow_params"], strict=True):
            parameter.copy_(average)
        kept = learner.models["product"](as_tensor(squares))

    torch.testing.assert_close(exported["pattern"], kept["pattern"], atol=0.02, rtol=0.02)


def test_loss_falls_when_the_same_few_products_are_seen_again(examples):
    torch.manual_seed(0)
    learner = JudgeLearner(examples, batch=4)
    optimizer = torch.optim.AdamW(learner.models.parameters(), 2e-3)
    losses = []
    for _ in range(25):
        loss = learner.loss(np.random.default_rng(0), 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.6 * losses[0]


def test_roughened_pictures_stay_near_what_they_were():
    square = np.full((128, 128, 3), 128, np.uint8)
    square[:, :64] = 200

    for seed in range(20):
        rough = roughened(square, np.random.default_rng(seed))
        assert rough.shape == square.shape
        assert rough.dtype == np.uint8
        mirrored = rough[:, 64:].mean() > rough[:, :64].mean()
        assert np.abs((rough[:, ::-1] if mirrored else rough).astype(int) - square).mean() < 25
