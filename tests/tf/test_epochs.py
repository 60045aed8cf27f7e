"""EpochState: the other scores and the noise posterior, as the engine makes them of the same logits."""

import numpy as np
import pytest
import tensorflow as tf

from aum.tf import AUMCalculator, EpochState, find_by_posterior
from aum_core import Scores

MODES = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


@pytest.fixture
def calculator(tmp_path, course):
    return AUMCalculator(tmp_path, scores=course.scores, noise_posterior=True)


def state_of(course, calculator):
    return EpochState(course.size, course.num_classes, calculator.scores)


def measure(state, course, epoch, step=None):
    for batch in course.epoch(epoch):
        (step or state.update)(*map(tf.constant, batch))


@pytest.mark.parametrize("mode", MODES)
def test_all_scores_and_the_posterior_are_the_engines(mode, calculator, course, tmp_path):
    state = state_of(course, calculator)
    step = MODES[mode](state.update)
    for epoch in range(course.num_epochs):
        measure(state, course, epoch, step)
        calculator.add_epoch(state.end_epoch())
    expected = course.measured_by_engine(tmp_path)
    assert expected.scores.describe()["averaging_window"]["closed"]
    course.assert_same(calculator, expected)


def test_one_run_finds_what_the_engine_finds(course, tmp_path):
    def train(targets, num_classes, calculator):
        np.testing.assert_array_equal(targets, course.targets)
        state = EpochState(len(targets), num_classes, calculator.scores)
        step = tf.function(state.update)
        for epoch in range(course.num_epochs):
            measure(state, course, epoch, step)
            calculator.add_epoch(state.end_epoch())

    findings = find_by_posterior(train, course.targets, course.num_classes, save_dir=tmp_path)
    course.assert_found(findings, tmp_path / "engine")


def test_each_score_alone(course, tmp_path):
    for name in course.scores:
        calculator = AUMCalculator(tmp_path, scores=[name], noise_posterior=True)
        state = state_of(course, calculator)
        for epoch in range(course.num_epochs):
            measure(state, course, epoch)
            calculator.add_epoch(state.end_epoch())
        course.assert_same(calculator, course.measured_by_engine(tmp_path, [name]))


@pytest.mark.parametrize(("model", "softmax", "logits"), [("judged", 3, 5), ("classes", 5, 0)])
def test_what_the_posterior_needs_no_more_stays_where_it_is(course, tmp_path, model, softmax, logits):
    calculator = AUMCalculator(tmp_path, noise_posterior=True, posterior_model=model)
    state, came_home = state_of(course, calculator), []
    for epoch in range(course.num_epochs):
        measure(state, course, epoch)
        sums = state.end_epoch()
        came_home.append((sums.softmax is not None, sums.logits is not None))
        calculator.add_epoch(sums)
    assert came_home == [(epoch < softmax, epoch < logits) for epoch in range(course.num_epochs)]
    course.assert_same(calculator, course.measured_by_engine(tmp_path, (), posterior_model=model))


def test_what_nobody_asked_for_has_no_variable_and_no_part_in_the_step():
    state = EpochState(3, 3, Scores(["correctness", "bounded_aum"]))
    assert state.columns.shape == (3, 1)
    assert not hasattr(state, "softmax")
    assert not hasattr(state, "logits")
    assert not hasattr(EpochState(3, 3, Scores()), "columns")
    batch = tf.constant(np.eye(3, dtype=np.float32)), tf.constant([0, 1, 2]), tf.constant([0, 1, 2])
    for name, is_there in (("correctness", False), ("confidence", True)):
        state = EpochState(3, 3, Scores([name]))
        graph = tf.function(state.update).get_concrete_function(*batch).graph
        assert ("Softmax" in {operation.type for operation in graph.get_operations()}) is is_there


