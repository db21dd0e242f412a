import numpy as np
import pytest

from sample_world.drawing.scenes import caption
from sample_world.evaluation.cases import held_out_scenes
from sample_world.evaluation.finding import BARS, FindAnswer, figures, questions

AMONG, FIRST, BY_REFERENCE, ABSENT = BARS


@pytest.fixture(scope="module")
def scenes():
    return held_out_scenes(12)


def answer(*ious, found=True, absent_found=False, named=None):
    return FindAnswer(ious, found, absent_found, named)


def both(*ious, **facts):
    return answer(*ious, **facts), answer(*ious, **facts)


def test_without_answers_nothing_is_measured():
    measured = figures([])

    assert set(BARS) <= set(measured)
    assert {figure.n for figure in measured.values()} == {0}
    assert np.isnan(measured[AMONG].value)


def test_product_counts_among_the_five_and_first_by_its_place():
    measured = figures(
        [
            both(0.8, 0.1),
            both(0.1, 0.2, 0.3, 0.4, 0.75),
            both(0.1, 0.2, 0.3, 0.4, 0.74, 0.9),
            both(),
        ]
    )

    assert measured[AMONG].value == 0.5
    assert measured[FIRST].value == measured[BY_REFERENCE].value == 0.25
    assert measured["automatic masks: product cut out at all"].value == 0.75


def test_product_that_was_rejected_is_not_first():
    measured = figures([both(0.9, found=False)])

    assert measured[FIRST].value == measured[BY_REFERENCE].value == 0
    assert measured["automatic masks, by text: first, whatever its score"].value == 1


def test_text_and_reference_are_not_mixed_up():
    measured = figures([(answer(0.9, absent_found=True), answer(0.1)), (answer(0.9), answer(0.1))])

    assert (measured[FIRST].value, measured[BY_REFERENCE].value) == (1, 0)
    assert measured[ABSENT].value == 0
    assert measured["automatic masks, by text: absent product answered"].value == 0.5


def test_bare_category_is_measured_only_where_it_was_asked_for():
    measured = figures([both(0.1, named=(0.2, 0.8)), both(0.1)])

    assert measured["automatic masks, by bare category: among the five"].value == 1
    assert measured["automatic masks, by bare category: among the five"].n == 1


def test_a_scene_is_asked_one_question_and_its_stranger_is_not_there(scenes):
    asked = questions(scenes)

    assert len(asked) > 6
    assert len({one.case.held.seed for one in asked}) == len(asked)
    for one in asked:
        assert any(one.case.thing is thing for thing in one.case.held.scene.objects)
        assert caption(one.stranger) not in {caption(thing) for thing in one.case.held.scene.objects}


def test_lonely_scene_has_no_stranger_and_is_not_asked(scenes):
    assert questions(scenes[:1]) == []
