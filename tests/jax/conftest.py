"""Four devices out of one CPU, and streams with what the engine makes of them."""

import jax
import numpy as np
import pytest

from aum_core import Totals, compute_margins

jax.config.update("jax_num_cpu_devices", 4)


def _stream(num_batches=6, batch_size=8, num_samples=12, num_classes=5, seed=0):
    """Batches of logits, targets and ids; some ids are there several times in a batch."""
    generator = np.random.default_rng(seed)
    return [
        (
            generator.normal(0, 5, (batch_size, num_classes)).astype(np.float32),
            generator.integers(0, num_classes, batch_size).astype(np.int32),
            generator.integers(0, num_samples, batch_size).astype(np.int32),
        )
        for _ in range(num_batches)
    ]


@pytest.fixture
def stream():
    """A function that makes a stream."""
    return _stream


@pytest.fixture
def assert_counted():
    """A function: `state` holds what the engine counts of `batches`, and nothing was left out."""

    def check(state, batches):
        totals = Totals()
        for logits, targets, ids in batches:
            totals.add(ids, compute_margins(logits, targets).margin)
        sums, counts = np.zeros(len(state.count)), np.zeros(len(state.count), int)
        sums[totals.sample_ids], counts[totals.sample_ids] = totals.sums, totals.counts
        np.testing.assert_array_equal(state.count, counts)
        found = np.asarray(state.total, np.float64) + np.asarray(state.compensation)
        np.testing.assert_allclose(found, sums, rtol=1e-12, atol=1e-12)
        assert (int(state.nonfinite), int(state.invalid)) == (0, 0)

    return check
