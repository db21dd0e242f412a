import math

import numpy as np

from sample_world.evaluation.figures import auc, average, over_cases, ratio


def test_auc_is_one_where_all_are_told_apart_half_by_chance_and_counts_ties_half():
    assert auc(np.array([0.9, 0.8]), np.array([0.2, 0.1])) == 1
    assert auc(np.array([0.2, 0.1]), np.array([0.9, 0.8])) == 0
    assert auc(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0.5
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 0.0])) == 0.75  # of the four pairs only 1 < 2 is wrong


def test_ratio_of_shares_has_an_interval_round_it():
    base, away = [True] * 40 + [False] * 60, [True] * 10 + [False] * 90

    figure = over_cases(ratio, away, base)

    assert figure.value == 0.25
    assert 0.1 < figure.low < 0.25 < figure.high < 0.5
    assert figure.n == 100


def test_ratio_to_nothing_is_no_number_but_keeps_its_count():
    figure = over_cases(ratio, [True, False], [False, False])

    assert math.isnan(figure.value)
    assert math.isnan(figure.low)
    assert figure.n == 2


def test_no_cases_give_no_figure():
    assert math.isnan(over_cases(auc, [], []).value)
    assert math.isnan(average([]).value)


def test_one_case_is_its_own_interval():
    figure = average([3.0])

    assert (figure.value, figure.low, figure.high, figure.n) == (3.0, 3.0, 3.0, 1)


def test_interval_of_a_mean_is_that_of_its_standard_error_and_the_same_each_time():
    values = np.random.default_rng(1).normal(10, 2, 400).tolist()

    figure = average(values)

    half = 1.96 * np.std(values) / np.sqrt(400)
    assert figure.value == np.mean(values)
    np.testing.assert_allclose([figure.low, figure.high], [figure.value - half, figure.value + half], atol=half / 8)
    assert average(values) == figure


def test_another_figure_than_the_mean_may_be_asked_for():
    assert average([1.0, 2.0, 9.0], np.median).value == 2


def test_entries_of_one_case_are_drawn_together():
    entries = [1.0, 2.0, 3.0, 4.0]

    figure = over_cases(lambda first, second: np.abs(first - second).max(), entries, entries)

    assert (figure.value, figure.low, figure.high) == (0, 0, 0)
