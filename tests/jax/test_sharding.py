"""Four devices count what one does."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from aum.jax import init, measure, merge, to_totals, update

pytestmark = pytest.mark.slow  # compiles for meshes of devices

N = 12


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def mesh(request):
    """Four devices on one axis, that the compiler shards over by itself or by what the types say."""
    return jax.make_mesh((4,), ("data",), axis_types=(request.param,))


def on(mesh, spec, tree):
    return jax.device_put(tree, NamedSharding(mesh, spec))


def spread_over(mesh, state, spec):
    return jax.tree.map(lambda leaf: on(mesh, spec if leaf.ndim else P(), leaf), state)


@pytest.mark.parametrize("of_state", [P(), P("data")], ids=["replicated state", "state spread over N"])
@pytest.mark.parametrize("of_batch", [P(), P("data")], ids=["replicated batch", "batch spread over B"])
def test_jit_over_sharded_arrays(mesh, of_state, of_batch, stream, assert_counted):
    step = jax.jit(update, donate_argnums=0)
    state = spread_over(mesh, init(N), of_state)
    for batch in stream():
        state = step(state, *on(mesh, of_batch, batch))
    assert_counted(state, stream())
    assert state.total.sharding.is_equivalent_to(NamedSharding(mesh, of_state), 1)


def test_a_state_on_one_device_goes_with_a_batch_on_a_mesh(mesh, stream, assert_counted):
    state = init(N)
    for batch in stream():
        state = jax.jit(update)(state, *on(mesh, P("data"), batch))
    assert_counted(state, stream())


def test_under_a_mesh_that_is_set(mesh, stream, assert_counted):
    with jax.set_mesh(mesh):
        step = jax.jit(update, donate_argnums=0)
        state = spread_over(mesh, init(N), P("data"))
        for batch in stream():
            state = step(state, *on(mesh, P("data"), batch))
    assert_counted(state, stream())


def test_classes_spread_over_a_second_axis(stream, assert_counted):
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(kind, kind))
        state = spread_over(mesh, init(N), P("model"))
        batches = stream(num_classes=6)
        for logits, targets, ids in batches:
            rows = on(mesh, P("data"), (targets, ids))
            state = jax.jit(update)(state, on(mesh, P("data", "model"), logits), *rows)
        assert_counted(state, batches)


def test_measure_over_sharded_arrays(mesh, stream):
    logits, targets, _ = stream()[0]
    measured = jax.jit(measure)(*on(mesh, P("data"), (logits, targets)))
    np.testing.assert_array_equal(measured.margin, measure(logits, targets).margin)
    assert measured.margin.sharding.spec == P("data")


def test_shard_map_gathers_the_batch_into_a_replicated_state(mesh, stream, assert_counted):
    step = jax.shard_map(
        partial(update, axis_name="data"),
        mesh=mesh,
        in_specs=(P(), P("data"), P("data"), P("data")),
        out_specs=P(),
    )
    state = init(N)
    for batch in stream():
        state = jax.jit(step)(state, *on(mesh, P("data"), batch))
    assert_counted(state, stream())


def test_shard_map_over_two_axes(stream, assert_counted):
    mesh = jax.make_mesh((2, 2), ("host", "chip"))
    axes = ("host", "chip")
    step = jax.shard_map(
        partial(update, axis_name=axes), mesh=mesh, in_specs=(P(), P(axes), P(axes), P(axes)), out_specs=P()
    )
    state = init(N)
    for batch in stream():
        state = jax.jit(step)(state, *on(mesh, P(axes), batch))
    assert_counted(state, stream())


def test_what_is_left_out_is_counted_over_all_devices(mesh, stream):
    (logits, targets, ids), *_ = stream()
    logits[[0, 5, 7], targets[[0, 5, 7]]] = np.nan
    ids[[1, 6]] = -1
    step = jax.shard_map(
        lambda state, logits, targets, ids, where: update(state, logits, targets, ids, where=where, axis_name="data"),
        mesh=mesh,
        in_specs=(P(), *[P("data")] * 4),
        out_specs=P(),
    )
    batch = on(mesh, P("data"), (logits, targets, ids, jnp.arange(8) != 7))
    state = jax.jit(step)(init(N), *batch)
    assert (int(state.nonfinite), int(state.invalid), int(state.count.sum())) == (2, 2, 3)


def test_shard_map_that_forgets_the_other_shards_is_refused(mesh, stream):
    step = jax.shard_map(update, mesh=mesh, in_specs=(P(), P("data"), P("data"), P("data")), out_specs=P())
    with pytest.raises(ValueError, match="out_specs"):
        jax.jit(step)(init(N), *on(mesh, P("data"), stream()[0]))


def stacked(num_devices):
    """A state for each device."""
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * num_devices), init(N))


def merged(stack):
    return reduce(merge, [jax.tree.map(lambda leaf, i=i: jnp.asarray(np.asarray(leaf)[i]), stack) for i in range(4)])


def test_shard_map_with_a_state_for_each_device(mesh, stream, assert_counted):
    def step(stack, *batch):
        own = update(jax.tree.map(lambda leaf: leaf[0], stack), *batch)
        return jax.tree.map(lambda leaf: leaf[None], own)

    step = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=P("data"), out_specs=P("data")))
    state = on(mesh, P("data"), stacked(4))
    for batch in stream():
        state = step(state, *on(mesh, P("data"), batch))
    assert_counted(merged(state), stream())


def split(batch):
    return [each.reshape(4, -1, *each.shape[1:]) for each in batch]


def test_pmap_gathers_the_batch_into_the_state_of_each_device(stream, assert_counted):
    step = jax.pmap(partial(update, axis_name="data"), axis_name="data", in_axes=(None, 0, 0, 0))
    state = init(N)
    for batch in stream():
        of_each = step(state, *split(batch))
        state = jax.tree.map(lambda leaf: leaf[0], of_each)
    for i in range(4):
        assert_counted(jax.tree.map(lambda leaf, i=i: leaf[i], of_each), stream())


def test_pmap_with_a_state_for_each_device(stream, assert_counted):
    state = stacked(4)
    for batch in stream():
        state = jax.pmap(update)(state, *split(batch))
    assert_counted(merged(state), stream())
    with pytest.raises(ValueError, match=r"state: count of shape \(4, 12\), want \(N,\)"):
        to_totals(state)


def test_a_spread_state_comes_home_whole(mesh, stream):
    batch = stream()[0]
    state = jax.jit(update)(spread_over(mesh, init(N), P("data")), *on(mesh, P(), batch))
    alone = to_totals(jax.jit(update)(init(N), *batch))
    totals = to_totals(state)
    assert totals.sample_ids.tolist() == alone.sample_ids.tolist()
    assert totals.sums.tolist() == alone.sums.tolist()
