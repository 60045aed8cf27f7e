import json

import numpy as np
import pytest

from aum_core import Budget, LikelyWrong, NoisePosterior, Precision, ZeroMargin


def made(probabilities):
    chances = np.array(probabilities)
    return NoisePosterior(chances, np.zeros(len(chances), int), np.eye(2), 2, "class-conditional", 1.0, 0.0)


def test_a_wanted_precision_flags_the_longest_head_that_keeps_it():
    posterior = made([0.2, 0.9, np.nan, 0.7, 0.4])

    def flagged(precision):
        return Precision(precision).cut(1 - posterior.probabilities, posterior).flagged

    assert flagged(0.8).tolist() == [False, True, False, True, False]
    assert flagged(0.95).sum() == 0
    assert flagged(0.5).sum() == 4
    with pytest.raises(ValueError, match="precision: 0, want a share"):
        Precision(0)


AUMS = np.array([1.0, -2.0, np.nan, 0.5])
RUN = AUMS, made([0.2, 0.9, np.nan, 0.7])


@pytest.mark.parametrize(
    ("cutoff", "flagged", "told"),
    [
        (Budget(1), [1], {"budget": 1}),
        (Budget(0.5), [1, 3], {"budget": 0.5}),
        (Budget(10), [0, 1, 3], {"budget": 10}),
        (ZeroMargin(), [1], {"rule": "AUM below zero"}),
        (LikelyWrong(), [1, 3], {"predicted_precision": 0.8}),
        (Precision(0.85), [1], {"precision": 0.85, "predicted_precision": 0.9}),
    ],
    ids=str,
)
def test_cutoffs_flag_what_they_say_and_tell_it(cutoff, flagged, told):
    cut = cutoff.cut(*RUN)
    assert np.flatnonzero(cut.flagged).tolist() == flagged
    assert np.flatnonzero(cut.undecided).tolist() == [2]
    assert np.flatnonzero(cut.keep).tolist() == sorted({0, 1, 2, 3} - set(flagged))
    choices = cut.describe()
    assert (choices["flagged"], choices["undecided"]) == (len(flagged), 1)
    for name, value in told.items():
        assert choices[name] == pytest.approx(value), name
    json.dumps(choices, allow_nan=False)


@pytest.mark.parametrize("size", [0, -1, 1.5, 0.0, float("nan"), float("inf")])
def test_a_budget_is_a_number_or_a_share(size):
    with pytest.raises(ValueError, match="size: "):
        Budget(size)


@pytest.mark.parametrize("wrong", ["3", None, True, [1]])
def test_numbers_of_cutoffs_are_numbers(wrong):
    with pytest.raises(TypeError, match="size: "):
        Budget(wrong)
    with pytest.raises(TypeError, match="precision: "):
        Precision(wrong)


@pytest.mark.parametrize("cutoff", [Budget(np.int64(2)), Budget(np.float32(0.25)), Precision(np.float64(0.5))])
def test_cutoffs_of_numpy_numbers_can_be_written(cutoff):
    json.dumps(cutoff.cut(*RUN).describe(), allow_nan=False)


def test_cutoffs_that_need_a_posterior_say_so():
    for cutoff in (LikelyWrong(), Precision(0.9)):
        with pytest.raises(ValueError, match="needs the noise posterior"):
            cutoff.cut(AUMS)
    with pytest.raises(ValueError, match="precision: 2"):
        Precision(2)


def test_a_budget_without_a_posterior_is_of_the_lowest_aums():
    assert np.flatnonzero(Budget(2).cut(AUMS).flagged).tolist() == [1, 3]
    assert np.flatnonzero(Budget(1).cut(-AUMS, RUN[1]).flagged).tolist() == [1]
