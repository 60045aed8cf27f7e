"""AUMState on two replicas, in an interpreter whose CPU was split in two before TensorFlow used it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # starts processes

TWO_REPLICAS = """
import numpy as np
import tensorflow as tf
from aum.tf import AUMState, with_index

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
logits = np.random.default_rng(0).normal(0, 5, (21, 3)).astype(np.float32)
targets = np.arange(21) % 3
samples = tf.data.Dataset.from_tensor_slices((logits, targets))

def step_of(state):
    @tf.function
    def step(batch):
        strategy.run(state.update, args=batch)
    return step

def train(state, epochs=3):
    step = step_of(state)
    shared = strategy.experimental_distribute_dataset(with_index(samples).shuffle(21, seed=1).batch(8))
    for _ in range(epochs):
        for batch in shared:
            step(batch)

def assert_trained(state, epochs):
    from aum_core import compute_margins
    totals = state.to_totals()
    assert totals.counts.tolist() == [epochs] * 21, totals.counts
    np.testing.assert_array_equal(totals.sums, epochs * compute_margins(logits, targets).margin.astype(np.float64))

with strategy.scope():
    state = AUMState(21)
"""

PROGRAMS = {
    "counts are those of one device": """
train(state)
assert_trained(state, 3)
per_replica = [each.numpy().sum() for each in strategy.experimental_local_results(state.count)]
assert sum(per_replica) == 63 and min(per_replica) > 0, per_replica
with strategy.scope():
    assert_trained(state, 3)
""",
    "repeated ids, within and across replicas": """
ids = strategy.experimental_distribute_values_from_function(
    lambda context: tf.constant([4, 4, context.replica_id_in_sync_group, -1]))
batch = tf.constant(np.float32([[1, 0], [2, 0], [4, 0], [np.nan, 0]])), tf.constant([0, 0, 0, 0])
step_of(state)((*batch, ids))
assert state.count.numpy()[:5].tolist() == [1, 1, 0, 0, 4]
assert state.total.numpy()[:5].tolist() == [4.0, 4.0, 0, 0, 6.0]
assert int(state.invalid.numpy()) == 2
""",
    "a whole epoch in one function": """
shared = strategy.experimental_distribute_dataset(with_index(samples).batch(8))
@tf.function
def epoch():
    for batch in shared:
        strategy.run(state.update, args=batch)
epoch()
epoch()
assert_trained(state, 2)
""",
    # restored by TensorFlow's own rule, odd int64 counts would lose one
    "checkpoint, odd counts": """
import tempfile
train(state)
path = tf.train.Checkpoint(aum=state).save(tempfile.mkdtemp() + "/checkpoint")
train(state, 1)
tf.train.Checkpoint(aum=state).restore(path)
assert_trained(state, 3)
train(state, 2)
assert_trained(state, 5)
""",
    "checkpoint from two replicas to none and back": """
import tempfile
train(state)
path = tf.train.Checkpoint(aum=state).save(tempfile.mkdtemp() + "/checkpoint")
alone = AUMState(21)
tf.train.Checkpoint(aum=alone).restore(path)
assert_trained(alone, 3)
alone.update(tf.constant(logits), tf.constant(targets), tf.range(21))
path = tf.train.Checkpoint(aum=alone).save(tempfile.mkdtemp() + "/checkpoint")
with strategy.scope():
    again = AUMState(21)
tf.train.Checkpoint(aum=again).restore(path)
assert_trained(again, 4)
train(again, 1)
assert_trained(again, 5)
""",
    "all scores and the noise posterior": """
import tempfile
import aum_core
from aum.tf import AUMCalculator
from aum_core.scores.kinds import SCORES
wanted = {"scores": [*SCORES], "noise_posterior": True}
alone, spread = aum_core.AUMCalculator(tempfile.mkdtemp(), **wanted), AUMCalculator(tempfile.mkdtemp(), **wanted)
with strategy.scope():
    state = AUMState(21, 3, spread.needs)
step = step_of(state)
ids = np.concatenate([np.arange(21), [0, 1, 2]])  # some are on both replicas
for epoch in range(4):
    logits = np.random.default_rng(epoch).normal(0, 2, (3, 8, 3)).astype(np.float32)
    batches = logits, (ids % 3).reshape(3, 8), ids.reshape(3, 8)
    shared = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensor_slices(batches).unbatch().batch(8))
    for batch in shared:
        step(batch)
    if epoch == 2:  # within an epoch, from two replicas to two others
        path = tf.train.Checkpoint(aum=state).save(tempfile.mkdtemp() + "/checkpoint")
        with strategy.scope():
            state = AUMState(21, 3, spread.needs)
        tf.train.Checkpoint(aum=state).restore(path)
        step = step_of(state)
    spread.add_epoch(state.end_epoch())
    for batch in zip(*batches):
        alone.accumulate(*batch)
    alone.end_epoch()
assert spread.totals.counts.tolist() == [8] * 3 + [4] * 18
np.testing.assert_array_equal(spread.scores.labels, np.arange(21) % 3)
for name, values in alone.scores.items():
    np.testing.assert_allclose(spread.scores[name], values, rtol=1e-5, atol=2e-6, err_msg=name)
chances = [each.noise_posterior().probabilities for each in (spread, alone)]
np.testing.assert_allclose(*chances, atol=1e-4)
""",
    "a state of another strategy is refused": """
outside, batch = AUMState(21), (tf.constant(logits), tf.constant(targets), tf.range(21))
for wrong, words in (
    (lambda: step_of(outside)(batch), "update: under MirroredStrategy, but the state was made under _DefaultDist"),
    (lambda: state.update(*batch), "update: under _DefaultDistributionStrategy, but the state was made under Mirrored"),
    (lambda: tf.function(state.update)(*batch), "make it inside strategy.scope()"),
):
    try:
        wrong()
    except ValueError as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)
try:
    with strategy.scope():
        state.update(*batch)
except ValueError as error:
    assert "want it inside the function that strategy.run runs" in str(error), error
else:
    raise AssertionError("outside the replicas")
assert not state.count.numpy().any() and not outside.count.numpy().any()
""",
    "one device by its strategy": """
one = tf.distribute.OneDeviceStrategy("CPU:0")
with one.scope():
    state = AUMState(21)
tf.function(lambda: one.run(state.update, args=(tf.constant(logits), tf.constant(targets), tf.range(21))))()
assert_trained(state, 1)
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_two_replicas(name, tmp_path):
    program = tmp_path / "program.py"  # a file: AutoGraph reads the source of loops, and without it they never end
    program.write_text(TWO_REPLICAS + PROGRAMS[name] + "\nprint('done')")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
