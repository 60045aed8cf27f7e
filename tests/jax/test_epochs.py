"""The other scores and the noise posterior, measured in the compiled step, against the engine on the same logits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aum.jax import AUMCalculator, find_by_posterior, init_epoch, to_epoch_sums, update_epoch
from aum_core import Scores

STEP = jax.jit(update_epoch, donate_argnums=0)
LOGITS = np.float32([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 4.0]])  # of targets 0, 2, 2: margins 1.5, -2, 3


@pytest.fixture
def calculator(tmp_path, course):
    return AUMCalculator(tmp_path, scores=course.scores, noise_posterior=True)


def measured(calculator, course, step=STEP, begin=lambda state: state):
    for epoch in range(course.num_epochs):
        state = begin(init_epoch(course.size, course.num_classes, calculator.scores))
        for batch in course.epoch(epoch):
            state = step(state, *batch)
        calculator.add_epoch(to_epoch_sums(state))
    return calculator


def test_all_scores_and_the_posterior_are_the_engines(calculator, course, tmp_path):
    expected = course.measured_by_engine(tmp_path)
    assert expected.scores.describe()["averaging_window"]["closed"]
    course.assert_same(measured(calculator, course), expected)


def test_one_run_finds_what_the_engine_finds(course, tmp_path):
    def train(targets, num_classes, calculator):
        np.testing.assert_array_equal(targets, course.targets)
        assert num_classes == course.num_classes
        measured(calculator, course)

    findings = find_by_posterior(train, course.targets, course.num_classes, save_dir=tmp_path)
    course.assert_found(findings, tmp_path / "engine")


def test_a_calculator_saved_between_epochs_goes_on(calculator, course, tmp_path):
    for epoch in range(course.num_epochs):
        state = init_epoch(course.size, course.num_classes, calculator.scores)
        for batch in course.epoch(epoch):
            state = STEP(state, *batch)
        calculator.save(tmp_path / "within.npz")
        calculator = AUMCalculator.load(tmp_path / "within.npz")
        calculator.add_epoch(to_epoch_sums(state))
    course.assert_same(calculator, course.measured_by_engine(tmp_path))


def test_a_whole_epoch_in_one_scan(calculator, course, tmp_path):
    @partial(jax.jit, donate_argnums=0)
    def train(state, batches):
        return jax.lax.scan(lambda state, batch: (update_epoch(state, *batch), None), state, batches)[0]

    for epoch in range(course.num_epochs):
        batches = zip(*course.epoch(epoch), strict=True)
        state = train(init_epoch(course.size, course.num_classes, calculator.scores), tuple(map(np.stack, batches)))
        calculator.add_epoch(to_epoch_sums(state))
    course.assert_same(calculator, course.measured_by_engine(tmp_path))


def test_each_score_alone(course, tmp_path):
    for name in course.scores:
        calculator = measured(AUMCalculator(tmp_path, scores=[name], noise_posterior=True), course)
        course.assert_same(calculator, course.measured_by_engine(tmp_path, [name]))


@pytest.mark.parametrize(("model", "softmax", "logits"), [("judged", 3, 5), ("classes", 5, 0)])
def test_what_the_posterior_needs_no_more_is_left_away(course, tmp_path, model, softmax, logits):
    calculator = AUMCalculator(tmp_path, noise_posterior=True, posterior_model=model)
    there = []
    for epoch in range(course.num_epochs):
        state = init_epoch(course.size, course.num_classes, calculator.scores)
        there.append((state.softmax is not None, state.logits is not None))
        for batch in course.epoch(epoch):
            state = STEP(state, *batch)
        calculator.add_epoch(to_epoch_sums(state))
    assert there == [(epoch < softmax, epoch < logits) for epoch in range(course.num_epochs)]
    course.assert_same(calculator, course.measured_by_engine(tmp_path, (), posterior_model=model))


def test_a_state_of_zeros_begins_an_epoch_without_compiling_anew(calculator, course, tmp_path):
    step, state = jax.jit(update_epoch), init_epoch(course.size, course.num_classes, calculator.scores)
    for epoch in range(course.num_epochs):
        state = jax.tree.map(jnp.zeros_like, state)
        for batch in course.epoch(epoch):
            state = step(state, *batch)
        calculator.add_epoch(to_epoch_sums(state))
    assert step._cache_size() == 1
    course.assert_same(calculator, course.measured_by_engine(tmp_path))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_spread_over_a_mesh(kind, calculator, course, tmp_path):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(kind,))

    def spread(tree):
        return jax.tree.map(
            lambda leaf: jax.device_put(leaf, NamedSharding(mesh, P("data") if leaf.ndim else P())), tree
        )

    course.assert_same(
        measured(calculator, course, lambda state, *batch: STEP(state, *spread(batch)), spread),
        course.measured_by_engine(tmp_path),
    )


def test_shard_map_gathers_the_batch_into_a_replicated_state(calculator, course, tmp_path):
    mesh = jax.make_mesh((4,), ("data",))
    specs = P(), *[P("data")] * 3
    step = jax.jit(jax.shard_map(partial(update_epoch, axis_name="data"), mesh=mesh, in_specs=specs, out_specs=P()))
    over_mesh = NamedSharding(mesh, P("data"))
    course.assert_same(
        measured(calculator, course, lambda state, *batch: step(state, *jax.device_put(batch, over_mesh))),
        course.measured_by_engine(tmp_path),
    )


def test_what_nobody_asked_for_is_neither_kept_nor_compiled():
    state = init_epoch(3, 3, Scores(["correctness", "bounded_aum"]))
    assert (list(state.columns), state.softmax, state.logits) == (["correct"], None, None)
    compiled = STEP.lower(state, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3)).compile()
    assert "exponential" not in compiled.as_text()
    with_softmax = init_epoch(3, 3, Scores(["confidence"]))
    assert "exponential" in STEP.lower(with_softmax, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3)).compile().as_text()


def test_a_donated_state_is_updated_in_place():
    state = init_epoch(50_000, 3, Scores(["el2n"], noise_posterior="judged"))
    state = STEP(state, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3))
    before = state.softmax.unsafe_buffer_pointer()
    state = STEP(state, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3))
    assert state.softmax.unsafe_buffer_pointer() == before
    analysis = STEP.lower(state, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3)).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 100_000


def test_what_does_not_count_is_left_out_of_every_column():
    logits = np.float32([[2, 0], [np.nan, 0], [2, 0], [2, 0], [2, 0], [0, np.inf]])
    state = STEP(
        init_epoch(3, 2, Scores(["confidence"], noise_posterior="judged")),
        logits,
        jnp.array([0, 0, 0, 2, 0, 0]),
        jnp.array([2, 1, -1, 1, 0, 1]),
        where=jnp.array([True, True, True, True, False, True]),
    )
    with pytest.warns(
        RuntimeWarning, match=r"state: left out of the totals: 2 with an id or target .*, 2 with a margin"
    ):
        epoch = to_epoch_sums(state)
    assert epoch.left_out == 4
    assert epoch.counts.tolist() == [0, 0, 1]
    assert epoch.labels.tolist() == [-1, -1, 0]
    assert epoch.sums["correct"].tolist() == [0, 0, 1]
    assert (
        np.flatnonzero(epoch.sums["confidence"]).tolist() == np.flatnonzero(epoch.softmax.sum(axis=1)).tolist() == [2]
    )


@pytest.mark.parametrize(("logits", "correct"), [([1, 1, 0], 0), ([2, 1, 0], 0), ([0, 1, 1], 1), ([0, 1, 2], 0)])
def test_of_tied_logits_the_lowest_class_is_the_answer(logits, correct):
    state = update_epoch(init_epoch(1, 3, Scores(["correctness"])), np.float32([logits]), [1], [0])
    assert state.columns["correct"].tolist() == [correct]


def test_half_logits_are_measured_in_float32():
    logits = jnp.asarray(LOGITS * 1.1, jnp.bfloat16)
    scores = Scores(["confidence"])
    half = update_epoch(init_epoch(3, 3, scores), logits, [0, 2, 2], [0, 1, 2])
    whole = update_epoch(init_epoch(3, 3, scores), logits.astype(jnp.float32), [0, 2, 2], [0, 1, 2])
    assert half.columns["confidence"].tolist() == whole.columns["confidence"].tolist()


def test_what_does_not_fit_is_refused():
    scores = Scores(noise_posterior="judged")
    state = init_epoch(3, 3, scores)
    with pytest.raises(ValueError, match="num_classes: 1, want at least 2"):
        init_epoch(3, 1, scores)
    with pytest.raises(ValueError, match="num_samples: 0, want 1 to"):
        init_epoch(0, 3, scores)
    with pytest.raises(ValueError, match=r"logits: shape \(3, 2\), want \(B, 3\), as init_epoch was told"):
        STEP(state, LOGITS[:, :2], jnp.array([0, 1, 1]), jnp.arange(3))
    with pytest.raises(ValueError, match=r"state: nothing was counted; .* Call update_epoch at every training step"):
        to_epoch_sums(state)
    with pytest.raises(ValueError, match=r"state: count of shape \(2, 3\), want \(N,\)"):
        to_epoch_sums(jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state))
