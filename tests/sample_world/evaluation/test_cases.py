import numpy as np
import pytest

from pipelines import recipe as recipes
from sample_world.drawing.scenes import HELD_OUT_SEED
from sample_world.evaluation.cases import held_out, held_out_scenes, lonely_products, products
from sample_world.evaluation.detection import Answered, described, named, nowhere, related
from sample_world.evaluation.likeness import look_alike
from sample_world.evaluation.orders import (
    nothing_at_all,
    other_backgrounds,
    other_categories,
    products_anew,
    similar,
    with_and_without,
)

RECIPE = recipes.load("replace")


@pytest.fixture(scope="module")
def scenes():
    return held_out_scenes(30)


def test_scenes_are_held_out_and_the_same_every_time(scenes):
    assert scenes[0].seed == HELD_OUT_SEED
    np.testing.assert_array_equal(scenes[3].scene.rgb, held_out(HELD_OUT_SEED + 3).scene.rgb)


def test_absent_category_is_not_in_the_scene(scenes):
    for held in scenes:
        asked = nowhere(RECIPE, held)
        assert asked.thing is None
        assert asked.phrase not in {thing.category for thing in held.scene.objects}


def test_a_category_is_asked_for_only_where_it_stands_once(scenes):
    for asked in named(RECIPE, scenes):
        assert [thing.category for thing in asked.held.scene.objects].count(asked.phrase) == 1


def test_attributes_are_true_of_one_product_alone(scenes):
    asked = [one for held in scenes for one in described(held)]

    assert asked
    for one in asked:
        fitting = [
            thing
            for thing in one.held.scene.objects
            if set(one.phrase.split()) <= {thing.category, thing.colour, thing.pattern}
        ]
        assert fitting == [one.thing]


def test_places_are_asked_for_only_where_a_category_stands_twice(scenes):
    asked = [one for held in scenes for one in related(held)]

    assert asked
    for one in asked:
        assert [thing.category for thing in one.held.scene.objects].count(one.thing.category) > 1


def test_answer_is_right_by_its_box_and_where_nothing_was_to_find_by_silence(scenes):
    thing = scenes[0].scene.objects[0]
    beside = (0.0, 0.0, 1.0, 1.0)

    assert Answered(scenes[0], "", thing, thing.box_xyxy).is_right
    assert not Answered(scenes[0], "", thing, beside).is_right
    assert not Answered(scenes[0], "", thing, None).is_right
    assert Answered(scenes[0], "", None, None).is_right
    assert not Answered(scenes[0], "", None, beside).is_right


def test_look_alike_differs_in_one_word_and_wears_the_same_cloth(scenes):
    thing = scenes[0].scene.objects[0]

    by_pattern, by_colour = look_alike(thing, 0), look_alike(thing, 1)

    assert (by_pattern.colour, by_pattern.cloth_seed) == (thing.colour, thing.cloth_seed)
    assert by_pattern.pattern != thing.pattern
    assert by_colour.pattern == thing.pattern
    assert by_colour.colour != thing.colour


def test_similar_categories_have_like_proportions():
    assert {"jacket"} <= set(similar("shirt"))
    assert "hat" not in similar("dress")


def test_products_anew_ask_for_another_look_in_the_recipes_words(scenes):
    order, *_ = products_anew(RECIPE, products(scenes))

    assert order.words["colour"] != order.thing.colour
    assert order.words["pattern"] != order.thing.pattern
    assert order.prompt == RECIPE.prompts.paint[0].format(**order.words)
    assert order.row()["given_mask_rle"] is None


def test_other_category_is_asked_in_a_box_round_the_product(scenes):
    orders = other_categories(RECIPE, products(scenes), 3)

    assert len(orders) == 3
    for order in orders:
        assert order.words["category"] != order.thing.category
        assert not order.thing.worn
        assert order.given_mask[order.thing.mask].all()


def test_negative_prompt_is_all_that_differs(scenes):
    base, away = with_and_without(products(scenes)[:2], "striped")

    assert [(one.prompt, one.seed) for one in base] == [(one.prompt, one.seed) for one in away]
    assert {one.negative_prompt for one in base} == {""}
    assert {one.negative_prompt for one in away} == {"striped"}


def test_background_order_leaves_the_product_alone():
    (order,) = other_backgrounds(RECIPE, 1)

    assert len(order.held.scene.objects) == 1
    assert order.words["background"] != order.held.scene.background
    np.testing.assert_array_equal(order.given_mask, ~order.held.scene.objects[0].mask)
    assert order.given_mask.mean() <= RECIPE.mask.max_area


def test_lonely_products_are_as_many_as_asked_for():
    assert len(list(lonely_products(2, 0.1))) == 2
    assert list(lonely_products(1, 1.0)) == []


def test_bare_box_touches_no_product(scenes):
    orders = nothing_at_all(scenes, 5)

    assert orders
    for order in orders:
        assert order.given_mask.any()
        assert not any((order.given_mask & thing.mask).any() for thing in order.held.scene.objects)