@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_count_is_left_out_of_every_column(mode):
    state = EpochState(3, 2, Scores(["confidence"], noise_posterior="judged"))
    logits = np.float32([[2, 0], [np.nan, 0], [2, 0], [2, 0], [2, 0], [0, np.inf]])
    batch = logits, [0, 0, 0, 2, 0, 0], [2, 1, -1, 1, 0, 1], [True, True, True, True, False, True]
    MODES[mode](state.update)(*map(tf.constant, batch))
    with pytest.warns(RuntimeWarning, match="left out were 2 rows with margins that are not finite, 2 rows with"):
        epoch = state.end_epoch()
    assert epoch.left_out == 4
    assert epoch.counts.tolist() == [0, 0, 1]
    assert epoch.labels.tolist() == [-1, -1, 0]
    assert epoch.sums["correct"].tolist() == [0, 0, 1]
    assert (
        np.flatnonzero(epoch.sums["confidence"]).tolist() == np.flatnonzero(epoch.softmax.sum(axis=1)).tolist() == [2]
    )
    with pytest.raises(ValueError, match="nothing was counted"):
        state.end_epoch()


@pytest.mark.parametrize(("logits", "correct"), [([1, 1, 0], 0), ([2, 1, 0], 0), ([0, 1, 1], 1), ([0, 1, 2], 0)])
def test_of_tied_logits_the_lowest_class_is_the_answer(logits, correct):
    state = EpochState(1, 3, Scores(["correctness"]))
    state.update(tf.constant([logits], tf.float32), tf.constant([1]), tf.constant([0]))
    assert state.end_epoch().sums["correct"].tolist() == [correct]


def test_a_checkpoint_within_an_epoch_goes_on_within_it(calculator, course, tmp_path):
    state = state_of(course, calculator)
    for epoch in range(course.num_epochs):
        for number, batch in enumerate(course.epoch(epoch)):
            if number == 3:
                path = tf.train.Checkpoint(aum=state).save(tmp_path / "checkpoint")
                state = state_of(course, calculator)
                tf.train.Checkpoint(aum=state).restore(path).assert_consumed()
            state.update(*map(tf.constant, batch))
        calculator.add_epoch(state.end_epoch())
    course.assert_same(calculator, course.measured_by_engine(tmp_path))


def test_a_checkpoint_of_other_scores_is_refused(tmp_path):
    state = EpochState(3, 2, Scores(["confidence"]))
    state.update(tf.constant([[2.0, 1.0]]), tf.constant([0]), tf.constant([1]))
    path = tf.train.Checkpoint(aum=state).save(tmp_path / "checkpoint")
    for other in (EpochState(3, 2, Scores(["confidence", "el2n"])), EpochState(3, 2, Scores(noise_posterior="judged"))):
        with pytest.raises(ValueError, match=r"checkpoint: it has sums of shapes .* the same scores and classes"):
            tf.train.Checkpoint(aum=other).restore(path)
        assert not other.count.numpy().any()


def test_several_targets_of_a_sample_are_refused():
    state = EpochState(3, 3, Scores(["confidence"]))
    for target in (0, 1):
        state.update(tf.constant([[2.0, 1.0, 0.0]]), tf.constant([target]), tf.constant([2]))
    with pytest.raises(ValueError, match="targets: sample 2 had several within one epoch"):
        state.end_epoch()
    assert state.count.numpy().tolist() == [0, 0, 2]


def test_what_does_not_fit_is_refused():
    scores = Scores(["confidence"])
    with pytest.raises(ValueError, match="num_classes: 1, want at least 2"):
        EpochState(3, 1, scores)
    with pytest.raises(ValueError, match="num_samples: 0, want at least 1"):
        EpochState(0, 2, scores)
    state = EpochState(3, 3, scores)
    with pytest.raises(ValueError, match=r"logits: shape \(1, 2\), want \(B, 3\), as num_classes says"):
        state.update(tf.constant([[1.0, 2.0]]), tf.constant([0]), tf.constant([0]))
    with pytest.raises(TypeError, match=r"end_epoch: called inside a tf.function"):
        tf.function(lambda: state.end_epoch().counts)()


def test_a_model_that_holds_a_state_can_be_exported(tmp_path):
    model = tf.Module()
    model.weight, model.aum = tf.Variable(2.0), EpochState(3, 2, Scores(["confidence"], noise_posterior="judged"))
    model.double = tf.function(lambda x: x * model.weight, input_signature=[tf.TensorSpec([], tf.float32)])
    assert not model.trainable_variables[1:]
    tf.saved_model.save(model, tmp_path)
    assert float(tf.saved_model.load(tmp_path).double(tf.constant(3.0))) == 6.0
