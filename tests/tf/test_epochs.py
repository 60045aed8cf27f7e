"""AUMState with needs: the other scores and the noise posterior, as the engine makes them of the same logits."""

import numpy as np
import pytest
import tensorflow as tf

from aum.tf import AUMCalculator, AUMState, Needs, find_by_posterior

MODES = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
}


@pytest.fixture
def calculator(tmp_path, course):
    return AUMCalculator(tmp_path, scores=course.scores, noise_posterior=True)


def state_of(course, calculator):
    return AUMState(course.size, course.num_classes, calculator.needs)


def measure(state, course, epoch, step=None):
    for batch in course.epoch(epoch):
        (step or state.update)(*map(tf.constant, batch))


@pytest.mark.slow
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
        state = AUMState(len(targets), num_classes, calculator.needs)
        step = tf.function(state.update)
        for epoch in range(course.num_epochs):
            measure(state, course, epoch, step)
            calculator.add_epoch(state.end_epoch())

    findings = find_by_posterior(train, course.targets, course.num_classes, save_dir=tmp_path)
    course.assert_found(findings, tmp_path / "engine")


@pytest.mark.slow
def test_each_score_alone(course, tmp_path):
    for name in course.scores:
        calculator = AUMCalculator(tmp_path, scores=[name], noise_posterior=True)
        state = state_of(course, calculator)
        for epoch in range(course.num_epochs):
            measure(state, course, epoch)
            calculator.add_epoch(state.end_epoch())
        course.assert_same(calculator, course.measured_by_engine(tmp_path, [name]))


def test_what_the_posterior_needs_no_more_stays_where_it_is(course, tmp_path):
    calculator = AUMCalculator(tmp_path, noise_posterior=True)
    state, came_home = state_of(course, calculator), []
    for epoch in range(course.num_epochs):
        measure(state, course, epoch)
        sums = state.end_epoch(calculator.needs)
        came_home.append((sums.softmax is not None, sums.logits is not None))
        calculator.add_epoch(sums)
    assert came_home == [(epoch < 3, epoch < 5) for epoch in range(course.num_epochs)]
    course.assert_same(calculator, course.measured_by_engine(tmp_path, ()))


def test_what_the_posterior_needs_no_more_is_no_part_of_a_new_state(course, tmp_path):
    calculator = AUMCalculator(tmp_path, noise_posterior=True)
    for epoch in range(course.num_epochs):
        state = state_of(course, calculator)
        assert (hasattr(state, "softmax"), hasattr(state, "logits")) == (epoch < 3, epoch < 5)
        measure(state, course, epoch)
        calculator.add_epoch(state.end_epoch())
    course.assert_same(calculator, course.measured_by_engine(tmp_path, ()))


def test_needs_that_the_state_has_no_sums_for_are_refused():
    state = AUMState(3, 3, Needs(columns=("correct",)))
    state.update(tf.constant([[2.0, 1.0, 0.0]]), tf.constant([0]), tf.constant([2]))
    for needs in (Needs(columns=("confidence",)), Needs(columns=("correct",), softmax=True), Needs(logits=True)):
        with pytest.raises(ValueError, match=r"needs: .* is not among what the state adds up"):
            state.end_epoch(needs)
    assert state.count.numpy().tolist() == [0, 0, 1]


def test_what_nobody_asked_for_has_no_variable_and_no_part_in_the_step():
    state = AUMState(3, 3, Needs(columns=("correct",)))
    assert state.columns.shape == (3, 1)
    assert not hasattr(state, "softmax")
    assert not hasattr(state, "logits")
    assert not hasattr(AUMState(3, 3, Needs()), "columns")
    assert not hasattr(AUMState(3, 3), "target")
    batch = tf.constant(np.eye(3, dtype=np.float32)), tf.constant([0, 1, 2]), tf.constant([0, 1, 2])
    for name, is_there in (("correct", False), ("confidence", True)):
        state = AUMState(3, 3, Needs(columns=(name,)))
        graph = tf.function(state.update).get_concrete_function(*batch).graph
        assert ("Softmax" in {operation.type for operation in graph.get_operations()}) is is_there


