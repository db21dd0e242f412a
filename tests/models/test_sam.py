import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from pipelines.errors import InfrastructureError
from pipelines.models import Grid
from pipelines.models.checkpoints import EMBEDDED
from pipelines.models.sam import SamProposer, SamSegmenter, load
from pipelines.pixels.masks import bounding_box, from_rle, to_rle
from tests.models.tiny import a_call, noise, write_segmenter

IMAGES = [noise(0, 50, 80), noise(1, 64, 64), noise(2, 130, 40)]
PICTURES = [*IMAGES[:2], noise(2, 33, 20)]
EVERYTHING = Grid(points_per_side=2, crop_layers=0, min_predicted_iou=0, min_stability=0, box_nms_iou=1, box_rounds=0)
BOXES = [
    np.array([[4, 5, 30, 40], [20, 10, 70, 45]], np.float32),
    np.zeros((0, 4), np.float32),
    np.array([[3, 10, 33, 100]], np.float32),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load(write_segmenter(tmp_path_factory.mktemp("segmenter")), a_call())


def segmenter(network, call_size=1):
    return SamSegmenter(network, a_call(call_size))


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
        load(path, a_call())


def test_half_precision_weights_are_computed_in_full(network):
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_config_holds_every_constructor_number(tmp_path):
    folder = write_segmenter(tmp_path / "segmenter")
    config = json.loads((folder / "config.json").read_text())

    assert load(folder, a_call()).image_encoder.img_size == config["image_encoder"]["img_size"] == 64


def proposer(network, **grid):
    return SamProposer(network, a_call(call_size=4), replace(EVERYTHING, **grid))


def assert_same_proposals(one, other):
    assert one.masks_rle == other.masks_rle
    np.testing.assert_array_equal(one.predicted_ious, other.predicted_ious)


def test_no_pictures_have_no_proposals(network):
    assert list(proposer(network)([])) == []


@pytest.mark.parametrize("crop_layers", [0, 1])
@pytest.mark.parametrize("box_rounds", [0, 2])
def test_picture_without_a_good_mask_answers_with_none(network, box_rounds, crop_layers):
    strict = proposer(network, min_predicted_iou=1, box_rounds=box_rounds, crop_layers=crop_layers)

    (answer,) = strict(PICTURES[:1])

    assert answer.masks_rle == ()
    assert answer.predicted_ious.shape == (0,)


def test_proposals_are_those_of_the_package_s_own_generator(network):
    expected = SamAutomaticMaskGenerator(
        network, points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1
    ).generate(PICTURES[1])

    (answer,) = proposer(network)(PICTURES[1:2])

    assert len(expected) == len(answer.masks_rle) > 0
    for rle, one in zip(answer.masks_rle, expected, strict=True):
        np.testing.assert_array_equal(from_rle(rle), one["segmentation"])
    np.testing.assert_allclose(answer.predicted_ious, [one["predicted_iou"] for one in expected], rtol=1e-6)


def test_masks_cut_again_are_the_segmenter_s_for_their_boxes(network):
    (first,) = proposer(network, box_nms_iou=0.7)(PICTURES[1:2])
    boxes = np.array([bounding_box(from_rle(rle)) for rle in first.masks_rle], np.float32)
    (readings,) = segmenter(network)(PICTURES[1:2], [boxes])

    (again,) = proposer(network, box_nms_iou=0.7, box_rounds=1)(PICTURES[1:2])

    assert len(again.masks_rle) == len(boxes) > 0
    for rle, iou, one in zip(again.masks_rle, again.predicted_ious, readings, strict=True):
        assert rle == to_rle(one.masks[int(np.argmax(one.predicted_ious))])
        assert iou == one.predicted_ious.max()


def test_masks_of_a_large_picture_are_those_of_a_copy_that_the_network_sees(network):
    large = np.kron(noise(0, 50, 80), np.ones((8, 8, 1), np.uint8))

    (answer,), (finer,) = proposer(network)([large]), proposer(network, crop_layers=1)([large])

    assert {tuple(rle["size"]) for rle in answer.masks_rle} == {(40, 64)}
    assert {tuple(rle["size"]) for rle in finer.masks_rle} == {(80, 128)}


def test_picture_of_one_pixel_is_no_error(network):
    (answer,) = proposer(network)([noise(0, 1, 1)])

    assert {tuple(rle["size"]) for rle in answer.masks_rle} <= {(1, 1)}


def test_proposals_are_bit_equal_whatever_the_batch_mates_and_their_order(network):
    propose = proposer(network)
    alone = [next(propose([image])) for image in PICTURES]

    together, backwards = list(propose(PICTURES)), list(propose(PICTURES[::-1]))

    for number in range(3):
        assert_same_proposals(alone[number], together[number])
        assert_same_proposals(alone[number], backwards[2 - number])


def test_proposals_come_one_picture_at_a_time(network):
    looked_at = []

    class Watched(list):
        def __iter__(self):
            for number, image in enumerate(super().__iter__()):
                looked_at.append(number)
                yield image

    next(proposer(network)(Watched(PICTURES)))

    assert looked_at == [0]


def test_embedded_segmenter_cuts_a_plain_square_out_of_a_plain_ground():
    picture = np.full((128, 128, 3), 225, np.uint8)
    picture[38:90, 38:90] = (190, 30, 40)
    square = (picture != 225).any(2)
    propose = proposer(
        load(EMBEDDED / "segmenter", a_call()), min_predicted_iou=0.3, box_nms_iou=0.7, points_per_side=3, box_rounds=1
    )

    (answer,) = propose([picture])

    best = max(
        (from_rle(rle) for rle in answer.masks_rle), key=lambda mask: (mask & square).sum() / (mask | square).sum()
    )
    np.testing.assert_allclose(bounding_box(best), (38, 38, 90, 90), atol=4)
