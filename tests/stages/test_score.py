import numpy as np
import pytest

from pipelines.models import Candidates
from pipelines.pixels.images import encode
from pipelines.pixels.masks import to_rle
from pipelines.recipe.settings import ScoreSettings
from pipelines.stages.score import Score
from tests.fakes import FakeEncoder

MASK = np.zeros((32, 32), bool)
MASK[8:24, 8:24] = True


class Colours:
    """Embeds a picture as its centre's colour, and a text as the colour that it names."""

    side_px = 16

    def embed_images(self, images):
        return self._unit([image[8, 8].astype(float) for image in images])

    def embed_texts(self, texts):
        return self._unit([np.array({"red": [255, 0, 0], "blue": [0, 0, 255]}[text], float) for text in texts])

    def _unit(self, vectors):
        stacked = np.array(vectors, float).reshape(-1, 3)
        return (stacked / np.linalg.norm(stacked, axis=1, keepdims=True)).astype(np.float32)


def flat(colour, side=32):
    return np.broadcast_to(np.array(colour, np.uint8), (side, side, 3)).copy()


def a_row(crops, prompts, references=(), regions=1):
    return {
        "paint_prompts": prompts,
        "reference_bytes": [encode(flat(colour, 16), "png") for colour in references],
        "allow_mask_rle": to_rle(MASK),
        "regions_xyxy": [[0, 0, 32, 32]] * regions,
        "finished_crops": [flat(colour).tobytes() for colour in crops],
        "ring_errors_after": [float(index) for index in range(len(crops))],
    }


def test_no_rows_score_nothing():
    settings = ScoreSettings(checkpoint="embedded:encoder")

    assert Score(settings, FakeEncoder())([]) == []


def test_each_variant_is_measured_against_its_own_prompt():
    (update,) = Score(ScoreSettings(checkpoint="embedded:encoder"), Colours())(
        [a_row([(255, 0, 0), (255, 0, 0)], ["red", "blue"])]
    )

    red, blue = update["variant_scores"]
    assert red["text_similarity"] == pytest.approx(1)
    assert blue["text_similarity"] == pytest.approx(0)
    assert red["reference_similarity"] is None


def test_worst_region_and_nearest_reference_count():
    row = a_row([(255, 0, 0), (0, 0, 255)], ["red"], references=[(0, 255, 0), (0, 0, 255)], regions=2)

    (update,) = Score(ScoreSettings(checkpoint="embedded:encoder"), Colours())([row])

    (score,) = update["variant_scores"]
    assert score["text_similarity"] == pytest.approx(0)  # the blue region
    assert score["reference_similarity"] == pytest.approx(0)  # the red region has no reference near it
    assert score["ring_error"] == 1.0


class Reddish:
    """Cuts what is red inside the box."""

    def __call__(self, images, prompts):
        for image, some in zip(images, prompts, strict=True):
            for left, top, right, bottom in np.round(some).astype(int):
                mask = np.zeros(image.shape[:2], bool)
                mask[top:bottom, left:right] = image[top:bottom, left:right, 0] > 200
                yield [Candidates(mask[None], np.array([0.9], np.float32))]


@pytest.mark.parametrize("rows_of_growth", [0, 2])
def test_expansion_is_what_a_background_adds_to_the_product(rows_of_growth):
    source = flat((0, 0, 255))
    source[8:24, 8:24] = (255, 0, 0)
    finished = np.where(MASK[..., None], source, flat((0, 255, 0))).astype(np.uint8)
    finished[24 : 24 + rows_of_growth, 8:24] = (255, 0, 0)
    row = {**a_row([], ["a beach"]), "allow_mask_rle": to_rle(~MASK)}
    row |= {"finished_crops": [finished.tobytes()], "region_rgb": [source.tobytes()], "ring_errors_after": [None]}
    settings = ScoreSettings(checkpoint="embedded:encoder", segmenter="embedded:segmenter", likeness=False)

    (update,) = Score(settings, FakeEncoder(), Reddish())([row])

    assert update["variant_scores"][0]["expansion"] == pytest.approx(rows_of_growth / 16)


def test_without_likeness_no_encoder_is_loaded_or_asked():
    settings = ScoreSettings(checkpoint="embedded:no-such-encoder", likeness=False)

    (update,) = Score(settings)([a_row([(255, 0, 0), (0, 0, 255)], ["red", "blue"], references=[(0, 255, 0)])])

    assert [score["text_similarity"] for score in update["variant_scores"]] == [None, None]
    assert [score["reference_similarity"] for score in update["variant_scores"]] == [None, None]
    assert [score["ring_error"] for score in update["variant_scores"]] == [0.0, 1.0]
    assert settings.weights() == {}


class Broken(Colours):
    """Gives no numbers for what is blue."""

    def embed_images(self, images):
        vectors = super().embed_images(images)
        return np.where(vectors[:, 2:] > 0.9, np.float32(np.nan), vectors)


def test_row_whose_likeness_is_no_number_fails_by_name_and_its_neighbours_do_not():
    broken, measured = Score(ScoreSettings(checkpoint="embedded:encoder"), Broken())(
        [a_row([(255, 0, 0), (0, 0, 255)], ["red", "red"]), a_row([(255, 0, 0)], ["red"])]
    )

    assert broken.reason == "no_numbers"
    assert "nan" in broken.detail
    assert measured["variant_scores"][0]["text_similarity"] == pytest.approx(1)
