from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.models import Found
from pipelines.models.grounding_dino import GroundingDino, caption, load_network, padded_length, phrases
from pipelines.settings import DetectSettings
from tests.models.tiny import noise, write_detector

IMAGES = [noise(0, 64, 64), noise(1, 90, 40), noise(2, 30, 120), noise(3, 200, 150), noise(4, 64, 64)]
PROMPTS = ["a shirt", "Red bag. Shoe", " ".join(["a striped blue bag"] * 4), "shirt", "photo."]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load_network(write_detector(tmp_path_factory.mktemp("detector")))


def detector(network, **settings):
    return GroundingDino(
        network, DetectSettings(checkpoint="embedded:detector", **{"min_score": 0.0, "threads": 1, **settings})
    )


def assert_same(one: Found, other: Found) -> None:
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert one.labels == other.labels


def test_no_pictures_have_no_answers(network):
    assert detector(network)([], []) == []


@pytest.mark.parametrize("prompt", ["", " . ", "?"])
def test_prompt_without_a_word_finds_nothing(network, prompt):
    (found,) = detector(network)([IMAGES[0]], [prompt])

    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == (0,)
    assert found.labels == ()


def test_boxes_come_best_first_within_the_picture_and_labelled_with_a_phrase(network):
    answers = detector(network)(IMAGES, PROMPTS)

    for image, prompt, found in zip(IMAGES, PROMPTS, answers, strict=True):
        height, width = image.shape[:2]
        assert len(found.scores) == len(found.boxes_xyxy) == len(found.labels) > 0
        assert (np.diff(found.scores) <= 0).all()
        assert (found.boxes_xyxy[:, :2] < found.boxes_xyxy[:, 2:]).all()
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= [width, height, width, height]).all()
        assert set(found.labels) <= set(phrases(prompt))
        assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32


def test_result_is_bit_equal_whatever_the_batch_mates_and_their_order(network):
    detect = detector(network, call_size=4)
    alone = [detect([image], [prompt])[0] for image, prompt in zip(IMAGES, PROMPTS, strict=True)]

    together = detect(IMAGES, PROMPTS)
    backwards = detect(IMAGES[::-1], PROMPTS[::-1])[::-1]
    loud = detect([IMAGES[0], *[np.full((64, 64, 3), 255, np.uint8)] * 6], ["a shirt", *["red blue . bag"] * 6])

    for one, other, third in zip(alone, together, backwards, strict=True):
        assert_same(one, other)
        assert_same(one, third)
    assert_same(alone[0], loud[0])


def test_other_prompt_or_picture_gives_another_answer(network):
    detect = detector(network)

    shirt, bag, other = detect([IMAGES[0], IMAGES[0], IMAGES[4]], ["shirt", "bag", "shirt"])

    assert not np.array_equal(shirt.scores, bag.scores)
    assert not np.array_equal(shirt.boxes_xyxy, other.boxes_xyxy)


def test_boxes_below_the_least_score_are_left_out(network):
    (every,) = detector(network)([IMAGES[0]], ["shirt"])
    least = float(every.scores[2])

    (some,) = detector(network, min_score=least)([IMAGES[0]], ["shirt"])

    np.testing.assert_array_equal(some.scores, every.scores[every.scores >= least])


def test_box_beyond_the_picture_is_clipped_and_one_in_the_padding_is_dropped(network):
    boxes = torch.tensor([[[0.25, 0.5, 0.6, 2.0], [0.9, 0.5, 0.1, 0.5]]])  # the picture is the left half of the square
    fixed = replace(network, answer=lambda pixels, captions, ids, real: (torch.ones(1, 2, 64), boxes))

    (found,) = detector(fixed, call_size=1)([noise(0, 200, 100)], ["shirt"])

    np.testing.assert_allclose(found.boxes_xyxy, [[0, 0, 100, 200]], atol=1e-4)


def test_label_is_the_phrase_whose_words_score_highest(network):
    logits = torch.full((1, 1, 64), -4.0)
    logits[0, 0, 4] = 2.0  # [CLS] red bag . shoe . [SEP]
    logits[0, 0, 3] = 9.0  # the full stop counts for no phrase
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5]]])
    fixed = replace(network, answer=lambda pixels, captions, ids, real: (logits, boxes))

    (found,) = detector(fixed, call_size=1)([IMAGES[0]], ["Red bag. Shoe"])

    assert found.labels == ("shoe",)
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-2))], rtol=1e-6)


def test_prompt_becomes_phrases_that_end_with_a_full_stop():
    assert phrases(" A  Shirt.red bag. ") == ("a shirt", "red bag")
    assert caption(phrases("A shirt")) == "a shirt ."
    assert caption(phrases("A shirt. Bag .")) == "a shirt . bag ."


def test_prompt_is_padded_to_a_length_of_its_own():
    assert [padded_length(tokens, 48) for tokens in (3, 16, 17, 40, 99)] == [16, 16, 32, 48, 48]
