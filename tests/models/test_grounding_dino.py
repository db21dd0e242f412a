from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil, GroundingDinoProcessor

from pipelines.models import Found
from pipelines.models.grounding_dino import GroundingDino, caption, load, own_size_wh, padded_length, phrases
from pipelines.pixels.crops import letterbox
from tests.models.tiny import a_call, bert_tokenizer, noise, write_detector

IMAGES = [noise(0, 64, 64), noise(1, 90, 40), noise(2, 30, 120), noise(3, 200, 150), noise(4, 64, 64)]
SPECIAL = (101, 102, 1012)  # [CLS], [SEP] and the full stop
PROMPTS = ["a shirt", "Red bag. Shoe", " ".join(["a striped blue bag"] * 4), "shirt", "photo."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("detector"))


@pytest.fixture(scope="module")
def network(folder):
    return load(folder, a_call())


@pytest.fixture(scope="module")
def own_shape_folder(tmp_path_factory):
    return write_detector(tmp_path_factory.mktemp("own-shape"), own_shape=True)


def detector(network, call_size=1, **sizing):
    return GroundingDino(network, a_call(call_size), **sizing)


def assert_same(one: Found, other: Found) -> None:
    np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert one.labels == other.labels


def library_s(folder, picture, text, span_wh, image) -> Found:
    """What transformers' own processor, model and post-processing answer, before its thresholds.

    Two differences are meant: full stops and the frame of a caption count for no box, and boxes end with the picture.
    """
    processor = GroundingDinoProcessor(GroundingDinoImageProcessorPil.from_pretrained(folder), bert_tokenizer())
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    inputs = processor(images=picture, text=text, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    ids = inputs["input_ids"][0].tolist()
    outputs.logits[..., [place for place, one in enumerate(ids) if one in SPECIAL]] = -torch.inf
    (answer,) = processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=0.0, target_sizes=[(span_wh[1], span_wh[0])]
    )
    height, width = image.shape[:2]
    boxes = np.clip(answer["boxes"].numpy(), 0, [width, height, width, height])
    scores = answer["scores"].numpy()
    order = np.argsort(-scores, kind="stable")
    order = order[(boxes[order, 2] > boxes[order, 0]) & (boxes[order, 3] > boxes[order, 1])]
    words = outputs.logits[0, [*map(int, order)]]
    red_bag_before_shoe = (words[:, 1:3].amax(1) >= words[:, 4]).tolist()  # [CLS] red bag . shoe . [SEP]
    return Found(boxes[order], scores[order], tuple("red bag" if one else "shoe" for one in red_bag_before_shoe))


def assert_equal_but_for_rounding(found: Found, expected: Found) -> None:
    assert len(found.scores) > 3
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3)
    assert found.labels == expected.labels


@pytest.mark.parametrize("image", IMAGES[:4])
def test_answer_is_that_of_the_library_s_own_processor_and_model_on_the_same_square(folder, network, image):
    square, scale = letterbox(image, 64)
    expected = library_s(folder, square, "red bag . shoe .", (64 / scale, 64 / scale), image)

    (found,) = detector(network, call_size=1)([image], ["Red bag. Shoe"])

    assert_equal_but_for_rounding(found, expected)


@pytest.mark.parametrize("image", IMAGES)
def test_picture_in_its_own_shape_is_answered_as_by_the_library_from_file_to_box(own_shape_folder, image):
    expected = library_s(own_shape_folder, image, "red bag . shoe .", image.shape[1::-1], image)

    detect = detector(load(own_shape_folder, a_call()), as_trained=True, call_size=1)
    (found,) = detect([image], ["Red bag. Shoe"])

    assert_equal_but_for_rounding(found, expected)


def test_own_shape_leaves_a_result_bit_equal_whatever_the_batch_mates(own_shape_folder):
    detect = detector(load(own_shape_folder, a_call()), as_trained=True, call_size=2)

    together = detect(IMAGES, PROMPTS)

    for image, prompt, found in zip(IMAGES, PROMPTS, together, strict=True):
        assert_same(detect([image], [prompt])[0], found)


def test_official_sizing_gives_the_shortest_side_800_and_the_longest_at_most_1333():
    sizes = [(1200, 800), (400, 600), (3000, 3000), (4000, 1000)]

    assert [own_size_wh(size, 800, 1333) for size in sizes] == [(1200, 800), (800, 1200), (800, 800), (1333, 333)]


def test_side_is_a_setting_and_the_square_is_kept_where_no_sizing_is_said(own_shape_folder):
    network = load(own_shape_folder, a_call())
    shown = []

    def answer(pixels, captions, ids, real):
        shown.append(tuple(pixels.shape[2:]))
        return torch.zeros(1, 1, 64), torch.zeros(1, 1, 4)

    for settings in ({}, {"side_px": 96}, {"as_trained": True}, {"as_trained": True, "side_px": 96}):
        detector(replace(network, answer=answer), call_size=1, **settings)([noise(0, 60, 90)], ["shirt"])

    assert shown == [(64, 64), (96, 96), (64, 96), (96, 144)]


def test_model_trained_in_a_square_keeps_it(network):
    assert detector(network, as_trained=True).longest_px is None


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
