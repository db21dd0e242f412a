import yaml

from jobs.try_one.options import recipe_of

GIVEN = {"name": "own", "models": "embedded", "prompts": {"find": "mug", "paint": "a red mug"}}


def written(folder, **sections):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**GIVEN, **sections}))
    return str(path)


def test_a_try_keeps_every_variant_that_passes_the_recipe_s_thresholds(tmp_path):
    recipe = recipe_of(written(tmp_path, judge={"keep_best": 1, "max_ring_error": 9.0}), variants=5)

    assert (recipe.judge.keep, recipe.judge.keep_best, recipe.judge.max_ring_error) == ("best", 5, 9.0)


def test_a_recipe_that_keeps_all_can_be_tried(tmp_path):
    recipe = recipe_of(written(tmp_path, judge={"keep": "all"}), variants=5)

    assert (recipe.judge.keep, recipe.paint.variants) == ("all", 5)
