import math

import pytest

from pipelines.recipe.settings import JudgeSettings
from pipelines.rows import REASONS
from pipelines.stages.judge import Judge


def a_score(text, reference=None, ring=5.0):
    return {"text_similarity": text, "reference_similarity": reference, "ring_error": ring}


def judged(*scores, **settings):
    (update,) = Judge(JudgeSettings(**settings))([{"variant_scores": list(scores)}])
    return update["variant_kept"], update["variant_reasons"]


def test_best_of_those_that_pass_are_kept():
    kept, reasons = judged(a_score(0.3), a_score(0.9), a_score(0.1), a_score(0.5), keep_best=2)

    assert kept == [False, True, False, True]
    assert reasons == ["not_among_best", None, "low_text_similarity", None]


def test_where_likeness_is_not_measured_the_better_seam_wins():
    assert judged(a_score(None, ring=9.0), a_score(None, ring=2.0), keep_best=1)[0] == [False, True]


def test_of_equals_the_first_variant_wins():
    assert judged(a_score(0.5), a_score(0.5), keep_best=1)[0] == [True, False]


def test_reference_counts_only_where_there_is_one():
    settings = {"min_reference_similarity": 0.5, "keep_best": 4}

    assert judged(a_score(0.5, None), a_score(0.5, 0.4), a_score(0.5, 0.6), **settings)[0] == [True, False, True]


@pytest.mark.parametrize("score", [a_score(math.nan), a_score(0.9, math.nan), a_score(0.9, ring=math.nan)])
def test_score_that_is_no_number_is_kept_by_no_threshold(score):
    kept, reasons = judged(score, a_score(0.3), min_text_similarity=-1, max_ring_error=255, keep_best=2)

    assert kept == [False, True]
    assert reasons == ["no_numbers", None]


def test_missing_ring_is_no_reason_against_a_variant():
    assert judged(a_score(0.5, ring=None), max_ring_error=1)[0] == [True]
    assert judged(a_score(0.5, ring=2.0), max_ring_error=1)[1] == ["high_ring_error"]


def test_every_reason_given_is_in_the_table():
    _, reasons = judged(
        a_score(0.1),
        a_score(0.9, 0.1),
        a_score(0.9, 0.9, 99),
        a_score(0.8, 0.9),
        a_score(0.9, 0.9),
        min_reference_similarity=0.5,
    )

    assert reasons == ["low_text_similarity", "low_reference_similarity", "high_ring_error", "not_among_best", None]
    assert {reason for reason in reasons if reason} <= set(REASONS)
