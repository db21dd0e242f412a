"""Is a cut-out's edge the product's, and is the old background gone from it? `packshot evaluate masks` asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from pipelines.pixels.cutouts import UNKNOWN, Cutout, Matting, hard_cutout, on_colour, trimap
from pipelines.pixels.masks import Mask, diagonal_px, drop_specks, fill_holes, from_rle, padded_window
from sample_world.drawing.scenes import SceneObject, cutouts
from sample_world.evaluation.bars import Bar
from sample_world.evaluation.cases import Held, large_enough
from sample_world.evaluation.figures import Figure, average
from sample_world.evaluation.through import Through

BARS: Final = {
    "cut-out from the true mask: alpha error in the band": Bar(0.03, 0.02, at_most=True),
    "cut-out from the true mask: halo on white, Delta E 2000": Bar(3, 1.5, at_most=True),
    "cut-out from SAM's mask: alpha error in the band": Bar(0.03, 0.02, at_most=True),
    "cut-out from SAM's mask: halo on white, Delta E 2000": Bar(3, 1.5, at_most=True),
}
BAND_FRACTION: Final = 0.02
MIN_BAND_PX: Final = 3
WHITE: Final = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Exact:
    """A product of a held-out scene, and its exact cut-out."""

    held: Held
    thing: SceneObject
    cutout: Cutout


def measure_matting(matting: Matting, scenes: Sequence[Held], through: Through | None = None) -> dict[str, Figure]:
    """Alpha's mean absolute error and the mean colour error on white, in the band along each product's true outline.

    The band reaches 2 % of the product's diagonal, at least 3 pixels, to both sides of the outline, whatever band the
    matting works in and whichever mask it is given. `hard edge` is the mask itself, with the source's colours.

    Args:
        matting: what is measured.
        scenes: held-out scenes; of their products those that are large enough count.
        through: gives SAM's masks from the true boxes; without it the figures of SAM's masks are left out.
    """
    exact = exact_cutouts(scenes)
    masks = {"the true mask": [one.thing.mask for one in exact]}
    if through is not None:
        masks["SAM's mask"] = segmented(through, exact)
    figures: dict[str, Figure] = {}
    for name, given in masks.items():
        pairs = list(zip(exact, given, strict=True))
        figures |= _named(
            f"cut-out from {name}", [errors(one, matting(one.held.scene.rgb, mask)) for one, mask in pairs]
        )
        figures |= _named(
            f"hard edge of {name}", [errors(one, hard_cutout(one.held.scene.rgb, mask)) for one, mask in pairs]
        )
    return figures


def exact_cutouts(scenes: Sequence[Held]) -> list[Exact]:
    """Every product that is large enough, in order, with its exact cut-out."""
    return [
        Exact(held, thing, cutout)
        for held in scenes
        for thing, cutout in zip(held.scene.objects, _drawn_again(held), strict=True)
        if large_enough(thing)
    ]


def segmented(through: Through, exact: Sequence[Exact]) -> list[Mask]:
    """The node `segment`'s mask of each product's true box, in order, tidied as the node `mask` tidies it."""
    of_scene: dict[Held, list[list[float]]] = {}
    for one in exact:
        of_scene.setdefault(one.held, []).append(list(one.thing.box_xyxy))
    rows = through(["segment"], [held.row(boxes_xyxy=boxes) for held, boxes in of_scene.items()])
    masks = [from_rle(rle) for row in rows for rle in row["object_masks_rle"]]
    tidy = through.recipe.mask
    return [drop_specks(fill_holes(mask, tidy.max_hole), tidy.min_speck) for mask in masks]


def errors(exact: Exact, answer: Cutout) -> tuple[float, float]:
    """Alpha's mean absolute error, 0..1, and the mean Delta E 2000 on white, both in the band along the outline."""
    band_px = max(MIN_BAND_PX, round(BAND_FRACTION * diagonal_px(exact.thing.mask)))
    window = padded_window(exact.thing.mask, band_px + 1)
    band = trimap(exact.thing.mask, band_px)[window] == UNKNOWN
    true, given = _within(exact.cutout, window), _within(answer, window)
    alpha_error = np.abs(true.alpha.astype(float) - given.alpha)[band] / 255
    difference: Any = deltaE_ciede2000  # not annotated
    halo = difference(_lab_on_white(true)[band], _lab_on_white(given)[band])
    return float(alpha_error.mean()), float(halo.mean())


def _named(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, Figure]:
    return {
        f"{name}: alpha error in the band": average([alpha for alpha, _ in pairs]),
        f"{name}: halo on white, Delta E 2000": average([halo for _, halo in pairs]),
    }


def _drawn_again(held: Held) -> tuple[Cutout, ...]:
    height, width = held.scene.rgb.shape[:2]
    return cutouts(held.seed, (width, height))


def _within(cutout: Cutout, window: tuple[slice, slice]) -> Cutout:
    return Cutout(cutout.rgb[window], cutout.alpha[window])


def _lab_on_white(cutout: Cutout) -> NDArray[np.float64]:
    return np.asarray(rgb2lab(on_colour(cutout, WHITE)), np.float64)
