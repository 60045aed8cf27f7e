"""Each test is a row of the table in docs/keras.md. With a learning rate of 0 every margin is known beforehand."""

import json
import os
import sys

import keras
import numpy as np
import pytest
from keras import ops

from aum.keras import AUMCallback, with_ids

BACKEND = keras.backend.backend()


def fit(problem, model, folder, x=None, y=None, *, options=None, **fit_options):
    """Fit with ids; the totals of the callback."""
    callback = AUMCallback(model, folder, problem.size, **(options or {}))
    if x is None:
        x, y = with_ids(problem.x), problem.y if y is None else y
    of_arrays = {"batch_size": problem.batch_size} if y is not None else {"shuffle": False}
    fit_options = {"epochs": problem.epochs, "verbose": 0, **of_arrays, **fit_options}
    model.fit(x, y, callbacks=[callback], **fit_options)
    return callback.totals


@pytest.mark.feature("arrays, shuffled by `fit`")
def test_arrays(problem, tmp_path):
    problem.assert_right(fit(problem, problem.model(), tmp_path))


@pytest.mark.feature("`tf.data`, indexed before it is shuffled and batched")
def test_tf_data(problem, tmp_path):
    import tensorflow as tf

    dataset = with_ids(tf.data.Dataset.from_tensor_slices((problem.x, problem.y))).shuffle(50).batch(problem.batch_size)
    problem.assert_right(fit(problem, problem.model(), tmp_path, dataset))


class Batches(keras.utils.PyDataset):
    """Batch i holds the rows from i times the batch size on."""

    def __init__(self, problem, sizes=(16, 16, 16, 2), **options):
        super().__init__(**options)
        self.problem, self.ends = problem, np.cumsum(sizes)

    def __len__(self):
        return len(self.ends)

    def __getitem__(self, index):
        part = slice(self.ends[index - 1] if index else 0, self.ends[index])
        return self.problem.x[part], self.problem.y[part]


class ShuffledBatches(Batches):
    """Moves its rows to other batches after each epoch, and so gives their ids itself."""

    def __init__(self, problem):
        super().__init__(problem)
        self.order = np.arange(problem.size)

    def on_epoch_end(self):
        self.order = np.random.default_rng(1).permutation(self.problem.size)

    def __getitem__(self, index):
        rows = np.split(self.order, self.ends[:-1])[index]
        return with_ids(self.problem.x[rows], rows), self.problem.y[rows]


@pytest.mark.feature("`keras.utils.PyDataset`")
@pytest.mark.parametrize("workers", [1, 2])
def test_py_dataset(problem, tmp_path, workers):
    model = problem.model()
    # Keras's own look at the first batch of a model that it has yet to build makes two workers repeat one (on JAX)
    model.test_on_batch(problem.x, problem.y)
    problem.assert_right(fit(problem, model, tmp_path, with_ids(Batches(problem, workers=workers)), shuffle=True))


@pytest.mark.feature("`PyDataset` that shuffles by itself, and gives `with_ids(x, rows)`")
def test_shuffling_py_dataset(problem, tmp_path):
    problem.assert_right(fit(problem, problem.model(), tmp_path, ShuffledBatches(problem)))


@pytest.mark.feature("PyTorch `DataLoader(with_ids(dataset))`")
def test_data_loader(problem, tmp_path):
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    dataset = with_ids(TensorDataset(torch.tensor(problem.x), torch.tensor(problem.y)))
    loader = DataLoader(dataset, batch_size=problem.batch_size, shuffle=True)
    problem.assert_right(fit(problem, problem.model(), tmp_path, loader))


@pytest.mark.feature("a generator that gives `with_ids(x, rows)`")
def test_generator(problem, tmp_path):
    def batches():
        while True:
            for rows in np.split(np.random.default_rng(1).permutation(problem.size), 5):
                yield with_ids(problem.x[rows], rows), problem.y[rows]

    problem.assert_right(fit(problem, problem.model(), tmp_path, batches(), steps_per_epoch=5))


