import numpy as np
import pytest

from aum_core import ThresholdPlan, flip_by_matrix, flip_instance_dependent, flip_pairs, flip_uniform

TARGETS = np.random.default_rng(0).integers(0, 5, 1000)
SCORES = np.random.default_rng(1).dirichlet(np.ones(5), 1000)
MATRIX = [[0.5, 0.5, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [0.2] * 5, [0, 0, 0, 0, 1]]

OF_A_SHARE = {
    "uniform": lambda targets, rate, seed=0: flip_uniform(targets, 5, rate, seed),
    "pairs": lambda targets, rate, seed=0: flip_pairs(targets, 5, rate, seed),
    "ambiguous": lambda targets, rate, seed=0: flip_instance_dependent(targets, SCORES, rate, seed),
}
ALL = {**OF_A_SHARE, "matrix": lambda targets, rate, seed=0: flip_by_matrix(targets, MATRIX, seed)}


@pytest.mark.parametrize("kind", OF_A_SHARE)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.37, 1.0])
def test_the_share_asked_for_is_flipped_and_told(kind, rate):
    noisy, flipped = OF_A_SHARE[kind](TARGETS, rate, 3)
    assert flipped.sum() == round(rate * 1000)
    np.testing.assert_array_equal(noisy != TARGETS, flipped)
    assert set(noisy.tolist()) <= set(range(5))


@pytest.mark.parametrize("kind", ALL)
def test_a_seed_repeats_and_another_does_not(kind):
    before = TARGETS.copy()
    first, again, other = (ALL[kind](TARGETS, 0.5, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other
    np.testing.assert_array_equal(TARGETS, before)


@pytest.mark.parametrize("kind", ALL)
def test_flips_threshold_samples_and_a_shuffle_of_one_seed_are_independent(kind):
    def is_like_the_rest(chosen, rows):
        return abs(chosen[rows].mean() - chosen.mean()) < 0.15  # over four standard deviations of 166 rows

    for seed in range(5):
        noisy, flipped = ALL[kind](TARGETS, 0.3, seed)
        first_of_a_shuffle = np.random.default_rng(seed).permutation(1000)[:166]
        assert is_like_the_rest(flipped, first_of_a_shuffle)
        for run in ThresholdPlan.draw(noisy, 5, seed=seed).runs:
            assert is_like_the_rest(flipped, run.threshold_samples)
            assert is_like_the_rest(~run.regular, first_of_a_shuffle)


@pytest.mark.parametrize("kind", OF_A_SHARE)
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_named(kind, rate):
    with pytest.raises(ValueError, match=r"noise_rate: .*want a share in \[0, 1\]"):
        OF_A_SHARE[kind](TARGETS, rate)


@pytest.mark.parametrize("kind", ALL)
def test_a_class_that_is_none_is_named(kind):
    targets = TARGETS.copy()
    targets[7] = 5
    with pytest.raises(ValueError, match=r"targets: row 7 has class 5, want classes in \[0, 5\)"):
        ALL[kind](targets, 0.5)


def test_each_other_class_is_as_likely():
    noisy, _ = flip_uniform(np.full(40_000, 2), 5, 1.0)
    counts = np.bincount(noisy, minlength=5)
    assert counts[2] == 0
    assert np.abs(counts[[0, 1, 3, 4]] - 10_000).max() < 400  # over four standard deviations


def test_a_pair_is_the_next_class_or_the_one_named():
    noisy, flipped = flip_pairs(TARGETS, 5, 0.3)
    np.testing.assert_array_equal(noisy[flipped], (TARGETS[flipped] + 1) % 5)
    noisy, flipped = flip_pairs(TARGETS, 5, 0.3, partners=[1, 0, 3, 2, 0])
    np.testing.assert_array_equal(noisy[flipped], np.array([1, 0, 3, 2, 0])[TARGETS[flipped]])


@pytest.mark.parametrize("partners", [[1, 2, 3, 4], [1, 2, 3, 4, 5], [-1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1.0] * 5])
def test_partners_that_do_not_fit_are_named(partners):
    with pytest.raises(ValueError, match=r"partners: .*want for each of 5 classes another one"):
        flip_pairs(TARGETS, 5, 0.3, partners=partners)


def test_labels_follow_the_matrix():
    targets = np.repeat(np.arange(5), 20_000)
    noisy, flipped = flip_by_matrix(targets, MATRIX)
    np.testing.assert_array_equal(noisy != targets, flipped)
    shares = np.array([np.bincount(noisy[targets == each], minlength=5) for each in range(5)]) / 20_000
    np.testing.assert_allclose(shares, MATRIX, atol=0.015)
    assert (shares[np.array(MATRIX) == 0] == 0).all()


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(5)[:4], r"transition: shape \(4, 5\)"),
        ([[1.0]], r"transition: shape \(1, 1\)"),
        (np.eye(5) * 2, "transition: row 0 is .*add up to 1"),
        ([*np.eye(5)[:4].tolist(), [2, 0, 0, 0, -1]], "transition: row 4"),
        ([*np.eye(5)[:4].tolist(), [np.nan] * 5], "transition: row 4"),
    ],
)
def test_a_matrix_that_does_not_fit_is_named(matrix, words):
    with pytest.raises(ValueError, match=words):
        flip_by_matrix(TARGETS, matrix)


def test_the_less_sure_the_sooner_flipped_and_to_the_likelier_class():
    targets = np.zeros(30_000, np.int64)
    scores = np.tile([[0.9, 0.1, 0.0], [0.4, 0.4, 0.2], [1.0, 0.0, 0.0]], (10_000, 1))
    noisy, flipped = flip_instance_dependent(targets, scores, 0.02)
    sure, unsure, certain = flipped[0::3], flipped[1::3], flipped[2::3]
    assert unsure.sum() / sure.sum() == pytest.approx(6, rel=0.25)  # weights of .6 and .1
    assert not certain.any()
    assert set(noisy[0::3].tolist()) == {0, 1}
    of_unsure = np.bincount(noisy[1::3][unsure], minlength=3)
    assert of_unsure[1] / of_unsure[2] == pytest.approx(2, rel=0.3)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (SCORES[:-1], "scores: 999 rows for 1000 targets"),
        (SCORES[:, 0], r"scores: shape \(1000,\)"),
        (SCORES * 3, "scores: row 0 .*softmax of logits"),
        (np.where(np.arange(1000)[:, None] == 4, np.nan, SCORES), "scores: row 4"),
        (np.eye(5)[TARGETS], "only 0 have a score beside that of their own class"),
    ],
)
def test_scores_that_do_not_fit_are_named(scores, words):
    with pytest.raises(ValueError, match=words):
        flip_instance_dependent(TARGETS, scores, 0.1)
