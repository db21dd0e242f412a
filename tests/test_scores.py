import annotated_types
import pyarrow as pa
import pytest

from pipelines.night.manifest import IMAGES_SCHEMA
from pipelines.recipe.settings import JudgeSettings, ScoreSettings
from pipelines.rows import REASONS, VARIANT_SCORES
from pipelines.scores import MEASURES, rank
from pipelines.stages.score import Score
from serve.schemas import Scores

NAMES = [one.name for one in MEASURES]
each_measure = pytest.mark.parametrize("measure", MEASURES, ids=NAMES)


def bound(field, kind):
    """The number in a field's `ge` or `le`; None where it has none."""
    found = [one for one in field.metadata if isinstance(one, kind)]
    return getattr(found[0], kind.__name__.lower()) if found else None


@each_measure
def test_every_score_has_a_threshold_over_its_whole_range(measure):
    field = JudgeSettings.model_fields[measure.setting]

    assert field.annotation is float
    assert bound(field, annotated_types.Ge) == measure.lowest
    assert bound(field, annotated_types.Le) == measure.highest
    assert field.description


def test_every_threshold_of_the_judge_is_a_score_s():
    thresholds = {name for name in JudgeSettings.model_fields if name.startswith(("min_", "max_"))}

    assert thresholds == {one.setting for one in MEASURES}


@each_measure
def test_what_to_do_about_a_refusal_names_the_threshold_and_the_way_to_move_it(measure):
    reason = REASONS[measure.reason]

    way = "lower" if measure.asked == "at least" else "raise"
    assert f"{way} `judge.{measure.setting}`." in reason.next_step.lower()
    assert (reason.sentence, reason.kind) == (measure.sentence, "permanent")


@each_measure
def test_a_value_at_the_threshold_passes_and_the_first_beyond_it_does_not(measure):
    beyond = -1 if measure.asked == "at least" else 1

    assert not measure.refuses(0.5, 0.5)
    assert measure.refuses(0.5 + beyond / 100, 0.5)
    assert not measure.refuses(0.5 - beyond / 100, 0.5)
    assert not measure.refuses(None, 0.5)


@each_measure
def test_every_score_has_its_column_and_its_field_in_an_answer(measure):
    assert VARIANT_SCORES.field(measure.name).type == measure.type == IMAGES_SCHEMA.field(measure.name).type
    assert Scores.model_fields[measure.name].description == measure.description


def test_the_columns_of_scores_that_were_published_stay_as_they_are():
    published = ["text_similarity", "reference_similarity", "ring_error", "expansion"]

    assert [(field.name, field.type) for field in VARIANT_SCORES][:4] == [(name, pa.float32()) for name in published]


def test_the_stage_measures_every_score_and_no_other():
    stage = Score(ScoreSettings(checkpoint="embedded:encoder", likeness=False))

    (update,) = stage([{"paint_prompts": ["a"], "ring_errors_after": [2.0], "finished_crops": []}])

    (scores,) = update["variant_scores"]
    assert list(scores) == NAMES


def test_likeness_ranks_first_and_then_the_smaller_ring_error():
    def scored(text, reference, ring):
        return {"text_similarity": text, "reference_similarity": reference, "ring_error": ring}

    best_first = [
        scored(0.2, 0.9, 99.0),
        scored(0.8, None, 1.0),
        scored(0.8, None, 2.0),
        scored(None, None, 1.0),
        scored(-0.5, None, None),
    ]

    ranks = [rank(one) for one in best_first]
    assert ranks == sorted(set(ranks))
