import pytest

from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.graph import build
from pipelines.recipe.templates import template_columns
from pipelines.strict import Checkpoint, Settings

GIVEN = {"name": "x", "models": "embedded", "prompts": {"paint": "a {colour} {category}"}}


def refused(**sections):
    with pytest.raises(ConfigError) as caught:
        recipes.parse({**GIVEN, **sections})
    return str(caught.value)


def test_smallest_recipe_is_filled_in_from_its_model_set():
    recipe = recipes.parse(GIVEN)

    assert recipe.paint.checkpoint.uri == "embedded:painter"
    assert recipe.mask.crop_px == 256
    assert recipe.uses_embedded()


def test_given_setting_wins_over_the_model_set():
    assert recipes.parse({**GIVEN, "paint": {"steps": 7}}).paint.steps == 7


OWN = {
    "models": "own",
    "detect": {"checkpoint": "/w/detector"},
    "segment": {"checkpoint": "/w/sam"},
    "paint": {"checkpoint": "/w/painter"},
    "score": {"checkpoint": "/w/clip"},
}


@pytest.mark.parametrize("models", [{}, OWN])
def test_one_picture_costs_one_picture_with_every_set_of_models(models):
    recipe = recipes.parse({**GIVEN, **models})

    assert {one.call_size for one in (recipe.detect, recipe.segment, recipe.paint, recipe.score)} == {1}


def test_detectors_of_one_s_own_see_pictures_as_they_were_trained_to_and_only_that_enters_the_key():
    own, embedded = recipes.parse({**GIVEN, **OWN}).detect, recipes.parse(GIVEN).detect

    assert own.model_dump()["sizing"] == "as_trained"
    assert not {"sizing", "side_px"} & set(embedded.model_dump())
    assert recipes.parse({**GIVEN, **OWN, "detect": {**OWN["detect"], "sizing": "square"}}).detect.sizing == "square"


def test_unknown_key_names_the_nearest_known_one():
    assert "`detect.min_scor` is not a setting; did you mean `min_score`?" in refused(detect={"min_scor": 0.2})
    assert "`promts` is not a setting; did you mean `prompts`?" in refused(promts={})


def test_a_setting_s_former_name_is_told_its_new_one():
    assert "`segment.room` is not a setting; did you mean `crop_margin`?" in refused(segment={"room": 0.75})
    find = {"room": 0.75}
    assert "`find.room` is not a setting; did you mean `crop_margin`?" in refused(find=find, detect=None, segment=None)


def test_every_problem_is_told_at_once():
    told = refused(detect={"min_score": 3}, paint={"steps": 0})

    assert "`detect.min_score` is 3" in told
    assert "`paint.steps` is 0" in told


def test_branch_name_is_no_pin():
    told = refused(detect={"checkpoint": "org/model@main"})

    assert "'main'" in told
    assert "40-digit hash" in told


def test_own_models_need_every_checkpoint():
    told = refused(models="own")

    assert "`detect.checkpoint` is missing" in told
    assert "`score.checkpoint` is missing" in told


@pytest.mark.parametrize("template", ["a {colour", "a {}", "a {colour!r}", "a {colour:>5}", "a {row[0]}"])
def test_template_holds_bare_columns_only(template):
    assert repr(template) in refused(prompts={"paint": template})


def test_template_columns_come_in_order_and_doubled_braces_are_text():
    assert template_columns("a {colour} {{literal}} {product type}") == ["colour", "product type"]


def test_seeds_are_one_a_variant():
    assert "1 seeds for 4 variants" in refused(paint={"seeds": [5]})


def test_recipe_that_was_dumped_is_the_same_again(tmp_path):
    file = tmp_path / "again.yaml"
    recipe = recipes.parse({**GIVEN, "paint": {"steps": 7}})
    file.write_text(recipes.dump(recipe))

    assert recipes.load(str(file)) == recipe


def test_missing_file_names_the_ready_recipes():
    with pytest.raises(ConfigError, match="did you mean 'replace'"):
        recipes.load("replce")


def test_every_ready_recipe_can_be_used():
    for path in recipes.READY.glob("*.yaml"):
        assert recipes.load(path.stem).name == path.stem


def test_every_setting_says_what_it_does():
    def bare(section, place):
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Settings) and inner is not Checkpoint:
                yield from bare(inner, f"{place}.{name}")
            elif not field.description:
                yield f"{place}.{name}"

    assert list(bare(recipes.Recipe, "recipe")) == []


GRASS = {
    "name": "dress-on-grass",
    "models": "embedded",
    "deliver": {"feather_px": 7},
    "steps": [
        {"prompts": {"find": "{category}", "paint": "a {colour} {category}"}},
        {"prompts": {"find": "{category}", "paint": "a meadow"}, "paint": {"task": "background"}},
    ],
}


def a_chain(step=1, **of_step):
    """Two steps, of which one says more."""
    steps = [{**one, **(of_step if number == step else {})} for number, one in enumerate(GRASS["steps"], start=1)]
    return {**GRASS, "steps": steps}


