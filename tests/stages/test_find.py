import numpy as np
import pytest
from PIL import Image

from pipelines.models import Proposals
from pipelines.pixels.images import encode
from pipelines.pixels.masks import from_rle, to_rle
from pipelines.recipe.settings import FindSettings
from pipelines.rows import ItemError
from pipelines.stages.find import Find, reference_scores, text_scores
from tests import fakes

SIDE_PX = 16
COLOURS = {"a red cup": (200, 0, 0), "a green cup": (0, 200, 0), "a blue cup": (0, 0, 200)}
SQUARES = {"a red cup": (4, 4), "a green cup": (4, 30), "a blue cup": (44, 30)}


def a_picture(size_wh=(80, 60), names=tuple(COLOURS)):
    rgb = np.full((60, 80, 3), 240, np.uint8)
    for name in names:
        x, y = SQUARES[name]
        rgb[y : y + 20, x : x + 20] = COLOURS[name]
    return np.array(Image.fromarray(rgb).resize(size_wh, Image.Resampling.NEAREST))


def square(name, size_hw=(60, 80)):
    x, y = SQUARES[name]
    mask = np.zeros((60, 80), bool)
    mask[y : y + 20, x : x + 20] = True
    return np.kron(mask, np.ones((size_hw[0] // 60, size_hw[1] // 80), bool))


class Squares:
    """Proposes the three squares, at 80 x 60 whatever the picture's size, and whatever else it was told to."""

    def __init__(self, *more, ious=None):
        self.masks = [*(square(name) for name in COLOURS), *more]
        self.ious = np.array(ious or [1] * len(self.masks), np.float32)

    def __call__(self, images):
        for _ in images:
            yield Proposals(tuple(map(to_rle, self.masks)), self.ious)


class Nothing:
    """Proposes nothing."""

    def __call__(self, images):
        for _ in images:
            yield Proposals((), np.zeros(0, np.float32))


class Colours:
    """Embeds a picture as its middle's colour and a text as the colour that it names, seen from mid-grey."""

    side_px = SIDE_PX

    def embed_images(self, images):
        return self._unit([image[len(image) // 2, len(image) // 2].astype(float) - 100 for image in images])

    def embed_texts(self, texts):
        words = [next((rgb for name, rgb in COLOURS.items() if name.split()[1] in text), (0, 0, 0)) for text in texts]
        return self._unit([np.array(rgb, float) - 100 for rgb in words])

    def _unit(self, vectors):
        stacked = np.array(vectors, np.float32).reshape(-1, 3)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def a_stage(proposer=None, **settings):
    given = FindSettings(checkpoint="embedded:segmenter", encoder="embedded:encoder", **settings)
    return Find(given, proposer or Squares(), Colours())


def a_row(prompt="a green cup", image=None, references=(), given_mask=None):
    return {
        "image_bytes": encode(a_picture() if image is None else image, "png"),
        "given_mask_rle": given_mask,
        "find_prompt": prompt,
        "reference_bytes": list(references),
    }


def test_picture_in_which_nothing_can_be_cut_out_is_rejected():
    (update,) = a_stage(Nothing())([a_row()])

    assert update == {
        "boxes_xyxy": [],
        "box_scores": [],
        "box_labels": [],
        "object_masks_rle": [],
        "mask_scores": [],
        "reason": "nothing_found",
    }


def test_no_rows_have_no_updates():
    assert a_stage()([]) == []


@pytest.mark.parametrize("prompt", COLOURS)
def test_candidate_that_is_most_like_the_prompt_comes_first(prompt):
    (update,) = a_stage()([a_row(prompt)])

    np.testing.assert_array_equal(from_rle(update["object_masks_rle"][0]), square(prompt))
    x, y = SQUARES[prompt]
    assert update["boxes_xyxy"][0] == [x, y, x + 20, y + 20]
    assert update["box_scores"] == sorted(update["box_scores"], reverse=True)
    assert update["box_labels"] == [prompt] * 3
    assert "reason" not in update


def test_score_is_the_likeness_times_the_predicted_iou_which_is_kept_beside_it():
    (sure,) = a_stage()([a_row("a blue cup")])

    (unsure,) = a_stage(Squares(ious=[0.8, 0.9, 0.6]))([a_row("a blue cup")])

    assert unsure["mask_scores"][0] == pytest.approx(0.6)
    assert unsure["box_scores"][0] == pytest.approx(0.6 * sure["box_scores"][0])


def test_only_the_best_are_kept():
    (update,) = a_stage(keep=2)([a_row()])

    assert {len(values) for values in update.values()} == {2}


def test_masks_that_are_too_small_too_large_or_doubles_are_no_candidates():
    speck, everything, double = np.zeros((60, 80), bool), np.ones((60, 80), bool), square("a red cup")
    speck[0, 0] = True
    double[4, 4] = False

    (update,) = a_stage(Squares(speck, everything, double))([a_row()])

    assert len(update["object_masks_rle"]) == 3


def test_masks_of_a_smaller_copy_come_at_the_size_of_the_picture():
    (update,) = a_stage()([a_row(image=a_picture((320, 240)))])

    assert (from_rle(update["object_masks_rle"][0]) == square("a green cup", (240, 320))).mean() > 0.99
    np.testing.assert_allclose(update["boxes_xyxy"][0], [16, 120, 96, 200], atol=2)


def test_candidate_below_the_least_score_is_rejected_and_kept_for_the_eye():
    (update,) = a_stage(min_text_score=0.9)([a_row("something")])

    assert update["reason"] == "nothing_found"
    assert len(update["box_scores"]) == 3
    assert max(update["box_scores"]) < 0.9


class NoNumbers(Colours):
    """An encoder that gives no numbers."""

    def embed_images(self, images):
        return np.full((len(images), 3), np.nan)


def test_likeness_that_is_no_number_finds_nothing():
    settings = FindSettings(checkpoint="w", encoder="w", min_text_score=0.0)

    (rejected,) = Find(settings, Squares(), NoNumbers())([a_row()])

    assert rejected["reason"] == "nothing_found"


def test_negative_takes_away_from_what_looks_like_it():
    teal = a_picture()
    teal[30:50, 4:24] = (0, 200, 150)

    (alone,) = a_stage()([a_row(image=teal)])
    (against,) = a_stage(negatives=["a blue cup"])([a_row(image=teal)])

    assert against["box_scores"][0] < alone["box_scores"][0] - 0.1


def test_negative_that_the_prompt_names_is_left_out():
    (alone,), (against,) = a_stage()([a_row()]), a_stage(negatives=["Green cup"])([a_row()])

    assert alone == against


def test_union_of_all_that_is_nearly_as_good_as_the_best_comes_before_them():
    image = a_picture()
    image[4:24, 4:24] = (0, 190, 10)
    (best,), (union,) = a_stage()([a_row(image=image)]), a_stage(choose="union")([a_row(image=image)])

    np.testing.assert_array_equal(from_rle(union["object_masks_rle"][0]), square("a green cup") | square("a red cup"))
    for name in best:
        assert union[name][1:] == best[name]
    assert union["boxes_xyxy"][0] == [4, 4, 24, 50]
    assert union["box_scores"][0] == best["box_scores"][0]


def test_by_reference_the_candidate_that_looks_like_the_picture_comes_first_without_a_word():
    shown = np.full((40, 40, 3), 250, np.uint8)
    shown[10:30, 10:30] = COLOURS["a blue cup"]

    (update,) = a_stage(by="reference")([a_row("", references=[encode(shown, "png")])])

    np.testing.assert_array_equal(from_rle(update["object_masks_rle"][0]), square("a blue cup"))
    assert update["box_labels"] == ["reference"] * 3
    assert update["box_scores"][0] == pytest.approx(1)


def test_of_several_references_the_nearest_counts():
    red, blue = (np.full((20, 20, 3), COLOURS[name], np.uint8) for name in ("a red cup", "a blue cup"))

    (update,) = a_stage(by="reference")([a_row(references=[encode(red, "png"), encode(blue, "png")])])

    np.testing.assert_allclose(update["box_scores"][:2], [1, 1], atol=1e-3)
    assert update["box_scores"][2] < 0.5


def test_transparent_part_of_a_reference_is_not_looked_at():
    shown = np.full((40, 40, 3), COLOURS["a red cup"], np.uint8)
    shown[10:30, 10:30] = COLOURS["a blue cup"]
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    alpha[:4, :4] = 255

    (update,) = a_stage(by="reference")([a_row(references=[encode(shown, "png", alpha=alpha)])])

    assert update["box_scores"][0] == pytest.approx(1)
    np.testing.assert_array_equal(from_rle(update["object_masks_rle"][0]), square("a blue cup"))


def test_product_that_is_not_in_the_picture_is_not_answered():
    (update,) = a_stage(by="reference")(
        [
            a_row(
                image=a_picture(names=["a red cup", "a green cup"]),
                references=[encode(a_picture()[30:50, 44:64], "png")],
            )
        ]
    )

    assert update["reason"] == "nothing_found"


def test_by_reference_an_item_without_one_has_failed_and_says_why():
    first, second = a_stage(by="reference")([a_row(), a_row(references=[encode(a_picture()[30:50, 44:64], "png")])])

    assert isinstance(first, ItemError)
    assert first.reason == "reference_needed"
    assert "reason" not in second


def test_row_with_a_given_mask_passes_by_and_others_keep_their_place():
    updates = a_stage()([a_row("a red cup", given_mask=to_rle(square("a red cup"))), a_row("a blue cup")])

    assert updates[0] == {}
    np.testing.assert_array_equal(from_rle(updates[1]["object_masks_rle"][0]), square("a blue cup"))


def test_both_checkpoints_count_in_the_settings_weights():
    settings = FindSettings(checkpoint="embedded:segmenter", encoder="embedded:encoder")

    assert {role: one.uri for role, one in settings.weights().items()} == {
        "segmenter": "embedded:segmenter",
        "encoder": "embedded:encoder",
    }


def test_with_a_crop_margin_each_kept_mask_is_segmented_again_in_a_crop_round_its_box():
    class Ragged(fakes.FakeProposer):
        def __call__(self, images):
            for proposals in super().__call__(images):
                masks = [from_rle(rle) for rle in proposals.masks_rle]
                for mask in masks:
                    rows, columns = np.nonzero(mask)
                    mask[rows.mean().astype(int), columns.mean().astype(int)] = False
                yield Proposals(tuple(dict(to_rle(mask)) for mask in masks), proposals.predicted_ious)

    picture = fakes.a_picture(3, (120, 90))
    row = {"image_bytes": encode(picture, "png"), "given_mask_rle": None, "find_prompt": "mug", "reference_bytes": []}
    settings = {"checkpoint": "embedded:segmenter", "encoder": "embedded:encoder", "min_text_score": -1, "max_hole": 0}

    def found(crop_margin):
        models = Ragged(), fakes.FakeEncoder(), fakes.FakeSegmenter()
        return Find(FindSettings(**settings, crop_margin=crop_margin), *models)([row])[0]

    plain, again = found(None), found(0.5)

    product = (picture != picture[0, 0]).any(2)
    assert from_rle(plain["object_masks_rle"][0]).sum() == product.sum() - 1
    np.testing.assert_array_equal(from_rle(again["object_masks_rle"][0]), product)


def unit(*vectors):
    stacked = np.array(vectors, np.float32)
    return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


def test_text_score_is_the_cosine_less_that_of_the_nearest_negative():
    pictures, text = unit((1, 0, 0), (1, 1, 0)), unit((1, 0, 0))[0]

    none, some = np.zeros((0, 3), np.float32), unit((0, 1, 0), (0, 0, 1))

    np.testing.assert_allclose(text_scores(pictures, text, none), [1, 0.5**0.5], rtol=1e-6)
    np.testing.assert_allclose(text_scores(pictures, text, some), [1, 0], atol=1e-6)
    assert text_scores(pictures[:0], text, some).shape == (0,)


def test_reference_score_is_the_cosine_with_the_nearest_reference():
    pictures, references = unit((1, 0, 0), (0, 1, 0)), unit((1, 0, 0), (1, 1, 0))

    np.testing.assert_allclose(reference_scores(pictures, references), [1, 0.5**0.5], rtol=1e-6)
    assert reference_scores(pictures[:0], references).shape == (0,)
