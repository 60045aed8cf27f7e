"""Each test is a row of the table in docs/keras.md. With a learning rate of 0 every margin is known beforehand."""

import json
from itertools import pairwise

import keras
import numpy as np
import pytest
from keras import ops

import aum_core
from aum.keras import AUMCallback, find_by_posterior, find_mislabeled, with_ids

BACKEND = keras.backend.backend()


def fit(problem, model, folder, x=None, y=None, *, options=None, **fit_options):
    """Fit with ids; the totals of the callback."""
    callback = AUMCallback(folder, model, problem.size, **(options or {}))
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.feature("`jit_compile=True`")
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of much, of its own
@pytest.mark.parametrize("activation", ["softmax"] if BACKEND == "torch" else [None, "softmax"])  # inductor is slow
def test_jit_compile(problem, tmp_path, activation):
    problem.size, problem.x, problem.y = 48, problem.x[:48], problem.y[:48]  # one shape is compiled once
    problem.assert_right(fit(problem, problem.model(activation, jit_compile=True), tmp_path))


@pytest.mark.feature("`steps_per_execution`", torch="Keras itself refuses it on torch")
def test_steps_per_execution(problem, tmp_path):
    problem.assert_right(fit(problem, problem.model(steps_per_execution=3), tmp_path))


@pytest.mark.slow
@pytest.mark.feature("`run_eagerly`")
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_run_eagerly(problem, tmp_path, activation):
    problem.assert_right(fit(problem, problem.model(activation, run_eagerly=True), tmp_path))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.feature("a second `fit`: the same callback goes on counting, a new one begins anew")
def test_second_fit(problem, tmp_path):
    model = problem.model()
    callback = AUMCallback(tmp_path / "first", model, problem.size)
    for _ in range(2):
        model.fit(with_ids(problem.x), problem.y, epochs=2, callbacks=[callback], verbose=0)
    problem.assert_right(callback.totals, count=4)
    problem.assert_right(fit(problem, model, tmp_path / "second"))
    problem.assert_right(callback.totals, count=4)


@pytest.mark.feature("after `fit`, and after one that was broken off, the model is as it was")
@pytest.mark.parametrize("broken_off", [False, True])
def test_model_is_left_as_it_was(problem, tmp_path, broken_off):
    model = problem.model("softmax")
    if broken_off:
        callbacks = [AUMCallback(tmp_path, model, problem.size), BreakOff(at=1)]
        with pytest.raises(KeyboardInterrupt):
            model.fit(with_ids(problem.x), problem.y, epochs=3, batch_size=16, callbacks=callbacks, verbose=0)
    else:
        fit(problem, model, tmp_path)
        assert not {"train_step", "test_step", "compute_loss"} & set(vars(model))
        assert model.train_function is None  # traced with the measurement inside
        assert model.layers[-1].activation is keras.activations.softmax
        assert [metric.name for metric in model.metrics] == ["loss"]
    assert set(model.fit(problem.x, problem.y, verbose=0).history) == {"loss"}
    problem.assert_right(fit(problem, model, tmp_path / "again"))


class BreakOff(keras.callbacks.Callback):
    """Ends training in the middle of an epoch, or when it has ended for the callbacks before this one."""

    def __init__(self, at, where="middle"):
        super().__init__()
        self.at, self.where = at, where

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, self.where) == (self.at, "middle") and batch > 1:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, self.where) == (self.at, "end"):
            raise KeyboardInterrupt


@pytest.mark.feature("`ModelCheckpoint`: files that know nothing of the measurement")
@pytest.mark.parametrize("name", ["whole.keras", "only.weights.h5"])
def test_model_checkpoint(problem, tmp_path, name):
    model = problem.model("softmax")
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / name, save_weights_only="weights" in name)
    callback = AUMCallback(tmp_path / "run", model, problem.size)
    callbacks = [callback, checkpoint]
    model.fit(with_ids(problem.x), problem.y, epochs=3, batch_size=16, callbacks=callbacks, verbose=0)
    problem.assert_right(callback.totals)
    plain = problem.model("softmax")
    plain.save_weights(tmp_path / "plain.weights.h5")
    if "weights" in name:
        plain.load_weights(tmp_path / name)
        assert (tmp_path / name).stat().st_size == (tmp_path / "plain.weights.h5").stat().st_size
    else:
        plain = keras.saving.load_model(tmp_path / name)
        assert plain.layers[-1].activation is keras.activations.softmax
    np.testing.assert_array_equal(plain.get_weights()[0], problem.weights)