@pytest.mark.feature("labels as indices (B,) and (B, 1), ints and floats")
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_sparse_labels(problem, tmp_path, shape, dtype):
    y = problem.y.astype(dtype).reshape(shape)
    problem.assert_right(fit(problem, problem.model(), tmp_path, y=y))


@pytest.mark.feature("one-hot labels")
def test_one_hot_labels(problem, tmp_path):
    model = problem.model(loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1))
    y = np.eye(problem.num_classes, dtype=np.float32)[problem.y]
    problem.assert_right(fit(problem, model, tmp_path, y=y))


def softmax_layer(problem):
    return keras.Sequential([keras.Input((4,)), problem.dense(), keras.layers.Softmax()])


def activation_layer(problem):
    return keras.Sequential([keras.Input((4,)), problem.dense(), keras.layers.Activation("softmax")])


def functional_softmax(problem):
    inputs = keras.Input((4,))
    return keras.Model(inputs, problem.dense("softmax")(inputs))


def subclassed_softmax(problem):
    return Subclassed(problem, "softmax")


def nested_softmax(problem):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.0), functional_softmax(problem)])


SOFTMAXES = [softmax_layer, activation_layer, functional_softmax, subclassed_softmax, nested_softmax]


@pytest.mark.feature("softmax outputs, exact where they are saturated")
@pytest.mark.parametrize("make", SOFTMAXES)
def test_softmax_outputs(problem, tmp_path, make):
    problem.weights *= 100
    assert np.ptp(problem.margins) > 500
    model = problem.compiled(make(problem), loss="sparse_categorical_crossentropy")
    problem.assert_right(fit(problem, model, tmp_path))


class Subclassed(keras.Model):
    def __init__(self, problem, activation=None):
        super().__init__()
        self.dropout, self.dense = keras.layers.Dropout(0.0), problem.dense(activation)

    def call(self, x, training=None):
        return self.dense(self.dropout(x, training=training))


@pytest.mark.feature("binary models with one logit z, which is [0, z]")
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_binary_models(problem, tmp_path, activation):
    y = problem.y % 2
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.0), keras.losses.BinaryCrossentropy(from_logits=activation is None))
    totals = fit(problem, model, tmp_path, y=y)
    z = problem.x.sum(1)
    assert set(totals.counts.tolist()) == {problem.epochs}
    np.testing.assert_allclose(totals.aums, np.where(y == 1, z, -z), rtol=1e-5, atol=1e-5)


@pytest.mark.feature("`jit_compile=True`")
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_jit_compile(problem, tmp_path, activation):
    problem.size, problem.x, problem.y = 48, problem.x[:48], problem.y[:48]  # one shape is compiled once
    problem.assert_right(fit(problem, problem.model(activation, jit_compile=True), tmp_path))


@pytest.mark.feature("`steps_per_execution`", torch="Keras itself refuses it on torch")
def test_steps_per_execution(problem, tmp_path):
    problem.assert_right(fit(problem, problem.model(steps_per_execution=3), tmp_path))


@pytest.mark.feature("`run_eagerly`")
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_run_eagerly(problem, tmp_path, activation):
    problem.assert_right(fit(problem, problem.model(activation, run_eagerly=True), tmp_path))


@pytest.mark.feature("mixed precision")
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("output", [None, "float32"])
def test_mixed_precision(problem, tmp_path, policy, output):
    keras.config.set_dtype_policy(policy)
    try:
        layers = [keras.Input((4,)), problem.dense(), keras.layers.Activation("softmax", dtype=output)]
        model = problem.compiled(keras.Sequential(layers), loss="sparse_categorical_crossentropy")
        problem.assert_right(fit(problem, model, tmp_path), tolerance=0.1)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.feature("`class_weight` and `sample_weight` weigh the loss, and no margin")
