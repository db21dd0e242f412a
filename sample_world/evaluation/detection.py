"""Is the box that a prompt names the right one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torchvision.ops import box_iou

from pipelines.recipe import Recipe
from pipelines.rows import Row
from sample_world.drawing.phrases import relations
from sample_world.drawing.scenes import SceneObject
from sample_world.drawing.shapes import CATEGORIES
from sample_world.evaluation.cases import Held, large_enough, products
from sample_world.evaluation.figures import Figure, share
from sample_world.evaluation.through import Through

MIN_IOU: Final = 0.5


@dataclass(frozen=True, eq=False)
class Query:
    """A phrase, and the product of the scene that it means; None if there is none."""

    held: Held
    phrase: str
    thing: SceneObject | None


@dataclass(frozen=True, eq=False)
class Answered(Query):
    """What was asked, and the box that the product would go on with; None if nothing was found."""

    box_xyxy: tuple[float, float, float, float] | None

    @property
    def is_right(self) -> bool:
        """Whether the box is the product's, at an IoU of 0.5."""
        if self.box_xyxy is None or self.thing is None:
            return self.box_xyxy is None and self.thing is None
        pair = torch.tensor([self.box_xyxy, self.thing.box_xyxy])
        return float(box_iou(pair[:1], pair[1:])) >= MIN_IOU


def measure_detection(through: Through, recipe: Recipe, scenes: list[Held]) -> tuple[dict[str, Figure], list[Answered]]:
    """The figures of the node `detect`, and its answers to the prompts that name a product's category."""
    by_name = ask(through, named(recipe, scenes))
    absent = ask(through, [nowhere(recipe, held) for held in scenes])
    words = ask(through, [one for held in scenes for one in described(held)])
    places = ask(through, [one for held in scenes for one in related(held)])
    same_kind = [one for one in words if one.thing is not None and _has_another(one.held, one.thing)]
    return {
        "named product found, IoU >= 0.5": share([one.is_right for one in by_name]),
        "prompts for absent categories that return a box": share([not one.is_right for one in absent]),
        "attribute prompts pick the right one": share([one.is_right for one in words]),
        "attribute prompts among products of one kind": share([one.is_right for one in same_kind]),
        "relational prompts pick the right one": share([one.is_right for one in places]),
    }, by_name


def ask(through: Through, asked: Sequence[Query]) -> list[Answered]:
    """Send prompts through the node `detect`; the best box is the answer, as the recipe's mask takes it."""
    rows = through(["detect"], [one.held.row(find_prompt=one.phrase) for one in asked])
    return [Answered(one.held, one.phrase, one.thing, _best(row)) for one, row in zip(asked, rows, strict=True)]


def named(recipe: Recipe, scenes: list[Held]) -> list[Query]:
    """Every product that is alone of its kind, by its category, in the recipe's words."""
    cases = products(scenes, of_their_kind_alone=True)
    return [Query(case.held, recipe.prompts.find.format(category=case.thing.category), case.thing) for case in cases]


def nowhere(recipe: Recipe, held: Held) -> Query:
    """A category that the scene does not have, another one for every scene."""
    there = {thing.category for thing in held.scene.objects}
    away = [name for name in CATEGORIES if name not in there]
    return Query(held, recipe.prompts.find.format(category=away[held.seed % len(away)]), None)


def described(held: Held) -> list[Query]:
    """Every product of a scene of two or more, by words that are true of it alone.

    `striped red shirt` and `red shirt` in turn where both will do; a plain product is `plain` only where it must be.
    """
    things = held.scene.objects
    if len(things) < 2:
        return []
    asked = []
    for number, thing in enumerate(things):
        like = [other for other in things if (other.category, other.colour) == (thing.category, thing.colour)]
        says_pattern = len(like) > 1 or (thing.pattern != "plain" and (held.seed + number) % 2 == 0)
        words = [thing.pattern] * says_pattern + [thing.colour, thing.category]
        if large_enough(thing):
            asked.append(Query(held, " ".join(words), thing))
    return asked


def related(held: Held) -> list[Query]:
    """The products that stand there twice or more, by their place."""
    things = held.scene.objects
    return [Query(held, phrase, things[number]) for phrase, number in relations(things) if large_enough(things[number])]


def _has_another(held: Held, thing: SceneObject) -> bool:
    return [other.category for other in held.scene.objects].count(thing.category) > 1


def _best(row: Row) -> tuple[float, float, float, float] | None:
    if "reason" in row:
        return None
    left, top, right, bottom = row["boxes_xyxy"][0]
    return left, top, right, bottom
