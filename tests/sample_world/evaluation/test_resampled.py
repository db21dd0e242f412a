import math

import numpy as np

from sample_world.evaluation.resampled import auc, over_cases, ratio


def test_auc_is_one_where_all_are_told_apart_half_by_chance_and_counts_ties_half():
    assert auc(np.array([0.9, 0.8]), np.array([0.2, 0.1])) == 1
    assert auc(np.array([0.2, 0.1]), np.array([0.9, 0.8])) == 0
    assert auc(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 0.5
    assert auc(np.array([3.0, 1.0]), np.array([2.0, 0.0])) == 0.75  # of the four pairs only 1 < 2 is wrong


def test_ratio_of_shares_has_an_interval_round_it():
    base, away = [True] * 40 + [False] * 60, [True] * 10 + [False] * 90

    figure = over_cases(away, base, ratio)

    assert figure.value == 0.25
    assert 0.1 < figure.low < 0.25 < figure.high < 0.5
    assert figure.n == 100


def test_ratio_to_nothing_is_no_number_but_keeps_its_count():
    figure = over_cases([True, False], [False, False], ratio)

    assert math.isnan(figure.value)
    assert math.isnan(figure.low)
    assert figure.n == 2


def test_no_cases_give_no_figure():
    assert math.isnan(over_cases([], [], auc).value)
