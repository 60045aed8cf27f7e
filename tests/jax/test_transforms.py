"""JAX's transformations, and the libraries that train with them."""

from functools import partial
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import aum.jax
from aum.jax import AUMState, init, measure, to_totals, update

N = 12


def features_of(ids):
    return jax.nn.one_hot(ids, N)


def loss_of(logits, targets):
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


@pytest.fixture
def batches(stream):
    """Targets and ids, with a row of weights for each sample: logits are what the weights say."""
    return [(jnp.asarray(targets), jnp.asarray(ids)) for _, targets, ids in stream()]


@pytest.fixture
def weights():
    return jax.random.normal(jax.random.key(0), (N, 5))


@pytest.fixture
def untrained(weights, batches, assert_counted):
    """A function: the state holds what the weights say of all batches, since nothing was learnt."""

    def check(state):
        assert_counted(state, [(np.asarray(weights[ids]), targets, ids) for targets, ids in batches])

    return check


def test_a_donated_state_is_updated_in_place():
    step = jax.jit(update, donate_argnums=0)
    batch = jnp.zeros((8, 3)), jnp.zeros(8, int), jnp.arange(8)
    state = step(init(100_000), *batch)
    for at in ("total", "compensation", "count"):
        before = getattr(state, at).unsafe_buffer_pointer()
        old, state = state, step(state, *batch)
        assert getattr(state, at).unsafe_buffer_pointer() == before
        assert getattr(old, at).is_deleted()
    assert step.lower(state, *batch).compile().memory_analysis().temp_size_in_bytes < 100_000
    with pytest.raises(RuntimeError, match="deleted"):
        to_totals(old)


def test_totals_are_a_snapshot():
    step = jax.jit(update, donate_argnums=0)
    batch = jnp.array([[3.0, 1.0]]), jnp.array([0]), jnp.array([1])
    state = step(init(2), *batch)
    totals = to_totals(state)
    state = step(state, *batch)
    assert (totals.sums.tolist(), to_totals(state).sums.tolist()) == ([2.0], [4.0])


def test_scan(stream, assert_counted):
    batches = jax.tree.map(lambda *each: jnp.stack(each), *stream())
    state = jax.jit(lambda state, batches: jax.lax.scan(lambda s, b: (update(s, *b), None), state, batches)[0])(
        init(N), batches
    )
    assert_counted(state, stream())


@pytest.mark.slow
def test_vmap_over_seeds(stream, assert_counted):
    seeds = [stream(seed=seed) for seed in range(3)]
    states = jax.vmap(lambda _: init(N))(jnp.arange(3))
    for batches in zip(*seeds, strict=True):
        states = jax.jit(jax.vmap(update))(states, *map(jnp.stack, zip(*batches, strict=True)))
    for i, batches in enumerate(seeds):
        assert_counted(jax.tree.map(lambda leaf, i=i: leaf[i], states), batches)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda loss: loss, jax.checkpoint], ids=["plain", "remat"])
def test_value_and_grad_counts_once_and_differentiates_nothing_more(wrap, weights, batches, untrained):
    def loss(weights, state, targets, ids):
        logits = features_of(ids) @ weights
        return loss_of(logits, targets), update(state, logits, targets, ids)

    step = jax.jit(jax.value_and_grad(wrap(loss), has_aux=True))
    state = init(N)
    for targets, ids in batches:
        (_, state), gradient = step(weights, state, targets, ids)
        alone = jax.grad(lambda weights, t=targets, i=ids: loss_of(features_of(i) @ weights, t))(weights)
        np.testing.assert_allclose(gradient, alone, rtol=1e-6, atol=1e-8)
    untrained(state)


def test_margins_have_no_gradient(weights):
    gradient = jax.grad(lambda weights: measure(weights, jnp.zeros(N, int)).margin.sum())(weights)
    assert not gradient.any()


@pytest.mark.slow
def test_margins_are_those_before_the_step(weights, batches):
    """With a learning rate: what is counted is what the forward pass of the step saw."""

    @jax.jit
    def step(weights, state, targets, ids):
        def loss(weights):
            logits = features_of(ids) @ weights
            return loss_of(logits, targets), update(state, logits, targets, ids)

        gradient, state = jax.grad(loss, has_aux=True)(weights)
        return weights - 5.0 * gradient, state

    state, expected = init(N), np.zeros(N)
    for targets, ids in batches:
        np.add.at(expected, ids, np.asarray(measure(weights[ids], targets).margin, np.float64))
        weights, state = step(weights, state, targets, ids)
    np.testing.assert_allclose(np.asarray(state.total), expected, rtol=1e-4)