def refused_chain(given):
    with pytest.raises(ConfigError) as caught:
        recipes.parse(given)
    return str(caught.value)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("judge", {"keep_best": 3}),
        ("read", {"max_bytes": 5}),
        ("deliver", {"format": "jpeg"}),
        ("score", {"likeness": False}),
        ("catalogue", {"key": "id"}),
        ("name", "another"),
        ("models", "own"),
        ("steps", [{}]),
    ],
)
def test_what_belongs_to_the_recipe_is_refused_in_any_step_the_last_too(step, section, said):
    told = refused_chain(a_chain(step, **{section: said}))

    assert told.startswith(f"step {step}: `{section}` is not a step's; it belongs to the recipe, beside `steps`")
    assert len(told.splitlines()) == 1


def test_a_slip_in_a_step_names_the_step_and_the_nearest_setting():
    assert refused_chain(a_chain(2, promts={})) == "step 2: `promts` is not a setting; did you mean `prompts`?"
    assert refused_chain(a_chain(1, mask={"gorw": 1})) == "step 1: `mask.gorw` is not a setting; did you mean `grow`?"
    assert refused_chain(a_chain(2, paint={"task": "background", "steps": 0})).startswith("step 2: `paint.steps` is 0")
    assert refused_chain(a_chain(2, paint={"task": "recolour"})).startswith(
        "step 2: `prompts.colour` says nothing, and the task 'recolour' needs it"
    )
    assert refused_chain(a_chain(1, paint=5)).startswith("step 1: `paint` is 5")
    assert refused_chain({**GRASS, "steps": [*GRASS["steps"], {}]}) == "step 3: `prompts` is missing"


def test_a_slip_in_what_all_steps_share_is_told_once_and_as_the_recipes():
    told = refused_chain({**GRASS, "mask": {"gorw": 1}})

    assert told == "`mask.gorw` is not a setting; did you mean `grow`?"


def test_a_problem_of_the_whole_recipe_names_no_empty_place():
    told = refused(prompts={"paint": ""})

    assert told.startswith("`prompts.paint` says nothing, and the task 'replace' needs it: What to paint")


def test_steps_share_the_recipe_s_sections_and_the_last_one_is_what_is_scored():
    recipe = recipes.parse({**GRASS, "paint": {"seed": 4}})

    first, last = recipe.chain()
    assert (first.paint.task, first.paint.variants, first.paint.seed) == ("replace", 1, 4)
    assert (last.paint.task, last.paint.variants, last.paint.seed) == ("background", 4, 4)
    assert recipe.paint == last.paint
    assert recipe.score.segmenter == last.segment.checkpoint


def test_a_recipe_with_steps_that_was_dumped_is_the_same_again(tmp_path):
    file = tmp_path / "again.yaml"
    recipe = recipes.parse(GRASS)
    file.write_text(recipes.dump(recipe))

    assert recipes.load(str(file)) == recipe


def test_checkpoints_are_those_of_nodes_that_the_graph_has():
    recipe = recipes.parse({**GRASS, "steps": [GRASS["steps"][1], {"paint": {"task": "studio"}, "prompts": {}}]})

    nodes = {node.name for node in build(recipe).nodes}
    assert {where.partition("+")[0] for where in recipe.checkpoints()} <= nodes
    assert not any(where.startswith("score") for where in recipe.checkpoints())


def test_the_schema_for_editors_offers_in_a_step_what_a_step_can_have():
    schema = recipes.json_schema()

    step = schema["$defs"]["StepSettings"]
    assert set(step["properties"]) == {"prompts", "detect", "segment", "find", "mask", "paint", "compose"}
    assert step["required"] == []
    assert step["additionalProperties"] is False
    assert schema["required"] == ["name", "models"]


def test_branch_or_tag_of_a_checkpoint_is_refused_in_plain_words():
    given = {"name": "r", "models": "embedded", "prompts": {"paint": "a cup"}, "score": {"checkpoint": "org/clip@main"}}

    with pytest.raises(ConfigError) as caught:
        recipes.parse(given)

    assert str(caught.value) == (
        "`score.checkpoint`: `revision` is 'main', which may be the name of a branch and can move under a run; "
        "give the 40-digit hash of one of 'org/clip''s commits"
    )


@pytest.mark.parametrize("said", ["on: previous_step", "'on': previous_step", '"on": previous_step'])
def test_the_setting_on_is_a_word_in_a_recipe_file(tmp_path, said):
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: x\nmodels: embedded\nprompts: {{paint: red}}\ndetect:\n  {said}\ndeliver: {{exact: no}}\n")

    recipe = recipes.load(str(file))

    assert (recipe.detect.on, recipe.segment.on, recipe.deliver.exact) == ("previous_step", "previous_step", False)


def test_task_that_does_not_exist_is_told_once():
    told = refused(paint={"task": "mirrror"})

    assert told.startswith("`paint.task` is 'mirrror': Input should be 'replace'")
    assert len(told.splitlines()) == 1


def test_slip_in_a_layout_is_told_at_the_place_where_people_write_it():
    told = refused(paint={"task": "studio", "variants": 1}, mask={"layout": {"aspct": "1:1"}})

    assert told == "`mask.layout.aspct` is not a setting; did you mean `aspect`?"
