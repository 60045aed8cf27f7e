import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aum_core import Detection, Totals, find_mislabeled, flip_pairs, flip_uniform, measure_detection, self_check

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


def test_the_self_check_trains_on_the_flipped_labels_and_measures_against_them():
    truth, seen = np.arange(200) % 4, []

    def find(noisy):
        seen.append(noisy.copy())
        return np.where(noisy == truth, 1.0, -1.0)

    found = self_check(find, truth, 4, noise_rate=0.2, seed=5)
    np.testing.assert_array_equal(seen, [flip_uniform(truth, 4, 0.2, 5)[0]])
    assert (found.wrong, found.budget, found.auroc, found.found_within_budget) == (40, 40, 1.0, 1.0)
    assert found.precision is None
    self_check(find, truth, 4, flip=flip_pairs, seed=5)
    np.testing.assert_array_equal(seen[1], flip_pairs(truth, 4, 0.1, 5)[0])


def test_the_self_check_takes_findings(tmp_path):
    truth = np.arange(300) % 3

    def train(targets, num_classes, calculator):
        noise = np.random.default_rng(0).normal(0, 0.1, (len(targets), num_classes))
        calculator.accumulate(4.0 * np.eye(num_classes)[truth] + noise, targets, np.arange(len(targets)))

    def find(noisy):
        return find_mislabeled(train, noisy, 3, save_dir=tmp_path)

    found = self_check(find, truth, 3, budget=60)
    assert (found.wrong, found.budget, found.found_within_budget) == (30, 60, 1.0)
    assert found.precision == 1.0
    assert found.recall > 0.5


def test_the_self_check_takes_totals_in_whatever_order_they_were_measured():
    truth = np.arange(200) % 4
    order = np.random.default_rng(0).permutation(199)  # row 199 is never measured

    def find(noisy):
        totals = Totals()
        totals.add(order, np.where(noisy == truth, 1.0, -1.0)[order])
        return totals

    found = self_check(find, truth, 4, seed=5)
    assert not flip_uniform(truth, 4, 0.1, 5)[1][199]
    assert (found.wrong, found.auroc, found.precision) == (20, 1.0, None)


@pytest.mark.parametrize(
    ("ids", "words"),
    [([], "find: it measured nothing"), ([0, 4], "4 is no row"), ([-1], "-1 is no row"), (["a"], "'a' is no row")],
)
def test_totals_that_are_not_of_the_rows_are_refused(ids, words):
    totals = Totals()
    totals.add(ids, np.zeros(len(ids)))
    with pytest.raises(ValueError, match=words):
        self_check(lambda noisy: totals, [0, 1, 0, 1], 2, noise_rate=0.5)


def test_a_self_check_that_cannot_be_measured_fails_before_training():
    def find(noisy):
        raise AssertionError("trained")

    with pytest.raises(ValueError, match="wrong: 0 of 4 labels"):
        self_check(find, [0, 1, 0, 1], 2, noise_rate=0.01)
    with pytest.raises(ValueError, match="budget: 5"):
        self_check(find, [0, 1, 0, 1], 2, noise_rate=0.5, budget=5)
