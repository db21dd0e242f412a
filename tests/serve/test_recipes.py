"""Which recipes a server takes, and that it answers what a night would make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import catalogue
from pipelines import recipe as recipes
from pipelines.errors import ConfigError
from pipelines.executors import inline
from pipelines.executors.placement import GPU, LOCAL
from pipelines.pixels.images import encode
from pipelines.recipe import Recipe
from pipelines.rows import Row, as_seen_by
from serve.executor import deployments
from serve.served import offer, with_hashes
from tests.fakes import a_graph, a_picture, a_recipe
from tests.serve.clients import PNG, Rendering, a_client, error_of, post

COLUMNS = {"sku": "A-7", "category": "cup", "colour": "red", "pattern": "dotted"}
NEED_A_SCENE = ("dress-on-model", "place")
READY = sorted(path.stem for path in recipes.READY.glob("*.yaml"))
ON_GRASS: list[dict[str, Any]] = [
    {"prompts": {"paint": "a {colour} {category}"}},
    {"prompts": {"paint": "a meadow"}, "paint": {"task": "background", "variants": 2}},
]
IN_STUDIO: list[dict[str, Any]] = [ON_GRASS[0], {"prompts": {"paint": ""}, "paint": {"task": "studio", "variants": 1}}]


def by_night(recipe: Recipe, **columns: str) -> Row:
    """What a night makes of the picture, as the last step sees it."""
    table = pa.table(
        {
            **{name: [value] for name, value in {**COLUMNS, **columns}.items()},
            "given_image_bytes": pa.array([PNG], pa.large_binary()),
        }
    )
    (row,) = inline.run(a_graph(recipe), catalogue.rows(recipe, table, None))
    return as_seen_by(row, len(recipe.chain()))


def files_of(answer: Any) -> list[str]:
    return [variant["sha256"] for variant in answer["variants"]]


@pytest.mark.parametrize("name", [name for name in READY if name not in NEED_A_SCENE])
def test_every_ready_recipe_that_is_offered_is_answered(tmp_path: Path, name: str) -> None:
    client = a_client(tmp_path, recipes=offer([name]).recipes)
    likes = [("reference", encode(a_picture(5), "png"))]

    response = post(client, files=likes, columns=json.dumps(COLUMNS))

    assert response.status_code == 200, response.text
    assert response.json()["variants"], response.text


@pytest.mark.parametrize("name", NEED_A_SCENE)
def test_a_recipe_for_which_no_request_can_bring_the_scene_is_not_offered(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"the recipe '{name}' reads a second picture, the scene"):
        offer(["replace", name])

    inline_recipe = (recipes.READY / f"{name}.yaml").read_text()
    told = error_of(post(a_client(tmp_path), recipe=inline_recipe, columns=json.dumps(COLUMNS)))
    assert told[:2] == (422, "bad_recipe")
    assert "which no request can bring yet" in told[2]


@pytest.mark.parametrize("steps", [ON_GRASS, IN_STUDIO])
def test_a_recipe_with_steps_is_answered_as_the_night_renders_it(tmp_path: Path, steps: list[dict[str, Any]]) -> None:
    recipe = a_recipe(tmp_path, steps=steps)
    expected = by_night(recipe)

    answer = post(a_client(tmp_path, recipes=[recipe]), recipe="fake", columns=json.dumps(COLUMNS)).json()

    assert answer["status"] == expected["status"] == "ok"
    assert files_of(answer) == expected["image_sha256s"]
    assert [variant["prompt"] for variant in answer["variants"]] == expected["paint_prompts"]
    assert [variant["seed"] for variant in answer["variants"]] == expected["variant_seeds"]
    assert answer["item"]["mask"] == expected["changed_mask_rle"]


def test_a_request_s_words_reach_the_steps_that_they_are_for(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path, steps=IN_STUDIO)
    expected = by_night(recipe, category="mug", colour="blue")
    rendering = Rendering()

    form = {"find": "mug", "prompt": "a blue mug", "negative_prompt": "dust"}
    answer = post(a_client(tmp_path, rendering, recipes=[recipe]), **form).json()

    ((row, asked),) = rendering.asked
    assert (row["find_prompt"], row["find_prompt.2"]) == ("mug", "mug")
    assert (row["paint_prompts"], row["paint_prompts.2"]) == (["a blue mug"], [""])
    assert (row["negative_prompt"], row["negative_prompt.2"]) == ("dust", "dust")
    assert [step.paint.task for step in asked.chain()] == ["replace", "studio"]
    assert files_of(answer) == expected["image_sha256s"]


def test_a_prompt_that_could_be_any_step_s_is_refused_with_what_to_send(tmp_path: Path) -> None:
    response = post(a_client(tmp_path, recipes=[a_recipe(tmp_path, steps=ON_GRASS)]), find="a cup", prompt="blue")

    assert error_of(response)[:2] == (422, "which_prompt")
    assert "`columns` fills in its words: category, colour" in response.json()["error"]["hint"]


def test_variants_are_the_last_step_s_and_seeds_one_for_all(tmp_path: Path) -> None:
    client = a_client(tmp_path, recipes=[a_recipe(tmp_path, steps=ON_GRASS)])
    columns = json.dumps(COLUMNS)

    assert len(post(client, columns=columns, variants="3").json()["variants"]) == 3
    assert [one["seed"] for one in post(client, columns=columns, seed="7").json()["variants"]] == [7]
    assert "share one; send one" in error_of(post(client, columns=columns, seed=["7", "8"]))[2]


def test_a_reference_that_was_forgotten_is_told(tmp_path: Path) -> None:
    response = post(a_client(tmp_path, recipes=offer(["insert"]).recipes), columns=json.dumps(COLUMNS))

    assert error_of(response)[:2] == (422, "reference_needed")
    assert response.json()["error"]["hint"] == "Send a picture of the product as `reference`."


def test_steps_are_refused_at_the_start_where_pictures_go_from_process_to_process(tmp_path: Path) -> None:
    served = with_hashes([a_recipe(tmp_path, steps=ON_GRASS)])

    deployments(LOCAL, served.recipes, a_graph)
    with pytest.raises(ConfigError, match=r"the `steps` of 'fake' go back and forth"):
        deployments(GPU, served.recipes, a_graph)
