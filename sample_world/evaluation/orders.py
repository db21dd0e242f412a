"""The repaints that are measured: product, category, without a pattern, background, and nothing at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pipelines.pixels.masks import diagonal_px
from pipelines.recipe import Recipe
from sample_world.drawing.shapes import ALONE, CATEGORIES
from sample_world.drawing.textures import BACKGROUNDS, COLOURS, PATTERNS
from sample_world.evaluation.cases import Case, Held, another, lonely_products
from sample_world.evaluation.judge import boxed
from sample_world.evaluation.painting import Order

MAX_ASPECT_RATIO = 1.3
BOX_GROWTH = 0.03
EMPTY_BOX = (0.15, 0.4)
TRIES = 50


def products_anew(recipe: Recipe, cases: Iterable[Case]) -> list[Order]:
    """The product in its own outline, in another colour and pattern, in the recipe's words."""
    orders = []
    for number, case in enumerate(cases):
        words = {
            "category": case.thing.category,
            "colour": another(COLOURS, case.thing.colour, number),
            "pattern": another(PATTERNS, case.thing.pattern, number),
        }
        prompt = recipe.prompts.paint[0].format(**words)
        orders.append(Order(case.held, words, prompt, recipe.prompts.negative, number, case.thing))
    return orders


def other_categories(recipe: Recipe, cases: Iterable[Case], count: int) -> list[Order]:
    """Another category of like proportions in the box of a product that no one wears; its colour and pattern stay."""
    orders = []
    alone = (case for case in cases if not case.thing.worn and similar(case.thing.category))
    for number, case in enumerate(islice(alone, count)):
        choice = similar(case.thing.category)
        words = {
            "category": choice[number % len(choice)],
            "colour": case.thing.colour,
            "pattern": case.thing.pattern,
        }
        prompt = recipe.prompts.paint[0].format(**words)
        box = boxed(case.thing.mask, round(BOX_GROWTH * diagonal_px(case.thing.mask)))
        orders.append(Order(case.held, words, prompt, recipe.prompts.negative, number, case.thing, box))
    return orders


def similar(category: str) -> list[str]:
    """The other categories whose outline, standing alone, is as wide for its height within a factor of 1.3."""
    wide = aspect(category)
    return [
        name
        for name in CATEGORIES
        if name != category and max(wide / aspect(name), aspect(name) / wide) <= MAX_ASPECT_RATIO
    ]


def aspect(category: str) -> float:
    """Width by height of a category's outline when it stands alone."""
    points = np.concatenate([np.asarray(fill) for fill in ALONE[category].fills])
    width, height = points.max(0) - points.min(0)
    return float(width / height)


def with_and_without(cases: Iterable[Case], word: str) -> tuple[list[Order], list[Order]]:
    """Products of no named pattern, with the same noise: with nothing to keep away from, and away from `word`."""
    base = [
        Order(case.held, {}, f"a {case.thing.colour} {case.thing.category}", "", number, case.thing)
        for number, case in enumerate(cases)
    ]
    return base, [replace(order, negative_prompt=word) for order in base]


def other_backgrounds(recipe: Recipe, count: int) -> list[Order]:
    """Everything but the one product of a scene, for another background."""
    orders = []
    for number, case in enumerate(lonely_products(count, 1 - recipe.mask.max_area)):
        words = {"background": another(BACKGROUNDS, case.held.scene.background, number)}
        prompt = f"a {case.thing.category}, {words['background']} background"
        orders.append(Order(case.held, words, prompt, recipe.prompts.negative, number, case.thing, ~case.thing.mask))
    return orders


def nothing_at_all(scenes: Iterable[Held], count: int) -> list[Order]:
    """A box of bare background, without a word."""
    boxes = ((held, box) for held in scenes for box in _bare_box(held))
    return [Order(held, {}, "", "", number, None, box) for number, (held, box) in enumerate(islice(boxes, count))]


def _bare_box(held: Held) -> Iterator[NDArray[np.bool_]]:
    """One box that touches no product, in a scene without people (whose bodies have no mask); or none."""
    things = held.scene.objects
    if any(thing.worn for thing in things):
        return
    taken = (
        np.logical_or.reduce([thing.mask for thing in things]) if things else np.zeros(held.scene.rgb.shape[:2], bool)
    )
    rng = np.random.default_rng(held.seed)
    for _ in range(TRIES):
        height, width = (round(side * rng.uniform(*EMPTY_BOX)) for side in taken.shape)
        top, left = (int(rng.integers(side - of)) for side, of in zip(taken.shape, (height, width), strict=True))
        if not taken[top : top + height, left : left + width].any():
            box = np.zeros_like(taken)
            box[top : top + height, left : left + width] = True
            yield box
            return
