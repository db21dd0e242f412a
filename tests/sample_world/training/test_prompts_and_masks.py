"""What the trainers ask of the models: phrases that are true of what they name, and masks as users make them."""

from dataclasses import dataclass

import numpy as np
import pytest

from sample_world.drawing.phrases import relations
from sample_world.training.detector import mirrored
from sample_world.training.examples import Example
from sample_world.training.latents import inpaint_mask
from sample_world.training.words import MAX_TOKENS, background_prompt, paint_prompt, painter_tokenizer


@dataclass(frozen=True)
class Thing:
    category: str
    box_xyxy: tuple[float, float, float, float]
    worn: bool = False


def test_left_and_right_are_said_of_the_outermost_of_a_kind():
    things = [Thing("shoe", (0.7, 0, 0.9, 1)), Thing("mug", (0, 0, 0.1, 1)), Thing("shoe", (0.1, 0, 0.3, 1))]

    assert dict(relations(things)) == {"left shoe": 2, "right shoe": 0}


def test_two_above_each_other_are_neither_left_nor_right():
    assert relations([Thing("shoe", (0.1, 0, 0.5, 0.4)), Thing("shoe", (0.1, 0.6, 0.5, 1))]) == []


@pytest.mark.parametrize(
    ("category", "phrase"),
    [("bag", "bag in her hand"), ("hat", "hat on her head"), ("shirt", "shirt on the person")],
)
def test_the_one_that_is_worn_and_the_one_that_is_not_are_told_apart(category, phrase):
    things = [Thing(category, (0.1, 0, 0.3, 1), worn=True), Thing(category, (0.12, 0, 0.32, 1))]

    assert dict(relations(things)) == {phrase: 0, f"{category} on the floor": 1}


def test_where_two_are_worn_neither_is_the_one_on_the_person():
    things = [Thing("hat", (at, 0, at + 0.1, 1), worn=True) for at in (0.1, 0.5)]

    assert dict(relations(things)) == {"left hat": 0, "right hat": 1}


def test_a_mirror_keeps_a_product_within_the_part_that_its_picture_fills():
    one = Example(0, "mug", "red", "plain", (0.1, 0.2, 0.2, 0.4), 0.1, None, False)

    assert mirrored(one, 0.5).box_xyxy == pytest.approx((0.3, 0.2, 0.4, 0.4))


def test_every_prompt_is_of_known_words_but_the_one_that_is_meant_not_to_be():
    tokenizer, rng = painter_tokenizer(), np.random.default_rng(0)
    said = [paint_prompt("shirt", "red", "striped", rng) for _ in range(300)]
    behind = [background_prompt("wood", "mug", "red", rng) for _ in range(100)]
    unknown = [tokenizer.unk_token_id in tokenizer(one)["input_ids"] for one in said + behind]

    assert 0 < sum(unknown) < 40
    assert not any(unknown[300:])
    assert 10 < said.count("") < 60
    assert "" in behind
    assert all(len(tokenizer(one)["input_ids"]) <= MAX_TOKENS for one in said + behind)
    assert 0.4 < np.mean(["striped" in one for one in said if one]) < 0.8


def test_masks_of_every_kind_hide_something_and_leave_something():
    shown = np.zeros((256, 256), bool)
    shown[90:160, 100:170] = True
    masks = [inpaint_mask(shown, np.random.default_rng(seed)) for seed in range(200)]

    assert all(mask.shape == shown.shape and mask.dtype == bool and 0 < mask.mean() < 1 for mask in masks)
    covers = [bool(mask[shown].all()) for mask in masks]
    touches_the_border = [
        bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()) for mask in masks
    ]
    assert 120 < sum(covers) < 190
    assert 5 < sum(not (mask & shown).any() for mask in masks) < 60
    assert 10 < sum(touches_the_border) < 60
