"""The measures of the tasks, on pictures whose answer is known, and one recipe through all of it."""

import numpy as np
import pytest

from pipelines import recipe as recipes
from pipelines.pixels.images import encode
from sample_world.drawing.scenes import HELD_OUT_SEED, bodies, plate, scene
from sample_world.evaluation.cases import Case, Held, held_out_scenes, products
from sample_world.evaluation.tasks import Edited, emptiness, refusals, render, unchanged, unjudged

CASE = products([Held(HELD_OUT_SEED, drawn := scene(HELD_OUT_SEED, (300, 300)), encode(drawn.rgb, "png"))])[0]


def edited(picture):
    return Edited(CASE, "red", {}, picture, CASE.held.scene.rgb, CASE.thing.mask)


def test_product_that_was_moved_is_unchanged_and_one_that_was_repainted_is_not():
    source, mask = CASE.held.scene.rgb, CASE.thing.mask
    moved = np.full((500, 600, 3), 255, np.uint8)
    moved[40:340, 90:390][mask] = source[mask]
    half = source.copy()
    half[: int(np.median(np.flatnonzero(mask.any(1))))] ^= 1

    assert unchanged(edited(source), source) == 1
    assert unchanged(edited(moved), moved) == 1
    assert unchanged(edited(half), half) < 1
    assert unchanged(edited(moved), source ^ np.uint8(1)) == 0


def test_place_of_a_removed_product_is_measured_by_the_scene_without_it():
    case = next(case for case in products(held_out_scenes(5)) if not case.thing.worn)
    source, mask = case.held.scene.rgb, case.thing.mask

    perfect, untouched = (
        emptiness([(Edited(case, "red", {}, picture, source, mask), picture)])[
            "remove: Delta E 2000 to the scene without the product"
        ]
        for picture in (plate(case.held.seed, (mask.shape[1], mask.shape[0])), source)
    )

    assert perfect.value == 0
    assert untouched.value > 10


def test_bodies_are_who_wears_the_products_and_never_a_product():
    worn = [number for number in range(20) if any(one.worn for one in scene(number, (300, 300)).objects)]
    for number in worn:
        drawn, shown = scene(number, (300, 300)), bodies(number, (300, 300))
        assert shown.any()
        assert not any((shown & one.mask).any() for one in drawn.objects)


@pytest.mark.parametrize("name", ["replace", "studio", "dress-on-model"])
def test_unjudged_recipe_paints_one_variant_of_every_step_and_keeps_it(name):
    recipe = unjudged(recipes.load(name))

    assert [step.paint.variants for step in recipe.chain()] == [1] * len(recipe.chain())
    assert recipe.judge.keep == "all"
    assert [step.paint.task for step in recipe.chain()] == [step.paint.task for step in recipes.load(name).chain()]


def test_ready_recipe_renders_a_held_out_scene():
    (one,) = render("studio", [CASE])

    assert one.row["status"] == "ok", one.row["detail"]
    assert one.picture is not None
    assert refusals("studio", [one]) == []
    assert unchanged(one, one.picture) > 0.5
    assert isinstance(one.case, Case)
