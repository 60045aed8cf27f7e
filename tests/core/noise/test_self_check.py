import numpy as np
import pytest

from aum_core import Totals, find_by_posterior, find_mislabeled, flip_pairs, flip_uniform, self_check


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


def test_self_check_takes_the_findings_of_one_run(tmp_path):
    truth = np.arange(400) % 4

    def train(targets, num_classes, calculator):
        for _ in range(4):
            calculator.accumulate(4.0 * np.eye(num_classes)[truth], targets, np.arange(400))
            calculator.end_epoch()

    def find(noisy):
        return find_by_posterior(train, noisy, 4, save_dir=tmp_path)

    found = self_check(find, truth, 4, noise_rate=0.2, flip=flip_pairs)
    assert (found.auroc, found.precision, found.recall) == (1.0, 1.0, 1.0)
