import numpy as np
import pytest

from pipelines.pixels.crops import from_raw
from pipelines.pixels.images import encode
from pipelines.pixels.masks import from_rle, to_rle
from pipelines.recipe.settings import MaskSettings
from pipelines.stages.mask import Mask
from tests.fakes import a_picture

RGB = a_picture(3, (120, 100))
IMAGE = encode(RGB, "png")


def box_mask(left, top, right, bottom):
    mask = np.zeros((100, 120), bool)
    mask[top:bottom, left:right] = True
    return mask


def masked(*masks, scores=None, given=None, **settings):
    boxes = [[1.0, 1.0, 2.0, 2.0]] * len(masks)
    row = {
        "image_bytes": IMAGE,
        "size_wh": [120, 100],
        "given_mask_rle": None if given is None else to_rle(given),
        "boxes_xyxy": boxes,
        "box_scores": scores or [0.9] * len(masks),
        "object_masks_rle": [to_rle(mask) for mask in masks],
        "reference_bytes": None,
        "scene_bytes": None,
        "paint_colour": None,
    }
    (update,) = Mask(MaskSettings(**{"crop_px": 64, "grow": 0, "denoise_grow": 0, **settings}))([row])
    return update


def test_empty_mask_is_rejected_whether_found_or_given():
    assert masked(box_mask(0, 0, 0, 0)) == {"reason": "empty_mask"}
    assert masked(given=box_mask(0, 0, 0, 0)) == {"reason": "empty_mask"}


def test_mask_over_nearly_everything_is_rejected():
    assert masked(given=box_mask(0, 0, 120, 98))["reason"] == "mask_covers_everything"
    assert "reason" not in masked(given=box_mask(0, 0, 120, 98), max_area=1.0)


def test_given_mask_is_the_allow_mask_as_it_is():
    speckled = box_mask(10, 10, 40, 40) | box_mask(60, 60, 61, 61)

    update = masked(given=speckled, grow=0.2, denoise_grow=0.1)

    np.testing.assert_array_equal(from_rle(update["allow_mask_rle"]), speckled)
    assert (from_rle(update["repaint_mask_rle"]) >= speckled).all()
    assert from_rle(update["repaint_mask_rle"]).sum() > speckled.sum()


def test_found_mask_loses_specks_and_small_holes_and_grows():
    ragged = box_mask(20, 20, 70, 70) & ~box_mask(40, 40, 42, 42) | box_mask(100, 90, 101, 91)

    allow = from_rle(masked(ragged)["allow_mask_rle"])
    grown = from_rle(masked(ragged, grow=0.05)["allow_mask_rle"])

    np.testing.assert_array_equal(allow, box_mask(20, 20, 70, 70))
    assert (grown >= allow).all()
    assert grown.sum() > allow.sum()


@pytest.mark.parametrize(
    ("policy", "expected", "regions"),
    [("highest_score", [1], 1), ("largest", [0], 1), ("all", [0, 1], 1), ("per_instance", [0, 1], 2)],
)
def test_instance_policy_chooses(policy, expected, regions):
    masks = [box_mask(5, 5, 30, 30), box_mask(60, 50, 110, 90)]

    update = masked(*masks, scores=[0.5, 0.8], instances=policy)

    np.testing.assert_array_equal(
        from_rle(update["allow_mask_rle"]), np.logical_or.reduce([masks[i] for i in expected])
    )
    assert len(update["regions_xyxy"]) == len(update["region_rgb"]) == regions


def test_region_shows_the_source_at_the_models_size():
    update = masked(given=box_mask(40, 40, 50, 50))

    left, top, right, bottom = update["regions_xyxy"][0]
    crop = from_raw(update["region_rgb"][0])
    assert crop.shape == (64, 64, 3)
    assert (right - left, bottom - top) == (64, 64)
    np.testing.assert_array_equal(crop, RGB[top:bottom, left:right])
