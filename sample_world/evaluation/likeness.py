"""Does the encoder read what a product is, and tell it from one that looks like it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipelines.models import Encoder
from pipelines.pixels.crops import neutral_crop
from pipelines.pixels.images import Rgb, encode
from pipelines.pixels.reference_foreground import reference_crop
from pipelines.recipe import Recipe
from pipelines.stages.score import encoder_of
from sample_world.drawing.scenes import SceneObject, product_picture
from sample_world.drawing.shapes import CATEGORIES
from sample_world.drawing.textures import COLOURS, PATTERNS
from sample_world.evaluation.cases import Case, Held, another, products, shuffled
from sample_world.evaluation.figures import Figure, auc, over_cases, share

OTHER_CATEGORIES = 3
Shown = tuple[Rgb, NDArray[np.bool_]]
Pair = tuple[Shown, Shown]


def measure_likeness(recipe: Recipe, scenes: list[Held]) -> dict[str, Figure]:
    """The figures of the encoder: captions of 4 categories by 10 colours, and pictures of the product against others.

    References are embedded as the node `score` does, cut off their ground; and by their true masks, and whole.
    """
    encoder = encoder_of(recipe.score)
    cases = shuffled(products(scenes))[: len(scenes)]
    anchors = encoder.embed_images(
        [neutral_crop(case.held.scene.rgb, case.thing.mask, encoder.side_px) for case in cases]
    )
    references = [_references(case, number) for number, case in enumerate(cases)]
    ways: dict[str, Callable[[Shown], Rgb]] = {
        "same product against look-alike, AUC": partial(_off_its_ground, side_px=encoder.side_px),
        "same product against look-alike, cut out by its true mask, AUC": partial(_cut_out, side_px=encoder.side_px),
        "same product against look-alike, whole, AUC": _whole,
    }
    return {"right caption among 40": share(_captions_right(encoder, cases, anchors))} | {
        name: _auc(encoder, anchors, [(look(same), look(other)) for same, other in references])
        for name, look in ways.items()
    }


def look_alike(thing: SceneObject, number: int) -> SceneObject:
    """The same category and cloth in another colour or, every second time, in another pattern."""
    if number % 2:
        return replace(thing, colour=another(COLOURS, thing.colour, number // 2))
    return replace(thing, pattern=another(PATTERNS, thing.pattern, number // 2))


def _captions_right(encoder: Encoder, cases: list[Case], anchors: NDArray[np.float32]) -> list[bool]:
    texts = {(name, colour): f"a {colour} {name}" for name in CATEGORIES for colour in COLOURS}
    embedded = dict(zip(texts, encoder.embed_texts(list(texts.values())), strict=True))
    right = []
    for number, (case, anchor) in enumerate(zip(cases, anchors, strict=True)):
        others = [name for name in CATEGORIES if name != case.thing.category]
        some = np.random.default_rng(number).choice(others, OTHER_CATEGORIES, replace=False)
        offered = [key for key in texts if key[0] == case.thing.category or key[0] in some]
        best = max(offered, key=lambda key: float(anchor @ embedded[key]))
        right.append(best == (case.thing.category, case.thing.colour))
    return right


def _references(case: Case, number: int) -> Pair:
    """Shop pictures of the product and of a look-alike, each with the product's mask; place and background are one."""
    seed = case.held.seed
    same, other = product_picture(case.thing, seed), product_picture(look_alike(case.thing, number), seed)
    return (same.rgb, same.objects[0].mask), (other.rgb, other.objects[0].mask)


def _off_its_ground(shown: Shown, side_px: int) -> Rgb:
    return reference_crop(encode(shown[0], "png"), side_px)


def _cut_out(shown: Shown, side_px: int) -> Rgb:
    return neutral_crop(*shown, side_px)


def _whole(shown: Shown) -> Rgb:
    return shown[0]


def _auc(encoder: Encoder, anchors: NDArray[np.float32], pairs: list[tuple[Rgb, Rgb]]) -> Figure:
    same = encoder.embed_images([one for one, _ in pairs])
    other = encoder.embed_images([one for _, one in pairs])
    return over_cases(auc, (anchors * same).sum(1).tolist(), (anchors * other).sum(1).tolist())
