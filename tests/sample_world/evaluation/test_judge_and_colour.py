import numpy as np
import pytest

from sample_world.drawing.textures import COLOURS
from sample_world.evaluation.judge import (
    BACKGROUND,
    PRODUCT,
    JudgeNetwork,
    PictureJudge,
    background_square,
    boxed,
    nearest_colour,
    product_square,
)
from sample_world.evaluation.reconstruction import flat_areas, flat_colour_errors, psnr

GREY = np.full((60, 80, 3), 128, np.uint8)
MASK = np.zeros((60, 80), bool)
MASK[20:50, 10:40] = True


@pytest.mark.parametrize("colour", COLOURS)
def test_colour_is_that_of_most_of_the_mask(colour):
    rgb = np.where(MASK[..., None], np.array(COLOURS[colour]), 0).astype(np.uint8)
    rgb[22:48:5, 10:40] = 248  # thin stripes
    rgb[20:22] = (0, 255, 0)  # a blended rim

    assert nearest_colour(rgb, MASK) == colour


def test_box_grows_within_the_picture():
    box = boxed(MASK, 15)

    assert box[5:, :55].all()
    assert box.sum() == 55 * 55


def test_judge_answers_every_question_with_a_word():
    judges = (
        PictureJudge(JudgeNetwork(PRODUCT).eval(), PRODUCT),
        PictureJudge(JudgeNetwork(BACKGROUND).eval(), BACKGROUND),
    )
    squares = [product_square(GREY, MASK), background_square(GREY, MASK)]

    for judge in judges:
        assert judge([]) == []
        said = judge(squares)
        assert len(said) == 2
        for answer in said:
            assert set(answer) == set(judge.answers)
            assert all(word in judge.answers[question] for question, word in answer.items())


def test_judge_of_backgrounds_sees_no_product():
    one, other = GREY.copy(), GREY.copy()
    one[MASK], other[MASK] = 0, 255

    np.testing.assert_array_equal(background_square(one, MASK), background_square(other, MASK))


def test_psnr_follows_its_formula():
    assert psnr(GREY, GREY) == 100
    assert psnr(GREY, GREY + np.uint8(10)) == pytest.approx(10 * np.log10(255**2 / 100))


def test_flat_areas_keep_away_from_edges_and_patterns():
    rgb = np.full((60, 120, 3), 200, np.uint8)
    rgb[:, 60:] = np.where(np.arange(60) % 6 < 3, 40, 220).astype(np.uint8)[None, :, None]

    (area,) = flat_areas(rgb)

    assert area[:, :50].all()
    assert not area[:, 58:].any()


def test_flat_colour_error_is_that_of_the_mean_colour():
    red = np.broadcast_to(np.array([200, 40, 40], np.uint8), (60, 60, 3))
    darker = np.broadcast_to(np.array([150, 40, 40], np.uint8), (60, 60, 3))

    assert flat_colour_errors(red, red) == [0]
    (error,) = flat_colour_errors(red, darker)
    assert 8 < error < 16
    assert flat_colour_errors(red[:10, :10], darker[:10, :10]) == []