@pytest.mark.slow
@pytest.mark.feature("`BackupAndRestore`: crash and resume, in whichever order the callbacks stand")
@pytest.mark.parametrize(
    ("order", "where"),
    [("backup last", "middle"), ("backup last", "between"), ("backup last", "end"), ("backup first", "middle")],
)
def test_backup_and_restore(problem, tmp_path, order, where):
    """Crashes in the middle of epoch 2, between the two callbacks at its end, or after both."""

    def callbacks(model, crash):
        callback = AUMCallback(tmp_path / "run", model, problem.size)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        pair = [backup, callback] if order == "backup first" else [callback, backup]
        broken = [BreakOff(2, "middle" if where == "middle" else "end")] if crash else []
        return callback, [pair[0], *broken, pair[1]] if where == "between" else [*pair, *broken]

    model = problem.model("softmax", learning_rate=0.0)
    _, crashing = callbacks(model, crash=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(with_ids(problem.x), problem.y, epochs=5, batch_size=16, callbacks=crashing, verbose=0)
    resumed = problem.model("softmax")
    callback, going_on = callbacks(resumed, crash=False)
    history = resumed.fit(with_ids(problem.x), problem.y, epochs=5, batch_size=16, callbacks=going_on, verbose=0)
    assert len(history.epoch) < 5
    problem.assert_right(callback.totals, count=5)


def test_a_crash_between_backup_and_sums_is_told(problem, tmp_path):
    model = problem.model()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    callbacks = [backup, BreakOff(2, "end"), AUMCallback(tmp_path / "run", model, problem.size)]
    with pytest.raises(KeyboardInterrupt):
        model.fit(with_ids(problem.x), problem.y, epochs=5, batch_size=16, callbacks=callbacks, verbose=0)
    callback = AUMCallback(tmp_path / "run", model, problem.size)
    with pytest.warns(RuntimeWarning, match="no sums of epochs 2 to 2: they do not count"):
        model.fit(with_ids(problem.x), problem.y, epochs=5, batch_size=16, callbacks=[backup, callback], verbose=0)
    problem.assert_right(callback.totals, count=4)


@pytest.mark.feature("`BackupAndRestore(save_freq=2)`: an epoch that is trained again is counted once")
def test_backup_within_an_epoch(problem, tmp_path):
    for crash in (True, False):
        model = problem.model()
        callback = AUMCallback(tmp_path / "run", model, problem.size)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=2)
        callbacks = [callback, backup, *([BreakOff(2)] if crash else [])]
        try:
            model.fit(with_ids(problem.x), problem.y, epochs=4, batch_size=16, callbacks=callbacks, verbose=0)
        except KeyboardInterrupt:
            assert crash
    problem.assert_right(callback.totals, count=4)


@pytest.mark.feature("`initial_epoch`: goes on with the sums of the epochs before")
def test_initial_epoch(problem, tmp_path):
    fit(problem, problem.model(), tmp_path)
    totals = fit(problem, problem.model(), tmp_path, epochs=5, initial_epoch=3)
    problem.assert_right(totals, count=5)
    with pytest.warns(RuntimeWarning, match=r"resumes at epoch 3, and .*elsewhere has no sums of epochs 0 to 2"):
        totals = fit(problem, problem.model(), tmp_path / "elsewhere", epochs=5, initial_epoch=3)
    problem.assert_right(totals, count=2)


def test_a_new_run_does_not_find_the_sums_of_an_old_one(problem, tmp_path):
    fit(problem, problem.model(), tmp_path)
    problem.assert_right(fit(problem, problem.model(), tmp_path, epochs=1), count=1)
    assert sorted(path.name for path in tmp_path.glob("before*")) == ["before_epoch1.npz"]


def test_resuming_with_other_data_is_refused(problem, tmp_path):
    fit(problem, problem.model(), tmp_path)
    problem.size = 60
    with pytest.raises(ValueError, match=r"before_epoch3.npz: sums of 50 samples, want num_samples=60"):
        fit(problem, problem.model(), tmp_path, epochs=5, initial_epoch=3)


@pytest.mark.feature("`EarlyStopping(restore_best_weights=True)` rolls back no counts")
def test_early_stopping(problem, tmp_path):
    model = problem.compiled(problem.model(), learning_rate=0.0)
    stopping = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True, min_delta=1.0)
    callback = AUMCallback(tmp_path, model, problem.size)
    model.fit(with_ids(problem.x), problem.y, epochs=9, batch_size=16, callbacks=[callback, stopping], verbose=0)
    assert stopping.stopped_epoch == 1
    problem.assert_right(callback.totals, count=2)


