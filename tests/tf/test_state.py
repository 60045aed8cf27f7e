"""AUMState in one process: what it counts, however the step is run."""

import numpy as np
import pytest
import tensorflow as tf

import aum_core
from aum.tf import AUMState, find_mislabeled, with_index
from aum_core import Totals, compute_margins

ANY_SIZE = [
    tf.TensorSpec([None, None], tf.float32),
    tf.TensorSpec([None], tf.int64),
    tf.TensorSpec([None], tf.int64),
]
MODES = {
    "eager": lambda step: step,
    "graph": tf.function,
    "xla": lambda step: tf.function(step, jit_compile=True),
    # so that sizes are known only when the step runs
    "graph of any size": lambda step: tf.function(step, reduce_retracing=True, input_signature=ANY_SIZE),
}


@pytest.fixture(params=MODES)
def mode(request):
    return MODES[request.param]


def random_batch(num_rows=12, num_classes=7, num_samples=40, seed=0, dtype=np.float32):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 5, (num_rows, num_classes)).astype(dtype)
    return logits, generator.integers(0, num_classes, num_rows), generator.integers(0, num_samples, num_rows)


def tensors(*arrays):
    return [tf.constant(each) for each in arrays]


def assert_same(totals, expected):
    """Samples may stand in another order: on a device nobody knows who was seen first."""
    order = np.argsort(expected.sample_ids)
    assert totals.sample_ids.tolist() == expected.sample_ids[order].tolist()
    np.testing.assert_array_equal(totals.sums, expected.sums[order])
    np.testing.assert_array_equal(totals.counts, expected.counts[order])


def test_stream_adds_up_as_in_numpy(mode):
    state, expected = AUMState(40), Totals()
    step = mode(state.update)
    for seed in range(20):
        logits, targets, ids = random_batch(seed=seed)
        step(*tensors(logits, targets, ids))
        expected.add(ids, compute_margins(logits, targets).margin)
    assert_same(state.to_totals(), expected)
    assert (state.total.dtype, state.count.dtype) == (tf.float64, tf.int64)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_single_margins_are_numpys_bit_for_bit(dtype, jit_compile):
    logits, targets, _ = random_batch(num_rows=300, num_classes=37)
    logits = tf.cast(tf.constant(logits.astype(np.float64)) * np.pi, dtype)
    state = AUMState(300)
    tf.function(state.update, jit_compile=jit_compile)(logits, tf.constant(targets), tf.range(300))
    np.testing.assert_array_equal(state.total.numpy(), compute_margins(logits.numpy(), targets).margin)


def test_ten_thousand_updates_lose_nothing():
    state, margins = AUMState(1), np.random.default_rng(0).normal(50, 1, 10_000).astype(np.float32)

    @tf.function
    def stream(margins):
        for margin in margins:
            state.update(tf.stack([margin, 0.0])[tf.newaxis], tf.constant([0]), tf.constant([0]))

    stream(tf.constant(margins))
    assert state.to_totals().sums[0] == margins.astype(np.float64).sum()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint64"])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_targets_and_ids_of_any_integer_dtype_and_targets_as_a_column(dtype, shape):
    state = AUMState(3)
    logits = tf.constant([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 4.0]])
    targets = tf.constant(np.array([0, 2, 2], dtype).reshape(shape))
    state.update(logits, targets, tf.constant(np.array([1, 2, 0], dtype)))
    assert state.total.numpy().tolist() == [3.0, 1.5, -2.0]


def test_repeated_ids_count_as_often_as_they_are_there(mode):
    state = AUMState(3)
    mode(state.update)(*tensors(np.float32([[1, 0], [2, 0], [4, 0]]), np.int64([0] * 3), np.int64([2, 2, 2])))
    totals = state.to_totals()
    assert (totals.sample_ids.tolist(), totals.sums.tolist(), totals.counts.tolist()) == ([2], [7.0], [3])


def test_what_is_out_of_range_is_left_out_and_counted(mode):
    state = AUMState(4)
    logits = np.float32([[1, 0], [np.nan, 0], *[[1, 0]] * 5])  # a row is left out for one reason, not for two
    targets = np.int64([0, 0, 0, 0, -100, 2, 0])
    mode(state.update)(*tensors(logits, targets, np.int64([3, -1, 4, 2**40, 0, 1, 3])))
    assert state.count.numpy().tolist() == [0, 0, 0, 2]
    with pytest.warns(RuntimeWarning, match=r"0 rows .* not finite, 5 rows .*\[0, 4\) or a target outside \[0, C\)"):
        totals = state.to_totals()
    assert (totals.sums.tolist(), totals.left_out) == ([2.0], 5)
    assert (int(state.invalid), int(state.nonfinite)) == (5, 0)


