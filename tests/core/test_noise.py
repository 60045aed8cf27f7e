import numpy as np
import pytest

from aum_core import flip_uniform


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.37, 1.0])
def test_the_share_asked_for_is_flipped_and_told(rate):
    targets = np.random.default_rng(0).integers(0, 5, 1000)
    noisy, flipped = flip_uniform(targets, 5, rate, seed=3)
    assert flipped.sum() == round(rate * 1000)
    np.testing.assert_array_equal(noisy != targets, flipped)
    assert set(noisy.tolist()) <= set(range(5))


def test_each_other_class_is_as_likely():
    noisy, _ = flip_uniform(np.full(40_000, 2), 5, 1.0)
    counts = np.bincount(noisy, minlength=5)
    assert counts[2] == 0
    assert np.abs(counts[[0, 1, 3, 4]] - 10_000).max() < 400  # over four standard deviations


def test_a_seed_repeats_and_another_does_not():
    targets = np.zeros(100, np.int64)
    first, again, other = (flip_uniform(targets, 3, 0.5, seed=seed)[0].tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert not targets.any()


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_named(rate):
    with pytest.raises(ValueError, match=r"noise_rate: .*want a share in \[0, 1\]"):
        flip_uniform([0, 1], 2, rate)
