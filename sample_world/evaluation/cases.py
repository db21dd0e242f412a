"""Held-out scenes that no training has seen, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipelines.pixels.images import encode
from pipelines.rows import Row
from sample_world.drawing.scenes import HELD_OUT_SEED, Scene, SceneObject, example_size, scene

MIN_SHARE: Final = 0.008


@dataclass(frozen=True, eq=False)
class Held:
    """A held-out scene with its seed, and its picture as a file."""

    seed: int
    scene: Scene
    image_bytes: bytes

    def row(self, **columns: Any) -> Row:
        """The row of this picture as it leaves the node `read`, with more columns."""
        height, width = self.scene.rgb.shape[:2]
        nothing = dict.fromkeys(
            ["given_mask_rle", "given_boxes_xyxy", "given_points", "reference_bytes", "scene_bytes", "paint_colour"]
        )
        return {"image_bytes": self.image_bytes, "size_wh": [width, height], **nothing, **columns}


@dataclass(frozen=True, eq=False)
class Case:
    """A product of a held-out scene."""

    held: Held
    thing: SceneObject


def held_out(seed: int) -> Held:
    """Draw the scene of a seed, in its size."""
    drawn = scene(seed, example_size(seed))
    return Held(seed, drawn, encode(drawn.rgb, "png"))


def held_out_scenes(count: int) -> list[Held]:
    """The first `count` held-out scenes."""
    return [held_out(HELD_OUT_SEED + number) for number in range(count)]


def large_enough(thing: SceneObject) -> bool:
    """Whether a product covers 0.8 % of its picture; smaller ones are not asked for."""
    return bool(thing.mask.mean() >= MIN_SHARE)


def products(scenes: list[Held], of_their_kind_alone: bool = False) -> list[Case]:
    """Every product that is large enough, in order; or only those whose category no other of their scene has."""
    return [
        Case(held, thing)
        for held in scenes
        for thing in held.scene.objects
        if large_enough(thing) and (not of_their_kind_alone or _is_alone(thing, held))
    ]


def shuffled(cases: list[Case]) -> list[Case]:
    """The same cases in a fixed random order, so that the first of them are of all scenes."""
    return [cases[number] for number in np.random.default_rng(0).permutation(len(cases))]


def lonely_products(count: int, min_share: float) -> Iterator[Case]:
    """Scenes with one product in them, which no one wears and which covers `min_share`; few are, so far more are drawn.

    At most 40 scenes are drawn for each of the `count` that are asked for.
    """
    found = 0
    for number in range(40 * count):
        drawn = scene(HELD_OUT_SEED + number, example_size(HELD_OUT_SEED + number))
        alone = len(drawn.objects) == 1 and not drawn.objects[0].worn
        if alone and drawn.objects[0].mask.mean() >= min_share:
            yield Case(Held(HELD_OUT_SEED + number, drawn, encode(drawn.rgb, "png")), drawn.objects[0])
            found += 1
        if found == count:
            return


def another(names: Iterable[str], taken: str, number: int) -> str:
    """One of the names that is not the one taken, in turn by a number."""
    free = [name for name in names if name != taken]
    return free[number % len(free)]


def _is_alone(thing: SceneObject, held: Held) -> bool:
    return [other.category for other in held.scene.objects].count(thing.category) == 1