@pytest.mark.slow
@pytest.mark.feature("`tf.distribute.MirroredStrategy`", jax="TensorFlow's own", torch="TensorFlow's own")
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_mirrored_strategy(problem, tmp_path, activation):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices("CPU")])
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        model = problem.model(activation)
    problem.assert_right(fit(problem, model, tmp_path, validation_data=(problem.x, problem.y)))


@pytest.mark.feature("`keras.distribution.DataParallel`", tensorflow="JAX's own", torch="JAX's own")
@pytest.mark.parametrize("activation", [None, "softmax"])
def test_data_parallel(problem, tmp_path, activation):
    assert len(keras.distribution.list_devices()) == 4
    problem.size, problem.x, problem.y = 48, problem.x[:48], problem.y[:48]  # each batch is split over the devices
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    problem.assert_right(fit(problem, problem.model(activation), tmp_path))


@pytest.mark.feature("margins of the forward pass, before the weights change")
@pytest.mark.parametrize("jit_compile", ["auto", False])
def test_margins_are_those_before_the_update(problem, tmp_path, jit_compile):
    model = problem.compiled(problem.model(), learning_rate=10.0, jit_compile=jit_compile)
    totals = fit(problem, model, tmp_path, epochs=1, batch_size=problem.size)
    problem.assert_right(totals, count=1)
    assert np.abs(model.get_weights()[0] - problem.weights).max() > 0.1


@pytest.mark.feature("ids repeated in a batch and in an epoch, exact in float32")
def test_repeated_ids(problem, tmp_path):
    rows = np.random.default_rng(0).integers(0, problem.size, 4000)
    problem.weights *= 30
    model = problem.model()
    totals = fit(problem, model, tmp_path, with_ids(problem.x[rows], rows), problem.y[rows], batch_size=500)
    counts = np.bincount(rows, minlength=problem.size)
    assert totals.counts.tolist() == (problem.epochs * counts).tolist()
    once = fit(problem, model, tmp_path / "once", epochs=1)
    np.testing.assert_allclose(totals.aums, once.aums, rtol=3e-7)


@pytest.mark.feature("what is not finite, padding, and ids or labels out of range are left out and counted")
def test_left_out(problem, tmp_path):
    x, y = problem.x.copy(), problem.y.copy()
    rows = np.arange(problem.size)
    x[3], x[4, 0] = np.nan, np.inf
    y[5], y[6], rows[7], rows[8], rows[9] = -1, 3, -1, -50, 50
    problem.epochs, problem.batch_size = 1, problem.size  # these inputs leave nothing of the weights
    model = problem.model(loss=lambda y, y_pred: ops.sum(y_pred, axis=-1))
    with pytest.warns(RuntimeWarning, match=r"5 measurements had an id .* 2 a margin that is not finite"):
        totals = fit(problem, model, tmp_path, with_ids(x, rows), y, options={"from_logits": True})
    kept = np.delete(np.arange(problem.size), range(3, 10))
    assert totals.sample_ids.tolist() == kept.tolist()
    assert set(totals.counts.tolist()) == {problem.epochs}
    assert totals.left_out == 7
    np.testing.assert_allclose(totals.aums, problem.margins[kept], rtol=1e-5, atol=1e-5)
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["left_out"], run["left_out_by"]) == (7, {"id_or_target": 5, "nonfinite": 2})


@pytest.mark.feature("`start_epoch`, `stop_epoch`")
def test_epochs_that_count(problem, tmp_path):
    options = {"start_epoch": 1, "stop_epoch": 3}
    problem.assert_right(fit(problem, problem.model(), tmp_path, epochs=5, options=options), count=2)
    assert json.loads((tmp_path / "run.json").read_text())["options"]["stop_epoch"] == 3


@pytest.mark.feature("a summary in the logs; the files of the run at the end")
def test_logs_and_files(problem, tmp_path):
    model = problem.model()
    names = [f"digit {row}" for row in range(problem.size)]
    totals = fit(problem, model, tmp_path, options={"sample_ids": names})
    history = model.history.history
    assert history["aum"] == pytest.approx([problem.margins.mean()] * 3, rel=1e-5)
    assert history["aum_negative"] == pytest.approx([(problem.margins < 0).mean()] * 3)
    assert totals.sample_ids.tolist() == names
    ids, _ = aum_core.read_aum_values(tmp_path / "aum_values.csv")
    assert list(ids) == [names[row] for row in np.argsort(-problem.margins)]
    assert aum_core.Totals.load(tmp_path / "totals.npz").counts.tolist() == [3] * problem.size
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["framework"], run["samples"], run["measurements"]) == (f"keras on {BACKEND}", 50, 150)


