import json

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from pipelines.errors import InfrastructureError
from pipelines.models.sam import SamSegmenter, load_network
from pipelines.recipe.settings import SegmentSettings
from tests.models.tiny import noise, write_segmenter

IMAGES = [noise(0, 50, 80), noise(1, 64, 64), noise(2, 130, 40)]
BOXES = [
    np.array([[4, 5, 30, 40], [20, 10, 70, 45]], np.float32),
    np.zeros((0, 4), np.float32),
    np.array([[3, 10, 33, 100]], np.float32),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load_network(write_segmenter(tmp_path_factory.mktemp("segmenter")))


def segmenter(network, **settings):
    return SamSegmenter(network, SegmentSettings(checkpoint="embedded:segmenter", **{"threads": 1, **settings}))


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left.masks, right.masks)
        np.testing.assert_array_equal(left.predicted_ious, right.predicted_ious)


def test_no_pictures_have_no_answers(network):
    assert list(segmenter(network)([], [])) == []


def test_every_picture_answers_in_order_and_one_without_boxes_with_an_empty_list(network):
    answers = list(segmenter(network)(IMAGES, BOXES))

    assert [len(answer) for answer in answers] == [2, 0, 1]
    assert answers[0][0].masks.shape == (3, 50, 80)
    assert answers[2][0].masks.shape == (3, 130, 40)
    assert answers[0][0].masks.dtype == np.bool_
    assert answers[0][0].predicted_ious.shape == (3,)


def test_pictures_without_boxes_alone_need_no_network_call(network):
    nothing = np.zeros((0, 4), np.float32)

    assert list(segmenter(network)(IMAGES[:2], [nothing, nothing])) == [[], []]


def test_masks_are_those_of_the_package_s_own_predictor(network):
    predictor = SamPredictor(network)
    predictor.set_image(IMAGES[0])
    masks, ious, _ = predictor.predict(box=BOXES[0][1], multimask_output=True)

    (answer,) = segmenter(network, call_size=1)(IMAGES[:1], BOXES[:1])

    assert (answer[1].masks != masks).mean() < 0.001
    np.testing.assert_allclose(answer[1].predicted_ious, ious, atol=1e-5)


def test_masks_of_points_are_those_of_the_package_s_own_predictor(network):
    points = np.array([[12, 30, 1], [70, 8, 0]], np.float32)
    predictor = SamPredictor(network)
    predictor.set_image(IMAGES[0])
    masks, ious, _ = predictor.predict(points[:, :2], points[:, 2], multimask_output=True)

    ((answer,),) = segmenter(network, call_size=1)(IMAGES[:1], [[points]])

    assert (answer.masks != masks).mean() < 0.001
    np.testing.assert_allclose(answer.predicted_ious, ious, atol=1e-5)


def test_result_is_bit_equal_whatever_the_batch_mates_and_their_order(network):
    segment = segmenter(network, call_size=3)
    alone = [next(segment([image], [boxes])) for image, boxes in zip(IMAGES, BOXES, strict=True)]

    together = list(segment(IMAGES, BOXES))
    backwards = list(segment(IMAGES[::-1] * 2, BOXES[::-1] * 2))

    for number in range(3):
        assert_same(alone[number], together[number])
        assert_same(alone[number], backwards[2 - number])
        assert_same(alone[number], backwards[5 - number])


def test_answers_come_one_picture_at_a_time(network):
    looked_at = []

    class Watched(list):
        def __getitem__(self, number):
            looked_at.append(number)
            return super().__getitem__(number)

    answers = segmenter(network, call_size=1)(Watched(IMAGES), BOXES)
    next(answers)

    assert set(looked_at) == {0}


def test_official_checkpoint_is_known_by_its_name(tmp_path):
    path = tmp_path / "segmenter_b.pth"
    torch.save({}, path)

    with pytest.raises(InfrastructureError, match=r"'segmenter_b.pth' is no official SAM checkpoint"):
        load_network(path)


def test_half_precision_weights_are_computed_in_full(network):
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_config_holds_every_constructor_number(tmp_path):
    folder = write_segmenter(tmp_path / "segmenter")
    config = json.loads((folder / "config.json").read_text())

    assert load_network(folder).image_encoder.img_size == config["image_encoder"]["img_size"] == 64
