"""Does a repaint show what was asked for? Said by judges that are not the pipeline's CLIP; with their own ceilings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.pixels.composite import paste_region
from pipelines.pixels.crops import cut_mask
from pipelines.pixels.images import Rgb
from pipelines.pixels.proof import prove
from pipelines.recipe import Recipe
from sample_world.evaluation.cases import Held, products, shuffled
from sample_world.evaluation.figures import Figure, average, over_cases, ratio, share
from sample_world.evaluation.judge import PictureJudge, background_square, load_judge, nearest_colour, product_square
from sample_world.evaluation.orders import (
    nothing_at_all,
    other_backgrounds,
    other_categories,
    products_anew,
    with_and_without,
)
from sample_world.evaluation.painting import Order, Painted, paint
from sample_world.evaluation.through import Through

AWAY_FROM = "striped"


def measure_repaints(
    through: Through, recipe: Recipe, scenes: list[Held], count: int, judges: Path | None
) -> tuple[dict[str, Figure], list[Painted]]:
    """Paint `count` pictures of each task; what a judge has to say is left out where there are no `judges`.

    Returns:
        The figures, and the products that were painted anew, for the contact sheet.
    """
    cases = shuffled(products(scenes))
    anew = paint(through, products_anew(recipe, cases[:count]))
    figures = {**colours(anew), **empty_prompts(paint(through, nothing_at_all(scenes, count)))}
    if judges is not None:
        product_judge, background_judge = load_judge(judges, "product"), load_judge(judges, "background")
        figures |= patterns(anew, product_judge)
        figures |= categories(paint(through, other_categories(recipe, cases, count)), product_judge)
        figures |= negatives(through, *with_and_without(cases[:count], AWAY_FROM), product_judge)
        figures |= backgrounds(recipe, paint(through, other_backgrounds(recipe, count)), background_judge)
    return figures, anew


def colours(anew: Sequence[Painted]) -> dict[str, Figure]:
    """By the median of the product's own pixels."""
    outlines = [cut_mask(one.thing.mask, one.region, len(one.source)) for one in anew]
    seen = [nearest_colour(one.finished, mask) for one, mask in zip(anew, outlines, strict=True)]
    true = [nearest_colour(one.source, mask) for one, mask in zip(anew, outlines, strict=True)]
    return {
        "repaint: asked colour seen": share(_as_asked(anew, seen, "colour")),
        "ceiling: true colour seen in true pictures": share(
            [colour == one.thing.colour for one, colour in zip(anew, true, strict=True)]
        ),
    }


def patterns(anew: Sequence[Painted], product_judge: PictureJudge) -> dict[str, Figure]:
    """By the product alone on grey."""
    return _by_product(anew, product_judge, "pattern", "ceiling: true pattern seen in true pictures")


def categories(painted: Sequence[Painted], product_judge: PictureJudge) -> dict[str, Figure]:
    """By all that is in the box."""
    return _by_product(painted, product_judge, "category", "ceiling: true category seen in true pictures' boxes")


def negatives(through: Through, base: list[Order], away: list[Order], product_judge: PictureJudge) -> dict[str, Figure]:
    """How often the same noise shows stripes, with the word as negative prompt and without."""
    said = [
        [pattern == AWAY_FROM for pattern in _seen(product_judge, paint(through, orders), "pattern")[0]]
        for orders in (base, away)
    ]
    return {
        f"negative prompt `{AWAY_FROM}`: share that stays": over_cases(ratio, said[1], said[0]),
        f"shown as {AWAY_FROM} without the negative prompt": share(said[0]),
    }


def backgrounds(recipe: Recipe, painted: Sequence[Painted], judge: PictureJudge) -> dict[str, Figure]:
    """By the whole picture with its product greyed; it counts only if the product is the source's, bit for bit."""
    whole = [_delivered(recipe, one) for one in painted]
    untouched = [
        not prove(one.order.held.scene.rgb, picture, one.allow).changed_outside
        for one, picture in zip(painted, whole, strict=True)
    ]
    seen = _named(judge, whole, painted)
    true = _named(judge, [one.order.held.scene.rgb for one in painted], painted)
    right = [asked and kept for asked, kept in zip(_as_asked(painted, seen, "background"), untouched, strict=True)]
    return {
        "background task: as asked, product untouched": share(right),
        "background task: product untouched": share(untouched),
        "ceiling: true background seen in true pictures": share(
            [name == one.order.held.scene.background for one, name in zip(painted, true, strict=True)]
        ),
    }


def empty_prompts(painted: Sequence[Painted]) -> dict[str, Figure]:
    """How far the painter's own crop is from the source in the ring outside what was repainted, before any fit."""
    errors = [one.row["ring_errors_before"][0] for one in painted]
    return {"empty prompt: ring error, levels of 255": average([one for one in errors if one is not None])}


def _delivered(recipe: Recipe, one: Painted) -> Rgb:
    rgb = one.order.held.scene.rgb
    return paste_region(rgb, one.finished, one.region, one.allow, recipe.deliver.feather_px)


def _by_product(
    painted: Sequence[Painted], product_judge: PictureJudge, question: str, ceiling: str
) -> dict[str, Figure]:
    seen, true = _seen(product_judge, painted, question)
    return {
        f"repaint: asked {question} seen": share(_as_asked(painted, seen, question)),
        ceiling: share([word == getattr(one.thing, question) for one, word in zip(painted, true, strict=True)]),
    }


def _seen(product_judge: PictureJudge, painted: Sequence[Painted], question: str) -> tuple[list[str], list[str]]:
    """What `product` says of the repainted part of each crop, after and before."""
    after = product_judge([product_square(one.finished, one.allow_crop) for one in painted])
    before = product_judge([product_square(one.source, one.allow_crop) for one in painted])
    return [said[question] for said in after], [said[question] for said in before]


def _named(judge: PictureJudge, pictures: Sequence[Rgb], painted: Sequence[Painted]) -> list[str]:
    squares = [background_square(rgb, ~one.allow) for rgb, one in zip(pictures, painted, strict=True)]
    return [said["background"] for said in judge(squares)]


def _as_asked(painted: Sequence[Painted], seen: Sequence[str], question: str) -> list[bool]:
    return [word == one.order.words[question] for one, word in zip(painted, seen, strict=True)]
