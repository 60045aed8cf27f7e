"""The state: what is counted, what is left out, and how exactly."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aum.jax
from aum.jax import AUMState, device_ids, init, measure, merge, to_totals, update
from aum_core import compute_margins

STEP = jax.jit(update, donate_argnums=0)
LOGITS = np.array(
    [[2.0, 0.5, -1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 4.0]], np.float32
)  # of targets 0, 2, 2: margins 1.5, -2, 3


def sums_of(state):
    return np.asarray(state.total, np.float64) + np.asarray(state.compensation)


def logits_of(margins):
    """Logits (B, 2) with these margins for target 0."""
    return jnp.stack([jnp.float32(margins), jnp.zeros(len(margins), jnp.float32)], axis=1)


def feed(state, margins, ids):
    return STEP(state, logits_of(margins), jnp.zeros(len(margins), int), jnp.asarray(ids))


def test_a_stream_is_what_the_engine_counts(stream, assert_counted):
    state = init(12)
    for batch in stream():
        state = STEP(state, *batch)
    assert_counted(state, stream())


def test_what_other_devices_run_counts_the_same(stream, assert_counted, monkeypatch):
    """They always sort; a CPU looks first whether an id is there twice."""
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, cpu, default: default(*args))
    step = jax.jit(partial(update))  # not what is compiled already
    state = init(1000)
    batches = stream() + stream(num_samples=1000)
    for batch in batches:
        state = step(state, *batch)
    assert_counted(state, batches)


@pytest.mark.parametrize(("platform", "sorts"), [("cuda", 1), ("tpu", 1), ("cpu", 2)])
def test_other_devices_do_not_wait_for_a_look_at_the_ids(platform, sorts, stream):
    lowered = jax.jit(update).trace(init(12), *stream()[0]).lower(lowering_platforms=(platform,)).as_text()
    assert lowered.count('"stablehlo.sort"') == sorts


def test_an_update_changes_nothing_but_what_it_returns():
    before = init(3)
    after = update(before, LOGITS, [0, 2, 2], [0, 1, 2])
    assert before.count.tolist() == [0, 0, 0]
    assert after.count.tolist() == [1, 1, 1]
    with pytest.raises(AttributeError):
        after.count = before.count  # type: ignore[misc] # what is tried


def test_aum_after_10_000_updates_of_margins_around_50():
    margins = np.random.default_rng(0).normal(50, 1, (10_000, 8)).astype(np.float32)

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, margins):
        return jax.lax.scan(
            lambda state, each: (update(state, logits_of(each), jnp.zeros(8, int), jnp.arange(8)), None), state, margins
        )[0]

    totals = to_totals(epoch(init(8), margins))
    exact = np.array([math.fsum(column.tolist()) for column in margins.T]) / 10_000
    naive = np.cumsum(margins, axis=0)[-1] / 10_000
    assert np.abs(totals.aums / exact - 1).max() <= 1e-12
    assert np.abs(naive / exact - 1).max() > 1e-7  # or the test would show nothing


def test_what_a_float32_cannot_hold_is_kept_from_step_to_step():
    state = init(2)
    for margin in (1e8, 1.0, -1e8):
        state = feed(state, [margin], [1])
    assert sums_of(state).tolist() == [0.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "num_samples"), [(1, 1), (2, 1), (3, 2), (100, 7), (100, 300), (257, 1)])
def test_repeated_ids_in_a_batch_are_each_counted_exactly(size, num_samples):
    generator = np.random.default_rng(size)
    ids = generator.integers(0, num_samples, size)
    margins = (generator.normal(size=size) * 10.0 ** generator.integers(-3, 5, size)).astype(np.float32)
    margins[::2] *= 1e4
    state = feed(init(num_samples), margins, ids)
    for row in range(num_samples):
        values = margins[ids == row].astype(float)
        assert state.count[row] == len(values)
        assert sums_of(state)[row] == pytest.approx(math.fsum(values), rel=0, abs=np.abs(values).sum() * 1e-12)


def test_sums_of_a_batch_cancel_exactly():
    state = feed(init(2), [1e8, 5.0, 1.0, -1e8, 2.0], [1, 0, 1, 1, 0])
    assert sums_of(state).tolist() == [7.0, 1.0]


def test_invalid_ids_and_targets_are_left_out_and_counted():
    logits, targets = np.repeat(LOGITS, 3, axis=0)[:8], [0, 0, 0, 2, 2, 2, -100, 3]
    state = STEP(init(3), logits, jnp.array(targets), jnp.array([-1, -3, 3, 2**31 - 1, 1, 1, 2, 2]))
    assert state.count.tolist() == [0, 2, 0]
    assert sums_of(state).tolist() == [0.0, -4.0, 0.0]
    assert (int(state.invalid), int(state.nonfinite)) == (6, 0)


def test_margins_that_are_not_finite_are_left_out_and_counted():
    logits = np.array(
        [[np.inf, 0], [np.nan, 0], [0, np.nan], [np.inf, np.inf], [3e38, -3e38], [2, 1], [0, -np.inf]], np.float32
    )
    state = STEP(init(7), logits, jnp.zeros(7, int), jnp.arange(7))
    assert state.count.tolist() == [0, 0, 0, 0, 0, 1, 0]
    assert (int(state.invalid), int(state.nonfinite)) == (0, 6)
    again = STEP(state, LOGITS[:1, :2], jnp.zeros(1, int), jnp.zeros(1, int))
    assert sums_of(again)[0] == 1.5


def test_padding_told_by_where_is_not_counted_as_wrong():
    logits = jnp.asarray(LOGITS).at[1, 0].set(jnp.nan)
    step = jax.jit(lambda state, where: update(state, logits, [0, 2, -100], [0, 0, -1], where=where))
    assert step(init(3), jnp.array([False, False, False])).count.tolist() == [0, 0, 0]
    state = step(init(3), jnp.array([True, False, False]))
    assert (state.count.tolist(), int(state.nonfinite), int(state.invalid)) == ([1, 0, 0], 0, 0)
    state = step(init(3), jnp.array([True, True, True]))
    assert (state.count.tolist(), int(state.nonfinite), int(state.invalid)) == ([1, 0, 0], 1, 1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_narrow_integers_do_not_wrap(dtype):
    logits = np.zeros((2, 1000), np.float32)
    logits[:, 5] = 2.0
    state = STEP(init(70_000), logits, jnp.array([5, 6], dtype), jnp.array([100, 101], dtype))
    assert sums_of(state)[[100, 101]].tolist() == [2.0, -2.0]
    assert int(state.count.sum()) == 2
    if np.iinfo(dtype).min < 0:
        return
    top = np.iinfo(dtype).max  # as a signed number it would be -1
    assert int(STEP(init(3), logits[:1], jnp.array([5]), jnp.array([top], dtype)).invalid) == 1
    assert int(STEP(init(3), logits[:1, :3], jnp.array([top], dtype), jnp.array([0])).invalid) == 1


@pytest.mark.parametrize("ids", [[0, 2**31], np.array([0, 2**32 + 1]), np.array([0, -(2**31) - 1])])
def test_host_integers_that_do_not_fit_32_bits_are_an_error(ids):
    with pytest.raises(ValueError, match=r"sample_ids: -?\d{10,} does not fit 32 bits.*SampleIndex"):
        update(init(3), LOGITS[:2], [0, 1], ids)
    with pytest.raises(ValueError, match=r"sample_ids: .* does not fit"):
        device_ids(ids)
    with pytest.raises(ValueError, match=r"targets: .* does not fit"):
        update(init(3), LOGITS[:2], ids, [0, 1])


def test_device_ids_keep_every_id_that_fits():
    ids = np.array([0, 2**31 - 1, -(2**31)])
    assert device_ids(ids).tolist() == ids.tolist()
    assert device_ids([]).dtype == np.int32
    with pytest.raises(TypeError, match="sample_ids: dtype float64, want integers"):
        device_ids([1.0])


@pytest.mark.parametrize("num_samples", [0, -1, 2**31, 2**40])
def test_a_state_has_rows_that_32_bits_can_number(num_samples):
    with pytest.raises(ValueError, match=rf"num_samples: {num_samples}, want 1 to 2147483647"):
        init(num_samples)


def test_num_samples_is_an_int():
    assert len(init(np.int64(5)).count) == 5
    with pytest.raises(TypeError):
        init(5.0)


GOOD: dict[str, Any] = {"logits": LOGITS, "targets": [0, 2, 2], "sample_ids": [0, 1, 2], "where": [True] * 3}
BAD: dict[str, Any] = {
    "integer logits": ({"logits": np.zeros((3, 3), np.int32)}, TypeError, ["logits", "int32"]),
    "one logit": ({"logits": LOGITS[:, :1]}, ValueError, ["logits", "(3, 1)", "[0, z]"]),
    "fewer targets": ({"targets": [0, 1]}, ValueError, ["targets", "(2,)", "(3,)"]),
    "one-hot targets": ({"targets": np.eye(3, dtype=int)}, ValueError, ["targets", "(3, 3)"]),
    "float targets": ({"targets": np.zeros(3)}, TypeError, ["targets", "float"]),
    "fewer ids": ({"sample_ids": [0, 1]}, ValueError, ["sample_ids", "(2,)", "(3,)"]),
    "ids as a column": ({"sample_ids": [[0], [1], [2]]}, ValueError, ["sample_ids", "(3, 1)"]),
    "float ids": ({"sample_ids": np.zeros(3)}, TypeError, ["sample_ids", "float"]),
    "bool ids": ({"sample_ids": np.array([True] * 3)}, TypeError, ["sample_ids", "bool"]),
    "string ids": ({"sample_ids": ["a", "b", "c"]}, TypeError, ["sample_ids", "<U1"]),
    "where of ints": ({"where": [1, 1, 0]}, ValueError, ["where", "int32", "bool"]),
    "shorter where": ({"where": [True]}, ValueError, ["where", "(1,)", "(3,)"]),
}


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named_when_it_is_traced(name, jitted):
    changes, error, words = BAD[name]
    batch = {**GOOD, **changes}
    if jitted and name != "string ids":
        batch = {key: jnp.asarray(value) for key, value in batch.items()}
    step = jax.jit(update) if jitted and name != "string ids" else update
    where = batch.pop("where")
    with pytest.raises(error) as caught:
        step(init(3), *batch.values(), where=where)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_measured_in_float32(dtype):
    logits = jnp.array([[2048.0, 0.5], [0.1, 100.2]], dtype)
    state = STEP(init(2), logits, jnp.array([0, 0]), jnp.array([0, 1]))
    expected = compute_margins(np.asarray(logits), [0, 0]).margin
    assert expected[0] == 2047.5
    np.testing.assert_array_equal(sums_of(state), expected)


def bits(values):
    return np.asarray(values).view(np.uint32)


@pytest.mark.parametrize(("num_rows", "num_classes"), [(1, 2), (256, 10), (33, 1000), (0, 4)])
def test_measure_gives_the_bits_of_numpy(num_rows, num_classes):
    generator = np.random.default_rng(0)
    logits = (generator.normal(0, 5, (num_rows, num_classes)) * 10.0 ** generator.integers(-6, 6)).astype(np.float32)
    logits[num_rows // 2 :] = np.round(logits[num_rows // 2 :])  # ties
    targets = generator.integers(0, num_classes, num_rows)
    measured, expected = jax.jit(measure)(logits, targets), compute_margins(logits, targets)
    for name in ("target_val", "other_val", "margin"):
        np.testing.assert_array_equal(bits(getattr(measured, name)), bits(getattr(expected, name)), name)
    np.testing.assert_array_equal(measured.other_logit, expected.other_logit)


def test_measure_at_the_extremes_is_as_numpy_has_it():
    inf = np.inf
    rows = [[inf, 0, 0], [-inf, 0, 1], [0, -inf, -inf], [np.nan, 1, 2], [0, np.nan, 1], [inf, inf, 0], [-inf] * 3]
    logits = np.array(rows * 2, np.float32)
    targets = np.array([0] * 7 + [1] * 7)
    measured, expected = jax.jit(measure)(logits, targets), compute_margins(logits, targets)
    for name in ("target_val", "other_logit", "other_val", "margin"):
        np.testing.assert_array_equal(getattr(measured, name), getattr(expected, name), name)


@pytest.mark.parametrize("target", [-100, -1, 3])
def test_a_target_that_is_no_class_has_no_margin(target):
    assert measure(LOGITS[:1], [target]).margin.tolist() == [-np.inf]


def test_merging_shards_is_one_state(stream, assert_counted):
    shards = []
    for part in (stream()[:3], stream()[3:]):
        state = init(12)
        for batch in part:
            state = STEP(state, *batch)
        shards.append(state)
    shards[0] = STEP(shards[0], LOGITS, jnp.array([0, 0, 0]), jnp.array([-1, -1, -1]))
    merged = jax.jit(merge)(*shards)
    assert int(merged.invalid) == 3
    assert_counted(AUMState(merged.total, merged.compensation, merged.count, merged.nonfinite, jnp.int32(0)), stream())


def test_merging_keeps_what_float32_cannot_hold():
    merged = jax.jit(merge)(feed(init(1), [1e8], [0]), merge(feed(init(1), [1.0], [0]), feed(init(1), [-1e8], [0])))
    assert sums_of(merged).tolist() == [1.0]


def test_states_of_two_data_sets_do_not_merge():
    with pytest.raises(ValueError, match=r"a, b: counts of shapes \(3,\) and \(4,\)"):
        merge(init(3), init(4))


def test_totals_are_of_the_rows_that_were_measured():
    totals = to_totals(feed(init(5), [1.5, -2.0, 4.0], [3, 1, 3]))
    assert isinstance(totals, aum.jax.Totals)
    assert totals.sample_ids.tolist() == [1, 3]
    assert (totals.sums.tolist(), totals.counts.tolist()) == ([-2.0, 5.5], [1, 2])
    assert (totals.sums.dtype, totals.counts.dtype, totals.left_out) == (np.float64, np.int64, 0)


@pytest.mark.parametrize("names", [["a", "b", 7], np.array([30, 10, 20]), ["a", 2**70, "c"]])
def test_totals_under_the_names_of_the_rows(names):
    totals = to_totals(feed(init(3), [1.0, 2.0], [2, 1]), names)
    assert totals.sample_ids.tolist() == list(names)[1:]
    assert totals.sums.tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    ("names", "words"),
    [(["a", "b"], "2 names for 3 rows"), (["a", "b", "b"], "'b' stands for rows 1 and 2"), ("abc", "want a list")],
)
def test_names_are_one_for_each_row(names, words):
    with pytest.raises((ValueError, TypeError), match=f"sample_ids: .*{words}"):
        to_totals(feed(init(3), [1.0, 2.0], [2, 1]), names)


def test_a_state_that_counted_nothing_is_an_error_that_says_why():
    with pytest.raises(ValueError, match=r"nothing was counted.*0 with an id.*keep the state that it returns"):
        to_totals(init(3))
    wrong = STEP(init(3), LOGITS, jnp.array([0, 1, -100]), jnp.array([5, 6, 0]))
    with pytest.raises(ValueError, match="nothing was counted; left out: 3 with an id or target out of range"):
        to_totals(wrong)


def test_what_was_left_out_is_told():
    logits = LOGITS.copy()
    logits[0, 0] = np.nan
    state = STEP(init(3), logits, jnp.array([0, -100, 2]), jnp.array([0, 1, 2]))
    with pytest.warns(RuntimeWarning, match="1 with an id or target out of range, 1 with a margin that is not finite"):
        totals = to_totals(state)
    assert (totals.left_out, totals.measurements) == (2, 1)


def test_a_stack_of_states_is_no_state(stream):
    stack = jax.vmap(lambda _: init(3))(jnp.arange(2))
    with pytest.raises(ValueError, match=r"state: count of shape \(2, 3\), want \(N,\).*leaf\[0\]"):
        to_totals(stack)
    with pytest.raises(ValueError, match=r"state: count of shape \(2, 3\), want \(N,\).*vmap"):
        update(stack, LOGITS, [0, 2, 2], [0, 1, 2])


def test_with_x64_the_state_is_float64():
    with jax.enable_x64(True):
        logits = jnp.array([[0.1, 0.3]])
        assert logits.dtype == np.float64
        step = jax.jit(lambda state, _: (update(state, logits, jnp.array([0]), jnp.array([2**33 % 3])), None))
        state, _ = jax.lax.scan(step, init(3), None, length=3)
        assert sums_of(state)[2] == pytest.approx(3 * (0.1 - 0.3), rel=1e-15)
        assert state.total.dtype == np.float64
        assert (state.count.dtype, state.invalid.dtype) == (np.int32, np.int32)
        wide = jnp.array([2**32 + 1, 2**33], jnp.int64)
        state = jax.jit(update)(init(3), jnp.zeros((2, 2)), wide, wide)
        assert (int(state.invalid), int(state.count.sum())) == (2, 0)