def test_margins_that_are_not_finite_are_left_out_and_counted(mode):
    nan, inf = np.nan, np.inf
    logits = np.float32(
        [
            [1, 0, 0],
            [nan, 0, 0],
            [0, nan, 0],  # a maximum that passes over NaN would give 0
            [0, 1, nan],
            [inf, 0, 0],
            [0, inf, 0],
            [1, -inf, -inf],
            [inf, inf, 0],
            [3, 1, -inf],
        ]
    )
    state = AUMState(9)
    mode(state.update)(*tensors(logits, np.zeros(9, np.int64), np.arange(9)))
    assert state.count.numpy().tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert state.total.numpy().tolist() == [1.0, 0, 0, 0, 0, 0, 0, 0, 2.0]
    with pytest.warns(RuntimeWarning, match="7 rows with margins that are not finite, 0 rows"):
        assert state.to_totals().left_out == 7


@pytest.mark.parametrize("jit_compile", [False, True])
def test_rows_that_are_not_asked_for_are_passed_over_and_counted_nowhere(jit_compile):
    state = AUMState(3)
    logits = tf.constant([[1.0, 0.0], [np.nan, 0.0], [2.0, 0.0], [4.0, 0.0], [8.0, 0.0]])
    where = tf.constant([True, False, False, True, False])
    step = tf.function(state.update, jit_compile=jit_compile)
    step(logits, tf.constant([0, 0, -100, 0, 0]), tf.constant([0, 1, -1, 2, 1]), where)
    totals = state.to_totals()  # warnings are errors
    assert (totals.sample_ids.tolist(), totals.sums.tolist()) == ([0, 2], [1.0, 4.0])


def test_empty_batch_changes_nothing(mode):
    state = AUMState(2)
    mode(state.update)(*tensors(np.empty((0, 3), np.float32), np.empty(0, np.int64), np.empty(0, np.int64)))
    assert (int(state.count[0]), int(state.invalid)) == (0, 0)


def test_nothing_counted_is_an_error_that_says_what_to_do():
    state = AUMState(3)
    with pytest.raises(ValueError, match=r"nothing was counted.*0 rows with a sample id.*call state\.update"):
        state.to_totals()
    state.update(tf.zeros([2, 2]), tf.constant([0, 0]), tf.constant([3, -1]))
    with pytest.raises(ValueError, match=r"nothing was counted.*2 rows with a sample id"):
        state.to_totals()


def test_totals_are_named_by_the_caller():
    state = AUMState(3)
    state.update(tf.constant([[1.0, 0.0], [0.0, 2.0]]), tf.constant([0, 0]), tf.constant([2, 0]))
    totals = state.to_totals(["a.png", "b.png", "c.png"])
    assert dict(zip(totals.sample_ids, totals.aums, strict=True)) == {"a.png": -2.0, "c.png": 1.0}
    assert state.to_totals(np.array([70, 80, 90])).sample_ids.tolist() == [70, 90]
    with pytest.raises(ValueError, match="sample_ids: 2 names for 3 rows"):
        state.to_totals(["a.png", "b.png"])
    with pytest.raises(ValueError, match=r"sample_ids: 'a.png' stands for rows"):
        state.to_totals(["a.png", "b.png", "a.png"])


def test_totals_are_a_copy_that_later_updates_do_not_change():
    state = AUMState(1)
    batch = tf.constant([[1.0, 0.0]]), tf.constant([0]), tf.constant([0])
    state.update(*batch)
    totals = state.to_totals()
    state.update(*batch)
    assert (totals.counts.tolist(), state.to_totals().counts.tolist()) == ([1], [2])