@pytest.mark.parametrize("weights", ["class_weight", "sample_weight"])
def test_weights(problem, tmp_path, weights):
    plain, weighted = problem.model(), problem.model()
    given = {"class_weight": {0: 5.0, 1: 0.0, 2: 1.0}, "sample_weight": np.linspace(0, 3, problem.size)}[weights]
    problem.assert_right(fit(problem, weighted, tmp_path, **{weights: given}))
    expected = plain.fit(problem.x, problem.y, verbose=0, shuffle=False, batch_size=16, **{weights: given})
    np.testing.assert_allclose(weighted.history.history["loss"][0], expected.history["loss"][0], rtol=1e-4)


def functional(problem):
    inputs = keras.Input((4,))
    return keras.Model(inputs, problem.dense()(inputs))


def functional_dict(problem):
    inputs = {"left": keras.Input((2,), name="left"), "right": keras.Input((2,), name="right")}
    return keras.Model(inputs, problem.dense()(ops.concatenate([inputs["left"], inputs["right"]], axis=1)))


def functional_list(problem):
    inputs = [keras.Input((2,)), keras.Input((2,))]
    return keras.Model(inputs, problem.dense()(keras.layers.Concatenate()(inputs)))


class SubclassedDict(Subclassed):
    def call(self, x, training=None):
        return super().call(ops.concatenate([x["left"], x["right"]], axis=1), training)


MODELS = {
    "functional": (functional, "array"),
    "Sequential": (lambda problem: keras.Sequential([keras.Input((4,)), problem.dense()]), "array"),
    "Sequential, unbuilt": (lambda problem: keras.Sequential([problem.dense()]), "array"),
    "subclassed": (Subclassed, "array"),
    "functional of a dict": (functional_dict, "dict"),
    "functional of a list": (functional_list, "list"),
    "subclassed of a dict": (SubclassedDict, "dict"),
}


@pytest.mark.feature("functional, Sequential, subclassed, unbuilt; dict and list inputs")
@pytest.mark.parametrize("name", MODELS)
def test_models(problem, tmp_path, name):
    make, kind = MODELS[name]
    left, right = problem.x[:, :2], problem.x[:, 2:]
    x = {"array": problem.x, "dict": {"left": left, "right": right}, "list": [left, right]}[kind]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = problem.compiled(make(problem), loss=loss, metrics=["accuracy"])
    problem.assert_right(fit(problem, model, tmp_path, with_ids(x), problem.y))
    assert model.history.history["accuracy"][0] == pytest.approx((problem.margins > 0).mean(), abs=1e-6)


@pytest.mark.feature("validation data are not measured")
def test_validation(problem, tmp_path):
    model = problem.model(metrics=["accuracy"])
    problem.assert_right(fit(problem, model, tmp_path, validation_data=(problem.x, (problem.y + 1) % 3)))
    assert "val_accuracy" in model.history.history


@pytest.mark.feature("`validation_split`")
def test_validation_split(problem, tmp_path):
    totals = fit(problem, problem.model(), tmp_path, validation_split=0.2)
    assert totals.sample_ids.tolist() == list(range(40))
    assert set(totals.counts.tolist()) == {problem.epochs}


@pytest.mark.feature("a training step of the model's own that calls `compute_loss`", jax="test_own_loss has JAX's")
def test_own_train_step(problem, tmp_path):
    class Own(keras.Model):
        def train_step(self, data):
            x, y = data
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, y_pred)
            return {metric.name: metric.result() for metric in self.metrics}

    inputs = keras.Input((4,))
    model = problem.compiled(Own(inputs, problem.dense()(inputs)))
    problem.assert_right(fit(problem, model, tmp_path))


@pytest.mark.feature("a `compute_loss` of the model's own, with or without `training`")
def test_own_loss(problem, tmp_path):
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return 2 * super().compute_loss(x, y, y_pred, sample_weight)

    inputs = keras.Input((4,))
    problem.assert_right(fit(problem, problem.compiled(Own(inputs, problem.dense()(inputs))), tmp_path))