def identity(course, **compiling):
    """A model whose logits are its inputs."""
    model = keras.Sequential(
        [
            keras.Input((course.num_classes,)),
            keras.layers.Dense(course.num_classes, use_bias=False, kernel_initializer="identity"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True), **compiling)
    return model


def fit_course(course, callback, model, epochs, **fit_options):
    def batches():
        for epoch in range(fit_options.get("initial_epoch", 0), epochs):
            for logits, targets, ids in course.epoch(epoch):
                yield with_ids(logits, ids), targets

    steps = len(list(course.epoch(0)))
    model.fit(
        batches(), steps_per_epoch=steps, epochs=epochs, shuffle=False, callbacks=[callback], verbose=0, **fit_options
    )
    return callback


@pytest.fixture
def all_scores(course):
    return {"scores": course.scores, "noise_posterior": True}


@pytest.mark.feature("the other scores and the noise posterior, as the engine has them of the same logits")
def test_scores_and_posterior(course, all_scores, tmp_path):
    model = identity(course)
    callback = fit_course(course, AUMCallback(tmp_path, model, course.size, **all_scores), model, course.num_epochs)
    course.assert_same(callback.calculator, course.measured_by_engine(tmp_path / "engine"))
    lines = {name: (tmp_path / f"{name}.csv").read_text().splitlines() for name in ("scores", "noise_posterior")}
    assert lines["scores"][0] == ",".join(["sample_id", "aum", *course.scores])
    assert [len(each) for each in lines.values()] == [1 + course.size] * 2
    assert len((tmp_path / "transition.csv").read_text().splitlines()) == 1 + course.num_classes
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["scores"]["averaging_window"]["epochs"] == 4
    assert (run["options"]["noise_posterior"], run["options"]["num_samples"]) == (True, course.size)
    assert run["framework"] == f"keras on {BACKEND}"


@pytest.mark.slow
@pytest.mark.feature("a resumed fit goes on with the scores, to the bit")
def test_scores_of_a_resumed_fit(course, all_scores, tmp_path):
    folders = [(tmp_path / "whole", [0, 6]), (tmp_path / "pieces", [0, 2, 5, 6])]
    for folder, ends in folders:
        for first, end in pairwise(ends):
            model = identity(course)
            callback = AUMCallback(folder, model, course.size, **all_scores)
            fit_course(course, callback, model, end, initial_epoch=first)
    for name in ("aum_values.csv", "scores.csv", "noise_posterior.csv", "transition.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "pieces" / name).read_bytes()
    kept = {"before_epoch5.npz", "before_epoch5_scores.npz", "before_epoch6.npz", "before_epoch6_scores.npz"}
    assert {path.name for path in (tmp_path / "pieces").glob("before*")} == kept


def test_resuming_with_other_scores_is_refused(course, tmp_path):
    def fit_with(epochs, initial_epoch=0, **options):
        model = identity(course)
        callback = AUMCallback(tmp_path, model, course.size, **options)
        fit_course(course, callback, model, epochs, initial_epoch=initial_epoch)

    fit_with(1)
    with pytest.raises(ValueError, match=r"scores: .*before_epoch1_scores.npz is not there, .* begun without them"):
        fit_with(2, 1, scores=["el2n"])
    fit_with(1, scores=["el2n"])
    with pytest.raises(ValueError, match=r"scores=\['el2n'\], noise_posterior=False, want .*, noise_posterior=True;"):
        fit_with(2, 1, scores=["el2n"], noise_posterior=True)


@pytest.mark.feature("`start_epoch`, `stop_epoch` for scores too")
def test_epochs_that_count_for_scores(course, all_scores, tmp_path):
    model = identity(course)
    callback = AUMCallback(tmp_path, model, course.size, start_epoch=1, stop_epoch=4, **all_scores)
    fit_course(course, callback, model, 6)
    course.assert_same(callback.calculator, course.measured_by_engine(tmp_path / "engine", epochs=range(1, 4)))


@pytest.mark.feature("a calculator with scores takes each epoch, as `find_by_posterior` has it")
def test_calculator_with_scores(course, all_scores, tmp_path):
    model, calculator = identity(course), aum_core.AUMCalculator(tmp_path, **all_scores)
    fit_course(course, AUMCallback(calculator, model, course.size), model, course.num_epochs)
    course.assert_same(calculator, course.measured_by_engine(tmp_path))
    assert not list(tmp_path.glob("before_epoch*"))


@pytest.mark.feature("the search by one run, `find_by_posterior`")
def test_find_by_posterior(course, tmp_path):
    def train(targets, num_classes, calculator):
        np.testing.assert_array_equal(targets, course.targets)
        model = identity(course)
        fit_course(course, AUMCallback(calculator, model, len(targets)), model, course.num_epochs)

    findings = find_by_posterior(train, course.targets, course.num_classes, save_dir=tmp_path)
    course.assert_found(findings, tmp_path / "engine")
    assert (tmp_path / "flagged.csv").read_text().count("\n") == 1 + findings.flagged.sum()


def test_an_epoch_that_never_counted_leaves_an_empty_ranking(problem, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    model = problem.model()
    callback = AUMCallback(tmp_path, model, problem.size, start_epoch=2, noise_posterior=True)
    model.fit(with_ids(problem.x), problem.y, epochs=3, callbacks=[Stop(), callback], verbose=0)
    assert (tmp_path / "aum_values.csv").read_text() == "sample_id,aum\n"


def assert_scores(problem, folder, model, expected_folder, **options):
    """A model that does not learn is as confident as its known weights say."""
    totals = fit(problem, model, folder, options={"scores": ["confidence", "el2n"], "noise_posterior": True, **options})
    problem.assert_right(totals)
    expected = aum_core.AUMCalculator(expected_folder, scores=["confidence", "el2n"], noise_posterior=True)
    for _ in range(problem.epochs):
        expected.accumulate(problem.x @ problem.weights, problem.y, np.arange(problem.size))
        expected.end_epoch()
    expected.finalize()
    for name, key in (("scores.csv", "aum"), ("noise_posterior.csv", "probability_wrong")):
        found, wanted = (np.genfromtxt(each / name, delimiter=",", names=True) for each in (folder, expected_folder))
        for table in (found, wanted):
            table.sort(order="sample_id")
        assert key in found.dtype.names
        for column in found.dtype.names:
            np.testing.assert_allclose(found[column], wanted[column], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.feature("scores of softmax outputs, subclassed models (`num_classes` told) and `jit_compile=True`")
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of much, of its own
@pytest.mark.parametrize("how", ["softmax", "subclassed", "jit_compile", "run_eagerly"])
def test_scores_of_models(problem, tmp_path, how):
    if how == "subclassed":
        model = problem.compiled(Subclassed(problem, "softmax"), loss="sparse_categorical_crossentropy")
        assert_scores(problem, tmp_path / "found", model, tmp_path / "wanted", num_classes=3)
        return
    problem.size, problem.x, problem.y = 48, problem.x[:48], problem.y[:48]  # one shape is compiled once
    model = problem.model("softmax", **({how: True} if how != "softmax" else {}))
    assert_scores(problem, tmp_path / "found", model, tmp_path / "wanted")


@pytest.mark.slow
@pytest.mark.feature("scores under `tf.distribute.MirroredStrategy`", jax="TensorFlow's own", torch="TensorFlow's own")
def test_scores_under_a_mirrored_strategy(problem, tmp_path):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = problem.model("softmax")
    assert_scores(problem, tmp_path / "found", model, tmp_path / "wanted")


@pytest.mark.feature("scores under `keras.distribution.DataParallel`", tensorflow="JAX's own", torch="JAX's own")
def test_scores_under_data_parallel(problem, tmp_path):
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    problem.size, problem.x, problem.y = 48, problem.x[:48], problem.y[:48]
    assert_scores(problem, tmp_path / "found", problem.model("softmax"), tmp_path / "wanted")


@pytest.mark.feature("threshold runs with `find_mislabeled`")
def test_find_mislabeled(tmp_path):
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 300)
    x = (generator.normal(size=(300, 6)) + 4 * np.eye(3, 6)[truth]).astype(np.float32)
    given, flipped = aum_core.flip_uniform(truth, 3, 0.1)

    def train(targets, num_classes, calculator):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(num_classes, "softmax")])
        model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
        callback = AUMCallback(calculator, model, len(targets))
        model.fit(with_ids(x), targets, epochs=5, batch_size=16, callbacks=[callback], verbose=0)

    findings = find_mislabeled(train, given, 3, save_dir=tmp_path)
    assert np.isfinite(findings.aums).all()
    assert (findings.flagged & flipped).sum() / flipped.sum() > 0.9
    assert not list(tmp_path.glob("before_epoch*"))
