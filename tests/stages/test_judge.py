import math

import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipelines import catalogue
from pipelines.executors.inline import run
from pipelines.pixels.images import encode
from pipelines.recipe.settings import JudgeSettings
from pipelines.rows import REASONS
from pipelines.stages.judge import Judge
from tests.fakes import a_graph, a_picture, a_recipe


def a_score(text, reference=None, ring=5.0):
    return {"text_similarity": text, "reference_similarity": reference, "ring_error": ring}


def judged(*scores, **settings):
    (update,) = Judge(JudgeSettings(**settings))([{"variant_scores": list(scores)}])
    return update["variant_kept"], update["variant_reasons"]


def rendered(folder, **sections):
    recipe = a_recipe(folder, **sections)
    picture = pa.array([encode(a_picture(3), "png")], pa.large_binary())
    table = pa.table({"sku": ["a"], "category": ["mug"], "colour": ["red"], "given_image_bytes": picture})
    (row,) = run(a_graph(recipe), catalogue.rows(recipe, table, str(folder)))
    return row


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


@pytest.mark.parametrize("scores", [(), (a_score(-1.0, -1.0, 255.0), a_score(math.nan), a_score(None, None, None))])
def test_every_variant_is_kept_whatever_it_scored_where_all_are_asked_for(scores):
    assert judged(*scores, keep="all") == ([True] * len(scores), [None] * len(scores))


@pytest.mark.parametrize("beside", [{"keep_best": 1}, {"max_expansion": 0.05, "keep_best": 64}, {"max_ring_error": 9}])
def test_a_threshold_that_would_have_no_effect_is_refused(beside):
    with pytest.raises(ValidationError) as caught:
        JudgeSettings(keep="all", **beside)

    assert f"`{'`, `'.join(sorted(beside))}` would have no effect. Leave it out, or say `keep: best`" in str(
        caught.value
    )


def test_what_keeps_all_is_dumped_without_thresholds_and_reads_as_it_was():
    everything = JudgeSettings(keep="all")

    assert everything.model_dump(mode="json") == {"keep": "all"}
    assert JudgeSettings.model_validate(everything.model_dump()) == everything


def test_the_default_is_left_out_of_dumps_and_so_of_keys():
    assert JudgeSettings(keep="best").model_dump() == JudgeSettings().model_dump()
    assert "keep" not in JudgeSettings().model_dump()


def test_a_run_that_keeps_all_delivers_every_variant_that_was_painted(tmp_path):
    strict, all_kept = (
        rendered(tmp_path, paint={"variants": 3}, judge=judge)
        for judge in ({"min_text_similarity": 1}, {"keep": "all"})
    )

    assert (strict["status"], strict["reason"]) == ("rejected", "nothing_kept")
    assert all_kept["status"] == "ok"
    assert all_kept["variant_kept"] == [True] * 3
    assert all_kept["variant_scores"] == strict["variant_scores"]
    assert len(set(all_kept["image_files"])) == 3
    assert all_kept["changed_outside"] == [0] * 3


def test_scores_of_a_run_that_is_older_than_a_measure_are_judged_by_the_others():
    older = {"text_similarity": 0.9, "reference_similarity": None, "ring_error": 5.0}

    assert judged(older, max_expansion=0)[0] == [True]
    assert judged({**older, "expansion": 0.1}, max_expansion=0)[1] == ["product_grew"]


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
