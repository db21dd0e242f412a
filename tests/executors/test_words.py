import pytest

from pipelines.executors.words import unknown_to
from pipelines.recipe import parse
from tests.fakes import a_recipe

EMBEDDED = {"name": "one", "models": "embedded", "prompts": {"find": "{category}", "paint": "a {category}"}}
STEP = {"prompts": {"paint": "a red shirt, meadow background"}, "paint": {"task": "background"}}


def test_each_word_that_a_model_does_not_know_is_named_once():
    assert unknown_to(parse(EMBEDDED), ["a shirt", "a zebra"], ["a red zebra", "a blue yak"]) == ["yak", "zebra"]


def test_a_word_counts_for_the_models_that_are_prompted_with_it():
    one = parse(EMBEDDED)

    assert unknown_to(one, ["?"], []) == []  # which the detector knows, and neither painter nor encoder
    assert unknown_to(one, [], ["?"]) == ["?"]


def test_every_step_of_a_chain_counts():
    chain = parse({**EMBEDDED, "steps": [{"paint": {"variants": 1}}, STEP]})

    assert unknown_to(chain, ["a zebra"], ["a yak"]) == ["yak", "zebra"]


@pytest.mark.parametrize("find", [[], ["a zebra"]])
def test_models_of_ones_own_spell_what_they_do_not_know(tmp_path, find):
    assert unknown_to(a_recipe(tmp_path), find, ["a zebra"]) == []
