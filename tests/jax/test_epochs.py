"""The other scores and the noise posterior, measured in the compiled step, against the engine on the same logits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aum.jax import AUMCalculator, Needs, find_by_posterior, init, merge, to_epoch_sums, to_totals, update

STEP = jax.jit(update, donate_argnums=0)
LOGITS = np.array(
    [[2.0, 0.5, -1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 4.0]], np.float32
)  # of targets 0, 2, 2: margins 1.5, -2, 3
POSTERIOR = Needs(("correct", "error_norm"), softmax=True, logits=True)


@pytest.fixture
def calculator(tmp_path, course):
    return AUMCalculator(tmp_path, scores=course.scores, noise_posterior=True)


def measured(calculator, course, step=STEP, begin=lambda state: state):
    for epoch in range(course.num_epochs):
        state = begin(init(course.size, course.num_classes, calculator.needs))
        for batch in course.epoch(epoch):
            state = step(state, *batch)
        calculator.add_epoch(to_epoch_sums(state))
    return calculator


@pytest.mark.slow
def test_all_scores_and_the_posterior_are_the_engines(calculator, course, tmp_path):
    expected = course.measured_by_engine(tmp_path)
    assert expected.scores.describe()["averaging_window"]["closed"]
    course.assert_same(measured(calculator, course), expected)


@pytest.mark.slow
def test_one_run_finds_what_the_engine_finds(course, tmp_path):
    def train(targets, num_classes, calculator):
        np.testing.assert_array_equal(targets, course.targets)
        assert num_classes == course.num_classes
        measured(calculator, course)

    findings = find_by_posterior(train, course.targets, course.num_classes, save_dir=tmp_path)
    course.assert_found(findings, tmp_path / "engine")


@pytest.mark.slow
def test_a_calculator_saved_between_epochs_goes_on(calculator, course, tmp_path):
    for epoch in range(course.num_epochs):
        state = init(course.size, course.num_classes, calculator.needs)
        for batch in course.epoch(epoch):
            state = STEP(state, *batch)
        calculator.save(tmp_path / "within.npz")
        calculator = AUMCalculator.load(tmp_path / "within.npz")
        calculator.add_epoch(to_epoch_sums(state))
    course.assert_same(calculator, course.measured_by_engine(tmp_path))


@pytest.mark.slow
def test_a_whole_epoch_in_one_scan(calculator, course, tmp_path):
    @partial(jax.jit, donate_argnums=0)
    def train(state, batches):
        return jax.lax.scan(lambda state, batch: (update(state, *batch), None), state, batches)[0]

    for epoch in range(course.num_epochs):
        batches = zip(*course.epoch(epoch), strict=True)
        state = train(init(course.size, course.num_classes, calculator.needs), tuple(map(np.stack, batches)))
        calculator.add_epoch(to_epoch_sums(state))
    course.assert_same(calculator, course.measured_by_engine(tmp_path))


@pytest.mark.slow
def test_each_score_alone(course, tmp_path):
    for name in course.scores:
        calculator = measured(AUMCalculator(tmp_path, scores=[name], noise_posterior=True), course)
        course.assert_same(calculator, course.measured_by_engine(tmp_path, [name]))


@pytest.mark.slow
def test_what_the_posterior_needs_no_more_is_left_away(course, tmp_path):
    calculator = AUMCalculator(tmp_path, noise_posterior=True)
    there = []
    for epoch in range(course.num_epochs):
        state = init(course.size, course.num_classes, calculator.needs)
        there.append((state.softmax is not None, state.logits is not None))
        for batch in course.epoch(epoch):
            state = STEP(state, *batch)
        calculator.add_epoch(to_epoch_sums(state))
    assert there == [(epoch < 3, epoch < 5) for epoch in range(course.num_epochs)]
    course.assert_same(calculator, course.measured_by_engine(tmp_path, ()))


def test_a_state_of_zeros_begins_an_epoch_without_compiling_anew(calculator, course, tmp_path):
    step, state = jax.jit(update), init(course.size, course.num_classes, calculator.needs)
    for epoch in range(course.num_epochs):
        state = jax.tree.map(jnp.zeros_like, state)
        for batch in course.epoch(epoch):
            state = step(state, *batch)
        calculator.add_epoch(to_epoch_sums(state))
    assert step._cache_size() == 1  # type: ignore[attr-defined] # what jit gives has it
    course.assert_same(calculator, course.measured_by_engine(tmp_path))


@pytest.mark.slow
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


@pytest.mark.slow
def test_shard_map_gathers_the_batch_into_a_replicated_state(calculator, course, tmp_path):
    mesh = jax.make_mesh((4,), ("data",))
    specs = P(), *[P("data")] * 3
    step = jax.jit(jax.shard_map(partial(update, axis_name="data"), mesh=mesh, in_specs=specs, out_specs=P()))
    over_mesh = NamedSharding(mesh, P("data"))
    course.assert_same(
        measured(calculator, course, lambda state, *batch: step(state, *jax.device_put(batch, over_mesh))),
        course.measured_by_engine(tmp_path),
    )


@pytest.mark.slow
def test_what_nobody_asked_for_is_neither_kept_nor_compiled():
    state = init(3, 3, Needs(("correct",)))
    assert (list(state.columns), state.softmax, state.logits) == (["correct"], None, None)
    compiled = STEP.lower(state, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3)).compile()
    assert "exponential" not in compiled.as_text()
    with_softmax = init(3, 3, Needs(("confidence",)))
    assert "exponential" in STEP.lower(with_softmax, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3)).compile().as_text()


@pytest.mark.slow
def test_a_donated_state_is_updated_in_place():
    state = init(50_000, 3, POSTERIOR)
    state = STEP(state, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3))
    before = state.softmax.unsafe_buffer_pointer()
    state = STEP(state, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3))
    assert state.softmax.unsafe_buffer_pointer() == before
    analysis = STEP.lower(state, LOGITS, jnp.array([0, 2, 2]), jnp.arange(3)).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 100_000


def test_what_does_not_count_is_left_out_of_every_column():
    logits = np.array([[2, 0], [np.nan, 0], [2, 0], [2, 0], [2, 0], [0, np.inf]], np.float32)
    state = STEP(
        init(3, 2, Needs(("confidence", "correct"), softmax=True, logits=True)),
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


@pytest.mark.slow
@pytest.mark.parametrize(("logits", "correct"), [([1, 1, 0], 0), ([2, 1, 0], 0), ([0, 1, 1], 1), ([0, 1, 2], 0)])
def test_of_tied_logits_the_lowest_class_is_the_answer(logits, correct):
    state = update(init(1, 3, Needs(("correct",))), np.array([logits], np.float32), [1], [0])
    assert state.columns["correct"].tolist() == [correct]


@pytest.mark.slow
def test_half_logits_are_measured_in_float32():
    logits = jnp.asarray(LOGITS * 1.1, jnp.bfloat16)
    needs = Needs(("confidence",))
    half = update(init(3, 3, needs), logits, [0, 2, 2], [0, 1, 2])
    whole = update(init(3, 3, needs), logits.astype(jnp.float32), [0, 2, 2], [0, 1, 2])
    assert half.columns["confidence"].tolist() == whole.columns["confidence"].tolist()


def test_what_does_not_fit_is_refused():
    state = init(3, 3, POSTERIOR)
    with pytest.raises(ValueError, match="num_classes: 1, want at least 2"):
        init(3, 1, POSTERIOR)
    with pytest.raises(ValueError, match="num_samples: 0, want 1 to"):
        init(0, 3, POSTERIOR)
    with pytest.raises(ValueError, match=r"num_classes: None, want the number of columns of the logits"):
        init(3, needs=POSTERIOR)
    with pytest.raises(ValueError, match=r"logits: shape \(3, 2\), want \(B, 3\), as init was told"):
        STEP(state, LOGITS[:, :2], jnp.array([0, 1, 1]), jnp.arange(3))
    with pytest.raises(ValueError, match=r"state: nothing was counted; .* Call update at every training step"):
        to_epoch_sums(state)
    with pytest.raises(ValueError, match=r"state: count of shape \(2, 3\), want \(N,\)"):
        to_epoch_sums(jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state))
    with pytest.raises(ValueError, match=r"state: of the AUM alone, want init\(.*calculator.needs\), or to_totals"):
        to_epoch_sums(update(init(3), LOGITS, [0, 2, 2], [0, 1, 2]))


@pytest.mark.parametrize("needs", [Needs(), Needs(("correct",)), POSTERIOR])
def test_a_state_tells_its_needs(needs):
    assert init(3, 3, needs).needs == needs
    assert init(3).needs is None


def test_a_score_of_margins_alone_has_its_labels(tmp_path):
    """It needs no column, but its epochs have labels all the same."""
    calculator, engine = (AUMCalculator(tmp_path, scores=["bounded_aum"]) for _ in range(2))
    assert calculator.needs == Needs()
    state = STEP(init(3, 3, calculator.needs), LOGITS, jnp.array([0, 2, 2]), jnp.arange(3))
    calculator.add_epoch(to_epoch_sums(state))
    engine.accumulate(LOGITS, [0, 2, 2], [0, 1, 2])
    np.testing.assert_allclose(calculator.scores["bounded_aum"], engine.scores["bounded_aum"], rtol=1e-6)
    assert calculator.scores.labels.tolist() == [0, 2, 2]


@pytest.mark.slow
def test_shards_of_an_epoch_merge(calculator, course, tmp_path):
    for epoch in range(course.num_epochs):
        shards = [init(course.size, course.num_classes, calculator.needs)] * 2
        for place, batch in enumerate(course.epoch(epoch)):
            shards[place % 2] = jax.jit(update)(shards[place % 2], *batch)
        calculator.add_epoch(to_epoch_sums(jax.jit(merge)(*shards)))
    course.assert_same(calculator, course.measured_by_engine(tmp_path))


def test_states_that_measure_different_things_do_not_merge():
    with pytest.raises(ValueError, match=r"a, b: made for None and Needs\(.*want shards of one epoch"):
        merge(init(3), init(3, 3, POSTERIOR))
    with pytest.raises(ValueError, match=r"a, b: made for .* with the same classes"):
        merge(init(3, 4, POSTERIOR), init(3, 3, POSTERIOR))


def test_totals_of_an_epoch_are_of_its_margins():
    epoch, alone = (update(state, LOGITS, [0, 2, 2], [0, 1, 2]) for state in (init(3, 3, POSTERIOR), init(3)))
    assert to_totals(epoch).aums.tolist() == to_totals(alone).aums.tolist() == [1.5, -2, 3]
