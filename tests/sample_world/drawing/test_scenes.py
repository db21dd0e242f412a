"""Drawn scenes: the same every time, and their masks, boxes and captions true."""

import numpy as np
import pytest

from sample_world.drawing.scenes import SceneObject, caption, plate, scene
from sample_world.drawing.shapes import CATEGORIES
from sample_world.drawing.textures import BACKGROUNDS, COLOURS, PATTERNS

SOME = [scene(seed, (300, 260)) for seed in range(40)]


def test_a_seed_and_a_size_always_give_the_same_scene():
    first, second = scene(7, (256, 300)), scene(7, (256, 300))

    np.testing.assert_array_equal(first.rgb, second.rgb)
    assert [caption(thing) for thing in first.objects] == [caption(thing) for thing in second.objects]
    for one, other in zip(first.objects, second.objects, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


def test_other_seeds_give_other_scenes():
    assert not np.array_equal(scene(1, (256, 256)).rgb, scene(2, (256, 256)).rgb)


@pytest.mark.parametrize("size_wh", [(256, 256), (256, 512), (800, 400), (900, 611)])
def test_pictures_and_masks_have_the_size_asked_for(size_wh):
    drawn = scene(3, size_wh)

    assert drawn.rgb.shape == (size_wh[1], size_wh[0], 3)
    assert drawn.rgb.dtype == np.uint8
    assert all(thing.mask.shape == (size_wh[1], size_wh[0]) for thing in drawn.objects)


@pytest.mark.parametrize("size_wh", [(255, 300), (300, 2001), (256, 513)])
def test_a_size_outside_the_limits_is_an_error(size_wh):
    with pytest.raises(ValueError, match="expected sides of 256 to 2000"):
        scene(0, size_wh)


def test_boxes_are_the_bounds_of_the_masks():
    for thing in (thing for drawn in SOME for thing in drawn.objects):
        left, top, right, bottom = map(int, thing.box_xyxy)

        assert thing.mask[top:bottom, left:right].sum() == thing.mask.sum()
        assert thing.mask[top].any()
        assert thing.mask[bottom - 1].any()
        assert thing.mask[:, left].any()
        assert thing.mask[:, right - 1].any()


def test_no_pixel_belongs_to_two_products():
    for drawn in SOME:
        assert (np.sum([thing.mask for thing in drawn.objects], 0) <= 1).all()


def test_no_two_products_of_a_picture_look_the_same():
    for drawn in SOME:
        looks = [(thing.colour, thing.pattern) for thing in drawn.objects]
        assert len(set(looks)) == len(looks)


def test_every_word_of_the_world_is_drawn_sooner_or_later():
    things = [thing for seed in range(400) for thing in scene(seed, (256, 256)).objects]

    assert {thing.category for thing in things} == set(CATEGORIES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.pattern for thing in things} == set(PATTERNS)
    assert {drawn.background for drawn in SOME} == set(BACKGROUNDS)


def test_a_plain_product_has_its_colour_inside_its_mask():
    plain = [(drawn.rgb, thing) for drawn in SOME for thing in drawn.objects if thing.pattern == "plain"]

    assert plain
    for rgb, thing in plain:
        assert np.abs(np.median(rgb[thing.mask], 0) - COLOURS[thing.colour]).max() < 60


def test_a_mug_s_handle_has_a_hole():
    drawn = next(
        drawn
        for drawn in (scene(seed, (400, 400)) for seed in range(900))
        if drawn.objects and drawn.objects[-1].category == "mug"
    )
    mask = drawn.objects[-1].mask

    runs = [np.flatnonzero(np.diff(row.astype(int))).size for row in mask]

    assert max(runs) == 4  # the body, the hole, and the handle


def test_a_caption_leaves_plain_unsaid():
    empty = np.zeros((2, 2), bool)

    assert caption(SceneObject("shirt", "red", "striped", empty, (0, 0, 0, 0))) == "a striped red shirt"
    assert caption(SceneObject("mug", "blue", "plain", empty, (0, 0, 0, 0))) == "a blue mug"


def test_plate_is_the_scene_where_no_lone_product_or_shadow_is():
    seed, size_wh = next(
        (seed, (300, 300)) for seed in range(100) if not any(thing.worn for thing in scene(seed, (300, 300)).objects)
    )

    drawn, bare = scene(seed, size_wh), plate(seed, size_wh)

    product = np.logical_or.reduce([thing.mask for thing in drawn.objects])
    assert (drawn.rgb[product] != bare[product]).any(1).mean() > 0.9
    np.testing.assert_array_equal(drawn.rgb[:20], bare[:20])


def test_plate_keeps_what_is_worn():
    seed = next(seed for seed in range(100) if all(thing.worn for thing in scene(seed, (300, 300)).objects))

    np.testing.assert_array_equal(scene(seed, (300, 300)).rgb, plate(seed, (300, 300)))