BAD_BATCHES = {
    "integer logits": (([[1, 2]], [0], [0]), TypeError, r"logits: dtype int32.*softmax"),
    "one class": (([[1.0]], [0], [0]), ValueError, r"logits: shape \(1, 1\).*\[0, z\]"),
    "one logit each": (([1.0], [0], [0]), ValueError, r"logits: shape \(1,\).*\[0, z\]"),
    "a scalar": ((1.0, [0], [0]), ValueError, r"logits: shape \(\)"),
    "fewer targets": (([[1.0, 2.0]] * 2, [0], [0, 1]), ValueError, r"targets: shape \(1,\), want \(2,\)"),
    "one-hot targets": (([[1.0, 2.0]] * 2, [[0, 1]] * 2, [0, 1]), ValueError, r"targets: shape \(2, 2\)"),
    "float targets": (([[1.0, 2.0]], [0.0], [0]), TypeError, "targets: dtype float32"),
    "one id for all": (([[1.0, 2.0]] * 2, [0, 1], [0]), ValueError, r"sample_ids: shape \(1,\)"),
    "ids as a column": (([[1.0, 2.0]], [0], [[0]]), ValueError, r"sample_ids: shape \(1, 1\)"),
    "float ids": (([[1.0, 2.0]], [0], [0.0]), TypeError, "sample_ids: dtype float32"),
    "names": (([[1.0, 2.0]], [0], ["a"]), TypeError, r"sample_ids: dtype string.*to_totals\(sample_ids\)"),
    "int where": (([[1.0, 2.0]], [0], [0], [1]), TypeError, "where: dtype int32"),
    "one where for all": (([[1.0, 2.0]] * 2, [0, 1], [0, 1], [True]), ValueError, r"where: shape \(1,\)"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
@pytest.mark.parametrize("wrap", [lambda step: step, tf.function], ids=["eager", "graph"])
def test_bad_input_is_named_and_changes_nothing(name, wrap):
    batch, error, words = BAD_BATCHES[name]
    state = AUMState(3)
    with pytest.raises(error, match=words):
        wrap(lambda batch: state.update(*batch))([tf.constant(each) for each in batch])
    assert not state.count.numpy().any()


@pytest.mark.parametrize(
    "lengths", [(3, 1, 3, 3), (3, 3, 1, 3), (1, 3, 3, 3), (3, 3, 3, 1), (3, 1, 1, 1), (3, 3, 3, 2)]
)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_lengths_that_differ_only_when_the_step_runs_change_nothing(lengths, jit_compile):
    state = AUMState(3)
    signature = [*ANY_SIZE, tf.TensorSpec([None], tf.bool)]
    step = tf.function(state.update, input_signature=signature, jit_compile=jit_compile)
    logits, targets, ids, where = lengths
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        step(tf.zeros([logits, 4]), tf.zeros([targets], tf.int64), tf.zeros([ids], tf.int64), tf.ones([where], tf.bool))
    assert not state.count.numpy().any()


def test_a_rank_that_is_not_known_is_an_error():
    step = tf.function(AUMState(3).update, input_signature=[tf.TensorSpec(None), *ANY_SIZE[1:]])
    with pytest.raises(ValueError, match=r"logits: shape unknown.*tf\.ensure_shape"):
        step(tf.zeros([1, 2]), tf.zeros([1], tf.int64), tf.zeros([1], tf.int64))


@pytest.mark.parametrize(("num_samples", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError)])
def test_a_number_of_samples_that_is_none_is_refused(num_samples, error):
    with pytest.raises(error, match=r"num_samples|integer"):
        AUMState(num_samples)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_margins_are_those_before_the_step_learns(jit_compile):
    features, targets, ids = tf.eye(3), tf.constant([0, 1, 0]), tf.constant([0, 1, 2])
    weights = tf.Variable([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    state, before = AUMState(3), compute_margins(weights.numpy(), targets.numpy()).margin

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            logits = features @ weights
            state.update(logits, targets, ids)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        gradient = tape.gradient(loss, weights)
        weights.assign_sub(0.5 * gradient)
        return gradient

    gradient = step()
    assert state.total.numpy().tolist() == before.tolist()
    logits = tf.constant(np.float32([[1, 0], [2, 1], [0, 3]]))
    np.testing.assert_allclose(gradient, tf.nn.softmax(logits) - tf.one_hot(targets, 2), rtol=1e-6)
    assert not np.array_equal(compute_margins(weights.numpy(), targets.numpy()).margin, before)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_whole_epoch_in_one_function(jit_compile):
    logits, targets, _ = random_batch(num_rows=20)
    order = np.random.default_rng(0).permutation(20).reshape(4, 5)
    state = AUMState(20)

    @tf.function(jit_compile=jit_compile)
    def epoch(logits, targets, order):
        for step in tf.range(4):
            ids = order[step]
            state.update(tf.gather(logits, ids), tf.gather(targets, ids), ids)

    for _ in range(3):
        epoch(*tensors(logits, targets, order))
    totals = state.to_totals()
    assert totals.counts.tolist() == [3] * 20
    np.testing.assert_array_equal(totals.sums, 3 * compute_margins(logits, targets).margin.astype(np.float64))


def test_an_epoch_over_a_dataset_in_one_function():
    logits, targets, _ = random_batch(num_rows=20)
    dataset = with_index(tf.data.Dataset.from_tensor_slices((logits, targets))).shuffle(20).batch(6)
    state = AUMState(20)

    @tf.function
    def epoch():
        for logits, targets, ids in dataset:
            state.update(logits, targets, ids)

    epoch()
    epoch()
    np.testing.assert_array_equal(state.to_totals().aums, compute_margins(logits, targets).margin)


def test_it_is_no_weight_of_the_model():
    model = tf.Module()
    model.state = AUMState(3)
    assert model.trainable_variables == ()
    assert {each.name.partition(":")[0] for each in model.variables} == {"total", "count", "nonfinite", "invalid"}


def test_reading_totals_inside_a_function_is_an_error():
    with pytest.raises(TypeError, match=r"to_totals: called inside a tf\.function"):
        tf.function(AUMState(3).to_totals)()


def test_find_mislabeled_with_totals_of_a_state(tmp_path):
    truth = np.arange(200) % 2
    given = truth.copy()
    given[:10] = 1 - given[:10]

    def train(targets, num_classes, calculator):
        state = AUMState(len(targets))
        tf.function(state.update)(tf.one_hot(truth, num_classes) * 4.0, tf.constant(targets), tf.range(200))
        calculator.add_totals(state.to_totals())

    findings = find_mislabeled(train, given, 2, save_dir=tmp_path, percentile=50)
    assert np.flatnonzero(findings.aums < 0).tolist() == list(range(10))
    assert findings.run["framework"] == "tensorflow"
    assert findings.run["aum_version"] == aum_core.__version__
