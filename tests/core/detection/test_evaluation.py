import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aum_core import Detection, measure_detection

scored = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({wrong for _, wrong in pairs}) == 2
)


def by_pairs(aums, wrong):
    """AUROC as its definition has it: over all pairs of a wrong label and another."""
    pairs = [(a, b) for a, bad in zip(aums, wrong, strict=True) if bad for b in aums[~wrong]]
    return np.mean([(a < b) + 0.5 * (a == b) for a, b in pairs])


@given(scored)
def test_auroc_is_the_share_of_pairs_in_order(pairs):
    aums, wrong = (np.array(column) for column in zip(*pairs, strict=True))
    assert measure_detection(aums, wrong).auroc == pytest.approx(by_pairs(aums, wrong))


def test_figures_by_hand():
    aums = [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0]
    wrong = np.array([True, False, True, False, False, True])
    found = measure_detection(aums, wrong, flagged=np.array([1, 1, 1, 0, 0, 0], bool), budget=2)
    assert found == Detection(
        wrong=3,
        auroc=pytest.approx(5 / 9),
        average_precision=pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3),
        budget=2,
        found_within_budget=pytest.approx(1 / 3),
        precision=pytest.approx(2 / 3),
        recall=pytest.approx(2 / 3),
    )
    assert found.describe()["average_precision"] == found.average_precision


def test_tied_aums_count_as_what_chance_would_find():
    found = measure_detection([0.0] * 10, [True] * 4 + [False] * 6, budget=5)
    assert (found.auroc, found.average_precision, found.found_within_budget) == (0.5, 0.4, 0.5)


def test_what_was_never_measured_is_the_least_suspicious():
    wrong = [True, False, False]
    assert measure_detection([np.nan, 5.0, -1.0], wrong).auroc == 0.0
    assert measure_detection([5.0, np.nan, np.inf], wrong).auroc == 1.0


def test_nothing_flagged_has_no_precision():
    found = measure_detection([0.0, 1.0], [True, False], flagged=[False, False])
    assert (found.precision, found.recall) == (None, 0.0)
    assert measure_detection([0.0, 1.0], [True, False]).recall is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wrong": [1, 0, 0]}, "wrong: dtype int64"),
        ({"wrong": [False] * 3}, "wrong: 0 of 3 labels are wrong"),
        ({"wrong": [True] * 3}, "wrong: 3 of 3 labels are wrong"),
        ({"aums": [1.0]}, r"aums: shape \(1,\), want \(3,\)"),
        ({"flagged": [True]}, r"flagged: shape \(1,\), want \(3,\)"),
        ({"flagged": [0, 1, 2]}, "flagged: dtype int64"),
        ({"budget": 0}, r"budget: 0, want .* \[1, 3\]"),
        ({"budget": 4}, "budget: 4"),
    ],
)
def test_what_does_not_fit_is_named(changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        measure_detection(**{"aums": [0.0, 1.0, 2.0], "wrong": [True, False, False], **changes})
