import numpy as np
import pytest
from segment_anything import SamAutomaticMaskGenerator

from pipelines.models.loading import EMBEDDED
from pipelines.models.sam import SamSegmenter, load_network
from pipelines.models.sam_automatic import SamProposer
from pipelines.pixels.masks import bounding_box, from_rle, to_rle
from pipelines.recipe.settings import FindSettings, SegmentSettings
from tests.models.tiny import noise, write_segmenter

EVERYTHING = {"min_predicted_iou": 0, "min_stability": 0, "box_nms_iou": 1, "points_per_side": 2}
IMAGES = [noise(0, 50, 80), noise(1, 64, 64), noise(2, 33, 20)]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return load_network(write_segmenter(tmp_path_factory.mktemp("segmenter")))


def proposer(network, **settings):
    given = {"checkpoint": "embedded:segmenter", "encoder": "embedded:encoder", "call_size": 4, **EVERYTHING}
    return SamProposer(network, FindSettings(**{**given, **settings}))


def assert_same(one, other):
    assert one.masks_rle == other.masks_rle
    np.testing.assert_array_equal(one.predicted_ious, other.predicted_ious)


def test_no_pictures_have_no_answers(network):
    assert list(proposer(network)([])) == []


@pytest.mark.parametrize("crop_layers", [0, 1])
@pytest.mark.parametrize("box_rounds", [0, 2])
def test_picture_without_a_good_mask_answers_with_none(network, box_rounds, crop_layers):
    strict = proposer(network, min_predicted_iou=1, box_rounds=box_rounds, crop_layers=crop_layers)

    (answer,) = strict(IMAGES[:1])

    assert answer.masks_rle == ()
    assert answer.predicted_ious.shape == (0,)


def test_masks_are_those_of_the_package_s_own_generator(network):
    expected = SamAutomaticMaskGenerator(
        network, points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1
    ).generate(IMAGES[1])

    (answer,) = proposer(network)(IMAGES[1:2])

    assert len(expected) == len(answer.masks_rle) > 0
    for rle, one in zip(answer.masks_rle, expected, strict=True):
        np.testing.assert_array_equal(from_rle(rle), one["segmentation"])
    np.testing.assert_allclose(answer.predicted_ious, [one["predicted_iou"] for one in expected], rtol=1e-6)


def test_masks_cut_again_are_the_segmenter_s_for_their_boxes(network):
    (first,) = proposer(network, box_nms_iou=0.7)(IMAGES[1:2])
    boxes = np.array([bounding_box(from_rle(rle)) for rle in first.masks_rle], np.float32)
    segmenter = SamSegmenter(network, SegmentSettings(checkpoint="embedded:segmenter", call_size=1))
    (readings,) = segmenter(IMAGES[1:2], [boxes])

    (again,) = proposer(network, box_nms_iou=0.7, box_rounds=1)(IMAGES[1:2])

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


def test_answer_is_bit_equal_whatever_the_batch_mates_and_their_order(network):
    propose = proposer(network)
    alone = [next(propose([image])) for image in IMAGES]

    together, backwards = list(propose(IMAGES)), list(propose(IMAGES[::-1]))

    for number in range(3):
        assert_same(alone[number], together[number])
        assert_same(alone[number], backwards[2 - number])


def test_answers_come_one_picture_at_a_time(network):
    looked_at = []

    class Watched(list):
        def __iter__(self):
            for number, image in enumerate(super().__iter__()):
                looked_at.append(number)
                yield image

    next(proposer(network)(Watched(IMAGES)))

    assert looked_at == [0]


def test_embedded_segmenter_cuts_a_plain_square_out_of_a_plain_ground():
    picture = np.full((128, 128, 3), 225, np.uint8)
    picture[38:90, 38:90] = (190, 30, 40)
    square = (picture != 225).any(2)
    propose = proposer(
        load_network(EMBEDDED / "segmenter"), min_predicted_iou=0.3, box_nms_iou=0.7, points_per_side=3, box_rounds=1
    )

    (answer,) = propose([picture])

    best = max(
        (from_rle(rle) for rle in answer.masks_rle), key=lambda mask: (mask & square).sum() / (mask | square).sum()
    )
    np.testing.assert_allclose(bounding_box(best), (38, 38, 90, 90), atol=4)
