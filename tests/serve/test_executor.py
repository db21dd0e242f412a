from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import catalogue
from pipelines.errors import ConfigError, InfrastructureError, PackshotError
from pipelines.executors import inline
from pipelines.executors.placement import GPU, LOCAL, fitted
from pipelines.graph import Graph
from pipelines.pixels.images import encode
from pipelines.recipe import Recipe
from pipelines.rows import Row
from pipelines.stages import StageClass
from serve.executor import BatchWorker, online
from tests.fakes import POISON, a_graph, a_picture, a_recipe
from tests.serve.clients import Broken, LosingItsStore, Lost, Refusing, RefusingRows, a_picky_graph


def some_rows(recipe: Recipe, count: int = 4, first_seed: int = 0) -> list[Row]:
    pictures = [encode(a_picture(first_seed + number), "png") for number in range(count)]
    columns = {
        "sku": [f"item-{number}" for number in range(count)],
        "category": ["cup"] * count,
        "colour": ["red"] * count,
    }
    return catalogue.rows(
        recipe, pa.table({**columns, "given_image_bytes": pa.array(pictures, pa.large_binary())}), None
    )


def pixels(rows: Sequence[Row]) -> list[object]:
    return [(row["status"], row["reason"], row.get("allow_mask_rle"), row.get("image_sha256s")) for row in rows]


def test_no_payloads_give_no_rows() -> None:
    assert BatchWorker(LOCAL, 0, a_graph)([]) == []


def test_rows_come_out_as_inline_makes_them(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path)
    rows = some_rows(recipe)

    online_rows = BatchWorker(LOCAL, 0, a_graph)([(row, recipe) for row in rows])

    assert pixels(online_rows) == pixels(inline.run(a_graph(recipe), rows))  # type: ignore[arg-type]
    assert all(row["image_files"] for row in online_rows)  # type: ignore[index]


def test_two_recipes_that_share_a_node_are_one_batch_there(tmp_path: Path) -> None:
    strict, lax = a_recipe(tmp_path, judge={"min_text_similarity": 1.0}), a_recipe(tmp_path)
    sizes: dict[str, list[int]] = {}

    def watched(recipe: Recipe) -> Graph:
        return Graph(
            tuple(replace(node, stage=_Watched(node.name, node.stage, sizes)) for node in a_graph(recipe).nodes)
        )

    payloads = [(row, recipe) for recipe in (strict, lax) for row in some_rows(recipe, 2)]
    done = BatchWorker(LOCAL, 0, watched)(payloads)

    assert sizes["paint"] == [4]
    assert sizes["judge"] == [2, 2]
    assert [row["status"] for row in done] == ["rejected", "rejected", "ok", "ok"]  # type: ignore[index]


def test_a_row_that_breaks_a_stage_fails_alone(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path)
    rows = some_rows(recipe, 8)
    poisoned = a_picture(3)
    poisoned[0, 0] = POISON
    rows[3] = {**rows[3], "given_image_bytes": encode(poisoned, "png")}

    done = BatchWorker(LOCAL, 0, a_graph)([(row, recipe) for row in rows])

    assert [row["status"] for row in done] == ["ok"] * 3 + ["failed"] + ["ok"] * 4  # type: ignore[index]


@pytest.mark.parametrize(
    ("stage", "answer"),
    [
        (Broken, ("failed", "unexpected")),
        (Lost, InfrastructureError),
        (Refusing, ConfigError),  # settings that do not go together: the request's error, and no bug
    ],
)
def test_a_stage_that_cannot_be_built_is_its_own_recipe_s_matter(tmp_path: Path, stage: type, answer: object) -> None:
    good, bad = a_recipe(tmp_path), a_recipe(tmp_path, paint={"steps": 7})

    (row,) = some_rows(good, 1)
    done = BatchWorker(LOCAL, 0, partial(a_picky_graph, stage=stage))([(row, bad), (row, good), (row, bad)])

    answers = [type(one) if isinstance(one, PackshotError) else (one["status"], one["reason"]) for one in done]
    assert answers == [answer, ("ok", None), answer]


@pytest.mark.parametrize(("stage", "answer"), [(RefusingRows, ConfigError), (LosingItsStore, InfrastructureError)])
def test_what_a_stage_raises_while_it_runs_is_its_own_recipe_s_matter(
    tmp_path: Path, stage: type, answer: type
) -> None:
    good, bad = a_recipe(tmp_path), a_recipe(tmp_path, paint={"steps": 7})
    (row,) = some_rows(good, 1)
    (expected,) = BatchWorker(LOCAL, 0, a_graph)([(row, good)])

    first, second, third = BatchWorker(LOCAL, 0, partial(a_picky_graph, stage=stage))(
        [(row, bad), (row, good), (row, bad)]
    )

    assert (type(first), type(third)) == (answer, answer)
    assert pixels([second]) == pixels([expected])  # type: ignore[list-item]


def test_between_groups_travels_what_later_nodes_read(tmp_path: Path) -> None:
    recipe = a_recipe(tmp_path)
    (between,) = BatchWorker(online(GPU), 0, a_graph)([(row, recipe) for row in some_rows(recipe, 1)])
    (done,) = BatchWorker(online(GPU), 1, a_graph)([(between, recipe)])  # type: ignore[list-item]

    assert "given_image_bytes" not in between  # type: ignore[operator]
    assert {"image_bytes", "region_rgb"} <= set(between)  # type: ignore[arg-type]
    assert not {"image_bytes", "region_rgb", "variant_crops", "finished_crops"} & set(done)  # type: ignore[arg-type]
    assert done["image_files"]  # type: ignore[index]


def test_by_day_read_and_deliver_join_their_neighbours(tmp_path: Path) -> None:
    first, second = online(GPU)

    assert first.nodes == ("read", "detect", "segment", "find", "mask")
    assert second.nodes == ("paint", "compose", "hand_on", "score", "judge", "deliver")
    assert (first.gpus, second.gpus) == (0.5, 0.5)
    assert online(LOCAL) == LOCAL
    fitted(online(GPU), a_graph(a_recipe(tmp_path)))


class _Watched:
    """A stage's class that notes how many rows each call had."""

    def __init__(self, name: str, stage: StageClass, sizes: dict[str, list[int]]) -> None:
        self.name, self.stage, self.sizes = name, stage, sizes
        self.reads, self.may_read, self.adds = stage.reads, stage.may_read, stage.adds
        self.pixels_version = stage.pixels_version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Watched) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __call__(self, settings: object, **given: object) -> object:
        made = self.stage(settings, **given)

        def call(rows: Sequence[Row]) -> object:
            self.sizes.setdefault(self.name, []).append(len(rows))
            return made(rows)

        return call
