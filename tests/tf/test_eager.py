"""AUMCalculator with what TensorFlow users hand over."""

import numpy as np
import pytest
import tensorflow as tf

import aum.tf
from aum_core import compute_margins


@pytest.fixture
def calculator(tmp_path):
    return aum.tf.AUMCalculator(tmp_path)


def random_batch(num_rows=12, num_classes=7, dtype=tf.float32, seed=0):
    generator = np.random.default_rng(seed)
    logits = tf.cast(tf.constant(generator.normal(0, 5, (num_rows, num_classes))), dtype)
    return logits, tf.constant(generator.integers(0, num_classes, num_rows)), tf.range(num_rows)


def margins_of(records):
    return [record.margin for record in records.values()]


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
@pytest.mark.parametrize("shape", [(12, 7), (40, 8000)])
def test_half_types_are_measured_in_float32(calculator, dtype, shape):
    logits, targets, ids = random_batch(shape[0], shape[1], dtype)
    expected = compute_margins(tf.cast(logits, tf.float32).numpy(), targets.numpy())
    assert margins_of(calculator.update(logits, targets, ids)) == expected.margin.tolist()


def test_variables_and_arrays_are_welcome_too(calculator):
    logits, targets, ids = random_batch()
    expected = compute_margins(logits.numpy(), targets.numpy()).margin.tolist()
    assert margins_of(calculator.update(tf.Variable(logits), tf.Variable(targets), ids)) == expected
    assert margins_of(calculator.update(logits.numpy(), targets.numpy(), ids.numpy())) == expected


def test_a_tensor_of_strings_gives_strs(calculator):
    logits, targets, _ = random_batch(2)
    records = calculator.update(logits, targets, tf.constant(["a.png", "ü.png"]))
    assert list(records) == ["a.png", "ü.png"]


def test_cpu_logits_are_not_copied(monkeypatch, calculator):
    logits, targets, ids = random_batch()
    seen = []
    monkeypatch.setattr(
        aum.tf.calculator, "compute_margins", lambda *args, **kw: seen.append(args) or compute_margins(*args)
    )
    calculator.accumulate(logits, targets, ids)
    assert seen[0][0].__array_interface__["data"] == np.asarray(logits).__array_interface__["data"]


def test_a_tape_is_left_alone(calculator):
    weight = tf.Variable(tf.ones([5, 7]))
    features, (_, targets, ids) = tf.random.normal([12, 5], seed=1), random_batch()
    with tf.GradientTape() as tape:
        logits = features @ weight
        calculator.accumulate(logits, targets, ids)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    assert tape.gradient(loss, weight) is not None


@pytest.mark.parametrize("method", ["update", "accumulate"])
@pytest.mark.parametrize("batch", [random_batch(), ([[1.0, 2.0]], [0], [0])], ids=["tensors", "lists"])
def test_inside_a_function_it_points_to_the_state(calculator, method, batch):
    """Lists would be measured, but only once, while the function is traced."""

    @tf.function
    def step(batch):
        getattr(calculator, method)(*batch)

    with pytest.raises(TypeError, match=rf"{method}: called inside a tf\.function.*aum\.tf\.AUMState\(num_samples\)"):
        step(batch) if isinstance(batch[0], tf.Tensor) else tf.function(lambda: getattr(calculator, method)(*batch))()
    assert len(calculator.totals) == 0


def test_a_function_that_leaves_the_graph_measures_every_step(calculator):
    logits, targets, ids = random_batch()

    @tf.function
    def step(*batch):
        tf.py_function(calculator.accumulate, batch, [])

    for _ in range(3):
        step(logits, targets, ids)
    assert set(calculator.counts.values()) == {3}


def test_names_that_are_not_there_are_attribute_errors():
    with pytest.raises(AttributeError, match=r"module 'aum\.tf' has no attribute 'AUMCalback'"):
        aum.tf.AUMCalback  # noqa: B018 # the look-up is the test


class TestOnAnotherDevice:
    """The path of tensors that live elsewhere, on the CPU: what it computes does not depend on where."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, monkeypatch):
        monkeypatch.setattr(aum.tf.calculator, "compute_margins", None)  # the host's path would fail

        def measure(backend, logits, targets, other_logit=True):
            return aum.tf.calculator._measure_on_device(logits, backend.to_numpy(targets))

        monkeypatch.setattr(aum.tf.TFBackend, "measure", measure)

    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
    @pytest.mark.parametrize("shape", [(12, 7), (3, 2), (1, 5), (40, 8000), (0, 3)])
    def test_margins_are_those_of_the_host(self, calculator, dtype, shape):
        logits, targets, ids = random_batch(shape[0], shape[1], dtype)
        wide = tf.cast(logits, tf.float32) if dtype in (tf.float16, tf.bfloat16) else logits
        expected = compute_margins(wide.numpy(), targets.numpy())
        records = list(calculator.update(logits, targets, ids).values())
        for name in ("margin", "target_val", "other_val", "other_logit"):
            assert [getattr(record, name) for record in records] == getattr(expected, name).tolist(), name

    def test_of_tied_classes_the_lowest_is_named_and_never_the_target(self, tmp_path):
        calculator = aum.tf.AUMCalculator(tmp_path, nonfinite="propagate")
        inf = np.inf
        logits = np.float32([[1, 3, 3, 3]] * 3 + [[1, -inf, -inf, -inf], [-inf, 1, -inf, -inf], [0, 1, np.nan, 2]])
        targets = np.array([0, 1, 2, 0, 1, 0])
        records = calculator.update(tf.constant(logits), tf.constant(targets), range(6)).values()
        expected = compute_margins(logits, targets)
        assert [record.other_logit for record in records] == expected.other_logit.tolist() == [1, 2, 1, 1, 0, 2]
        np.testing.assert_array_equal([record.margin for record in records], expected.margin)

    @pytest.mark.parametrize("target", [-100, 7, 2**32, -(2**63)])
    def test_a_target_out_of_range_is_named_and_changes_nothing(self, calculator, target):
        logits, targets, ids = random_batch()
        targets = tf.tensor_scatter_nd_update(targets, [[4]], tf.constant([target], tf.int64))
        with pytest.raises(ValueError, match=r"targets: sample 4 has target .*\[0, 7\)"):
            calculator.accumulate(logits, targets, ids)
        assert len(calculator.totals) == 0

    def test_wrong_shapes_and_types_are_named(self, calculator):
        logits, targets, ids = random_batch()
        with pytest.raises(ValueError, match=r"targets: shape \(11,\)"):
            calculator.update(logits, targets[:11], ids)
        with pytest.raises(TypeError, match="logits: dtype int64"):
            calculator.update(tf.cast(logits, tf.int64), targets, ids)
        with pytest.raises(ValueError, match=r"logits: shape \(12, 1\).*\[0, z\]"):
            calculator.update(logits[:, :1], targets, ids)


def test_tensors_of_another_device_are_reduced_there(calculator, monkeypatch):
    logits, targets, ids = random_batch()
    host, seen = compute_margins(logits.numpy(), targets.numpy()), []
    monkeypatch.setattr(aum.tf.calculator, "_is_on_host", lambda tensor: False)
    monkeypatch.setattr(aum.tf.calculator, "_measure_on_device", lambda *args: seen.append(args) or host)
    calculator.accumulate(logits, targets, ids)
    assert seen[0][0] is logits
