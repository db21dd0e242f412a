"""The painter's side with fakes in the place of the models."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines import recipe as recipes
from pipelines.pixels.proof import prove
from pipelines.stages.compose import Compose
from pipelines.stages.mask import Mask
from pipelines.stages.paint import Paint
from sample_world.drawing.textures import COLOURS
from sample_world.evaluation.cases import held_out_scenes, products
from sample_world.evaluation.judge import BACKGROUND, PRODUCT
from sample_world.evaluation.orders import other_backgrounds, products_anew
from sample_world.evaluation.painting import paint
from sample_world.evaluation.repaints import backgrounds, colours, patterns
from sample_world.evaluation.sheet import contact_sheet
from sample_world.evaluation.through import send

RECIPE = recipes.load("replace")


class PaintsTheColourAsked:
    """A flat square of the colour that the prompt names; leaves all else as it is."""

    def __call__(self, paintings):
        return [
            np.where(
                one.inpaint_mask[..., None],
                COLOURS[next((w for w in one.prompt.split() if w in COLOURS), "red")],
                one.rgb,
            ).astype(np.uint8)
            for one in paintings
        ]


class ThroughFakes:
    """`Through` with a fake painter."""

    def __call__(self, names, rows):
        assert list(names) == ["mask", "paint", "compose"]
        stages = Mask(RECIPE.mask), Paint(RECIPE.paint, PaintsTheColourAsked()), Compose(RECIPE.compose)
        return send(stages, rows)


class Says:
    """A judge that says one thing of every picture."""

    def __init__(self, **answer):
        self.answer = answer

    def __call__(self, squares):
        return [self.answer for _ in squares]


@pytest.fixture(scope="module")
def anew():
    return paint(ThroughFakes(), products_anew(RECIPE, products(held_out_scenes(3))[:4]))


def test_a_painter_that_paints_the_colour_asked_is_seen_to(anew):
    seen = colours(anew)

    assert seen["repaint: asked colour seen"].value == 1
    assert seen["ceiling: true colour seen in true pictures"].value == 1


def test_patterns_are_counted_by_what_the_judge_says(anew):
    asked = [one.order.words["pattern"] for one in anew]

    said = patterns(anew, Says(pattern="striped", category=PRODUCT["category"][0]))

    assert said["repaint: asked pattern seen"].value == asked.count("striped") / len(asked)


def test_backgrounds_count_where_the_product_is_untouched():
    painted = paint(ThroughFakes(), other_backgrounds(RECIPE, 1))
    (asked,) = (one.order.words["background"] for one in painted)
    other = next(name for name in BACKGROUND["background"] if name != asked)

    right, wrong = (backgrounds(RECIPE, painted, Says(background=name)) for name in (asked, other))

    assert right["background task: product untouched"].value == 1
    assert right["background task: as asked, product untouched"].value == 1
    assert wrong["background task: as asked, product untouched"].value == 0


def test_crops_differ_from_their_source_within_the_allow_mask_alone(anew):
    for one in anew:
        assert (one.source != one.finished).any()
        assert prove(one.source, one.finished, one.allow_crop).changed_outside == 0


def test_an_order_that_the_recipe_refuses_is_told(anew):
    order = replace(anew[0].order, given_mask=np.ones(anew[0].order.held.scene.rgb.shape[:2], bool))

    with pytest.raises(RuntimeError, match="was refused: mask_covers_everything"):
        paint(ThroughFakes(), [order])


def test_contact_sheet_is_a_picture_of_pairs(anew, tmp_path):
    contact_sheet(anew * 20, tmp_path / "sheet.png")

    with Image.open(tmp_path / "sheet.png") as sheet:
        assert 1700 <= sheet.width <= 1900
        assert sheet.height > 1500
    assert (tmp_path / "sheet.png").stat().st_size < 3_000_000