def test_a_score_of_the_margins_alone_needs_no_column(course, tmp_path):
    calculator = AUMCalculator(tmp_path, scores=["bounded_aum"])
    state = AUMState(course.size, needs=calculator.needs)
    expected = AUMCalculator(tmp_path, scores=["bounded_aum"])
    for epoch in range(2):
        measure(state, course, epoch)
        calculator.add_epoch(state.end_epoch())
        for batch in course.epoch(epoch):
            expected.accumulate(*batch)
        expected.end_epoch()
    rows = calculator.totals.find(expected.totals.sample_ids)
    found, wanted = calculator.scores["bounded_aum"][rows], expected.scores["bounded_aum"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_count_is_left_out_of_every_column(mode):
    state = AUMState(3, 2, Needs(columns=("confidence", "correct"), softmax=True, logits=True))
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
    state = AUMState(1, 3, Needs(columns=("correct",)))
    state.update(tf.constant([logits], tf.float32), tf.constant([1]), tf.constant([0]))
    assert state.end_epoch().sums["correct"].tolist() == [correct]


@pytest.mark.slow
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
    state = AUMState(3, 2, Needs(columns=("confidence",)))
    state.update(tf.constant([[2.0, 1.0]]), tf.constant([0]), tf.constant([1]))
    path = tf.train.Checkpoint(aum=state).save(tmp_path / "checkpoint")
    for needs in (Needs(columns=("confidence", "error_norm")), Needs(columns=("correct",), softmax=True, logits=True)):
        other = AUMState(3, 2, needs)
        with pytest.raises(ValueError, match=r"checkpoint: it has sums of shapes .* the same scores and classes"):
            tf.train.Checkpoint(aum=other).restore(path)
        assert not other.count.numpy().any()


def test_several_targets_of_a_sample_are_refused():
    state = AUMState(3, 3, Needs(columns=("confidence",)))
    for target in (0, 1):
        state.update(tf.constant([[2.0, 1.0, 0.0]]), tf.constant([target]), tf.constant([2]))
    with pytest.raises(ValueError, match="targets: sample 2 had several within one epoch"):
        state.end_epoch()
    assert state.count.numpy().tolist() == [0, 0, 2]


def test_what_does_not_fit_is_refused():
    needs = Needs(columns=("confidence",))
    with pytest.raises(ValueError, match="num_classes: 1, want at least 2"):
        AUMState(3, 1, needs)
    with pytest.raises(ValueError, match="num_samples: 0, want at least 1"):
        AUMState(0, 2, needs)
    with pytest.raises(ValueError, match="num_classes: None, want C, since all of the logits is needed"):
        AUMState(3, needs=Needs(logits=True))
    state = AUMState(3, 3, needs)
    with pytest.raises(ValueError, match=r"logits: shape \(1, 2\), want \(B, 3\), as num_classes says"):
        state.update(tf.constant([[1.0, 2.0]]), tf.constant([0]), tf.constant([0]))
    with pytest.raises(TypeError, match=r"end_epoch: called inside a tf.function"):
        tf.function(lambda: state.end_epoch().counts)()


def test_a_state_without_needs_has_no_epochs():
    state = AUMState(3)
    state.update(tf.constant([[1.0, 2.0]]), tf.constant([0]), tf.constant([0]))
    with pytest.raises(ValueError, match=r"end_epoch: the state was made without needs, want AUMState\(.*needs\)"):
        state.end_epoch()
    assert state.count.numpy().tolist() == [1, 0, 0]


def test_the_epoch_so_far_has_totals():
    state = AUMState(3, needs=Needs(columns=("correct",)))
    state.update(tf.constant([[1.0, 2.0]]), tf.constant([0]), tf.constant([2]))
    totals = state.to_totals()
    assert (totals.sample_ids.tolist(), totals.sums.tolist()) == ([2], [-1.0])
    assert state.end_epoch().counts.tolist() == [0, 0, 1]


def test_a_model_that_holds_a_state_can_be_exported(tmp_path):
    model = tf.Module()
    model.weight = tf.Variable(2.0)
    model.aum = AUMState(3, 2, Needs(columns=("confidence",), softmax=True, logits=True))
    model.double = tf.function(lambda x: x * model.weight, input_signature=[tf.TensorSpec([], tf.float32)])
    assert not model.trainable_variables[1:]
    tf.saved_model.save(model, tmp_path)
    assert float(tf.saved_model.load(tmp_path).double(tf.constant(3.0))) == 6.0
