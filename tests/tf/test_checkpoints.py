"""AUMState through tf.train.Checkpoint, in one process without a strategy."""

import numpy as np
import pytest
import tensorflow as tf

from aum.tf import AUMState

BATCH = np.float32([[1, 0], [5, 2], [np.nan, 0], [1, 0]]), [0, 0, 0, 0], [2, 0, 1, 9]


def used_state(num_samples=3):
    state = AUMState(num_samples)
    for _ in range(2):
        state.update(*map(tf.constant, BATCH))
    return state


def values(state):
    return {name: getattr(state, name).numpy().tolist() for name in ("total", "count", "nonfinite", "invalid")}


def test_restored_state_goes_on_where_the_saved_one_was(tmp_path):
    path = tf.train.Checkpoint(aum=used_state()).save(tmp_path / "checkpoint")
    restored = AUMState(3)
    tf.train.Checkpoint(aum=restored).restore(path).assert_consumed()
    assert values(restored) == values(used_state())
    restored.update(*map(tf.constant, BATCH))
    assert restored.count.numpy().tolist() == [3, 0, 3]
    assert int(restored.nonfinite) == int(restored.invalid) == 3


@pytest.mark.slow
def test_a_checkpoint_holds_what_was_there_when_it_was_saved(tmp_path):
    state = AUMState(3)
    checkpoint = tf.train.Checkpoint(model=tf.Module(), aum=state)
    manager = tf.train.CheckpointManager(checkpoint, tmp_path, max_to_keep=None)
    step = tf.function(state.update)
    for _ in range(3):
        step(*map(tf.constant, BATCH))
        manager.save()
    for number, path in enumerate(manager.checkpoints, 1):
        checkpoint.restore(path)
        assert state.count.numpy().tolist() == [number, 0, number]
    step(*map(tf.constant, BATCH))
    assert state.count.numpy().tolist() == [4, 0, 4]


def test_a_state_made_after_the_restore_gets_its_values(tmp_path):
    path = tf.train.Checkpoint(aum=used_state()).save(tmp_path / "checkpoint")
    root = tf.train.Checkpoint()
    root.restore(path)
    root.aum = AUMState(3)
    assert values(root.aum) == values(used_state())


def test_a_checkpoint_of_another_number_of_samples_is_refused(tmp_path):
    path = tf.train.Checkpoint(aum=used_state(4)).save(tmp_path / "checkpoint")
    state = used_state(3)
    with pytest.raises(ValueError, match=r"checkpoint: .* 4 samples, want one of num_samples=3"):
        tf.train.Checkpoint(aum=state).restore(path)
    assert values(state) == values(used_state(3))


def test_a_model_that_holds_a_state_can_be_exported(tmp_path):
    model = tf.Module()
    model.weight = tf.Variable(2.0)
    model.aum = used_state()
    model.double = tf.function(lambda x: x * model.weight, input_signature=[tf.TensorSpec([], tf.float32)])
    tf.saved_model.save(model, tmp_path)
    assert float(tf.saved_model.load(tmp_path).double(tf.constant(3.0))) == 6.0