def test_optax_multi_steps(weights, batches, untrained):
    optimizer = optax.MultiSteps(optax.sgd(0.0), every_k_schedule=3)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(weights, memory, state, targets, ids):
        def loss(weights):
            logits = features_of(ids) @ weights
            return loss_of(logits, targets), logits

        gradient, logits = jax.grad(loss, has_aux=True)(weights)
        updates, memory = optimizer.update(gradient, memory, weights)
        return optax.apply_updates(weights, updates), memory, update(state, logits, targets, ids)

    own, memory, state = jnp.copy(weights), optimizer.init(weights), init(N)
    for targets, ids in batches:
        own, memory, state = step(own, memory, state, targets, ids)
    untrained(state)


class WithAUM(TrainState):
    """A field of a flax TrainState."""

    aum: AUMState


def test_flax_linen_in_a_train_state(weights, batches, untrained):
    model = flax.linen.Dense(5, use_bias=False)
    train_state = WithAUM.create(
        apply_fn=model.apply, params={"params": {"kernel": weights}}, tx=optax.sgd(0.0), aum=init(N)
    )

    @partial(jax.jit, donate_argnums=0)
    def step(train_state, targets, ids):
        def loss(params):
            logits = train_state.apply_fn(params, features_of(ids))
            return loss_of(logits, targets), logits

        gradient, logits = jax.grad(loss, has_aux=True)(train_state.params)
        return train_state.apply_gradients(grads=gradient, aum=update(train_state.aum, logits, targets, ids))

    kernel = jnp.copy(weights)
    train_state = train_state.replace(params={"params": {"kernel": kernel}})
    for targets, ids in batches:
        train_state = step(train_state, targets, ids)
    untrained(train_state.aum)


def nnx_model(weights):
    model = nnx.Linear(N, 5, use_bias=False, rngs=nnx.Rngs(0))
    model.kernel[...] = weights
    return model


def test_flax_nnx_with_the_state_as_an_argument(weights, batches, untrained):
    model = nnx_model(weights)
    optimizer = nnx.Optimizer(model, optax.sgd(0.0), wrt=nnx.Param)

    @nnx.jit(donate_argnums=2)
    def step(model, optimizer, state, targets, ids):
        def loss(model):
            logits = model(features_of(ids))
            return loss_of(logits, targets), logits

        (_, logits), gradient = nnx.value_and_grad(loss, has_aux=True)(model)
        optimizer.update(model, gradient)
        return update(state, logits, targets, ids)

    state = init(N)
    for targets, ids in batches:
        state = step(model, optimizer, state, targets, ids)
    untrained(state)


def test_flax_nnx_with_the_state_in_a_variable(weights, batches, untrained):
    class Tracked(nnx.Module):
        def __init__(self):
            self.model, self.aum = nnx_model(weights), nnx.Variable(init(N))

    tracked = Tracked()

    @nnx.jit
    def step(tracked, targets, ids):
        tracked.aum.set_value(update(tracked.aum.get_value(), tracked.model(features_of(ids)), targets, ids))

    for targets, ids in batches:
        step(tracked, targets, ids)
    untrained(tracked.aum.get_value())


def test_orbax_saves_and_restores_the_middle_of_a_run(tmp_path, stream, assert_counted):
    state = init(N)
    for batch in stream()[:3]:
        state = jax.jit(update)(state, *batch)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", init(N))
    assert isinstance(restored, AUMState)
    for batch in stream()[3:]:
        restored = jax.jit(update)(restored, *batch)
    assert_counted(restored, stream())


def test_records_of_every_step_one_step_late(tmp_path, stream):
    @jax.jit
    def step(logits, targets):
        return measure(logits, targets)

    late, at_once = (aum.jax.AUMCalculator(tmp_path, compressed=False) for _ in range(2))
    waiting: Any = None
    for logits, targets, ids in stream():
        measured = step(logits, targets), ids
        if waiting is not None:
            late.accumulate_measured(*waiting)
        waiting = measured
        at_once.accumulate(logits, targets, ids)
    late.accumulate_measured(*waiting)
    assert list(late.records) == list(at_once.records)


def test_find_mislabeled_around_a_compiled_training_function(tmp_path):
    from aum_core import flip_uniform

    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 600)
    features = jnp.asarray(generator.normal(0, 1, (600, 8)) + 6 * np.eye(4, 8)[truth], jnp.float32)
    noisy, flipped = flip_uniform(truth, 4, 0.1)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(weights, state, targets, rows):
        def loss(weights):
            logits = features[rows] @ weights
            return loss_of(logits, targets), logits

        gradient, logits = jax.grad(loss, has_aux=True)(weights)
        return weights - 0.1 * gradient, update(state, logits, targets, rows)

    def train(targets, num_classes, calculator):
        weights, state = jnp.zeros((8, num_classes)), init(len(targets))
        for _ in range(5):
            for rows in np.split(np.random.default_rng(1).permutation(len(targets)), 20):
                weights, state = step(weights, state, targets[rows], rows)
        calculator.add_totals(to_totals(state))

    findings = aum.jax.find_mislabeled(train, noisy, 4, save_dir=tmp_path)
    assert (findings.flagged & flipped).sum() / flipped.sum() > 0.95
    assert findings.run["framework"] == "jax"
