"""What is wired wrongly is told, with what to change, and before it costs an epoch."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import aum_core
from aum.keras import AUMCallback, with_ids

BACKEND = keras.backend.backend()
FRAMEWORKS = ["tensorflow", "jax", "torch"]


class Steps(keras.callbacks.Callback):
    """Counts training steps."""

    count = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.count += 1


def fit(problem, model, folder, x=None, *, y=None, **options):
    callback = AUMCallback(folder, model, problem.size, **options)
    x = with_ids(problem.x) if x is None else x
    y = problem.y if y is None else y
    return model.fit(x, y, batch_size=problem.batch_size, callbacks=[callback], verbose=0)


def test_inputs_without_ids_are_refused_after_one_step(problem, tmp_path):
    model, steps = problem.model(), Steps()
    callbacks = [steps, AUMCallback(tmp_path, model, problem.size)]
    with pytest.raises(ValueError, match=r"x: it has no sample ids.*fit\(with_ids\(x\), y"):
        model.fit(problem.x, problem.y, batch_size=16, callbacks=callbacks, verbose=0)
    assert steps.count == 2
    model.fit(problem.x, problem.y, verbose=0)  # the model is as it was


def test_inputs_without_ids_are_refused_after_an_epoch_of_one_step(problem, tmp_path):
    problem.batch_size = problem.size
    with pytest.raises(ValueError, match="x: it has no sample ids"):
        fit(problem, problem.model(), tmp_path, problem.x)


def test_a_step_that_does_not_measure_is_refused(problem, tmp_path):
    class Own(keras.Model):
        def train_step(self, *arguments):
            loss = {"loss": ops.zeros(())}
            return (loss, arguments[0]) if len(arguments) == 2 else loss

    inputs = keras.Input((4,))
    model = problem.compiled(Own(inputs, problem.dense()(inputs)))
    with pytest.raises(ValueError, match=r"model: its train_step does not call self.compute_loss"):
        fit(problem, model, tmp_path)


def test_ids_that_are_all_out_of_range_are_refused(problem, tmp_path):
    with pytest.raises(ValueError, match=r"sample_ids: all 50 rows of epoch 0 were left out; want ids in \[0, 50\)"):
        fit(problem, problem.model(), tmp_path, with_ids(problem.x, np.arange(50) + 50))


def test_start_epoch_that_is_never_reached_is_refused(problem, tmp_path):
    with pytest.raises(ValueError, match="start_epoch: 1, but fit ends before it, with epochs=1"):
        fit(problem, problem.model(), tmp_path, start_epoch=1)


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (2, 2), (3, 1)])
def test_epochs_that_do_not_fit_are_refused(problem, tmp_path, start, stop):
    with pytest.raises(ValueError, match="start_epoch, stop_epoch"):
        AUMCallback(tmp_path, problem.model(), 50, start_epoch=start, stop_epoch=stop)


@pytest.mark.parametrize(("num_samples", "names"), [(0, None), (2**31, None), (3, ["a", "b"]), (2, ["a", "a"])])
def test_samples_that_do_not_fit_are_refused(problem, tmp_path, num_samples, names):
    with pytest.raises(ValueError, match=r"num_samples|sample_ids"):
        AUMCallback(tmp_path, problem.model(), num_samples, sample_ids=names)


def test_a_subclassed_model_has_to_tell_its_classes_for_the_posterior(problem, tmp_path):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = problem.dense()

        def call(self, x):
            return self.dense(x)

    model = problem.compiled(Subclassed(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = AUMCallback(tmp_path, model, problem.size, noise_posterior=True, from_logits=True)
    with pytest.raises(ValueError, match=r"num_classes: the model does not tell .* AUMCallback\(..., num_classes=C\)"):
        model.fit(with_ids(problem.x), problem.y, callbacks=[callback], verbose=0)
    callback = AUMCallback(tmp_path, model, problem.size, noise_posterior=True, from_logits=True, num_classes=5)
    with pytest.raises(ValueError, match="num_classes: 5, but the logits have 3 columns"):
        model.fit(with_ids(problem.x), problem.y, callbacks=[callback], verbose=0)


def test_scores_beside_a_calculator_are_refused(problem, tmp_path):
    calculator = aum_core.AUMCalculator(tmp_path)
    with pytest.raises(ValueError, match="given with a calculator, want them where the calculator is made"):
        AUMCallback(calculator, problem.model(), problem.size, scores=["el2n"])
    with pytest.raises(AttributeError, match="a calculator is kept only by AUMCallback"):
        AUMCallback(calculator, problem.model(), problem.size).calculator  # noqa: B018 # the look-up is the test


def test_labels_that_change_within_an_epoch_are_refused_for_scores(problem, tmp_path):
    model = problem.model()
    callback = AUMCallback(tmp_path, model, problem.size, scores=["el2n"])
    with pytest.raises(ValueError, match="y: sample 7 had several labels within one epoch"):
        model.fit(with_ids(problem.x[:2], np.array([7, 7])), np.array([0, 1]), callbacks=[callback], verbose=0)


def test_another_model_is_refused(problem, tmp_path):
    callback = AUMCallback(tmp_path, problem.model(), problem.size)
    with pytest.raises(ValueError, match="model: fit with another model"):
        problem.model().fit(problem.x, problem.y, callbacks=[callback], verbose=0)


def test_a_loss_that_does_not_tell_needs_from_logits(problem, tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = problem.dense()

        def call(self, x):
            return self.dense(x)

    model = problem.compiled(Own(), loss=lambda y, y_pred: ops.sum(y_pred, axis=-1))
    with pytest.raises(ValueError, match=r"from_logits: neither the loss .* nor the model tells"):
        fit(problem, model, tmp_path)
    fit(problem, model, tmp_path, from_logits=True)


def test_a_loss_and_a_layer_that_contradict_each_other_are_refused(problem, tmp_path):
    logits_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(
        ValueError, match=r"from_logits: the loss .* takes logits, but the layer .* gives probabilities"
    ):
        fit(problem, problem.model("softmax", loss=logits_loss), tmp_path)
    with pytest.raises(ValueError, match=r"output_layer: the loss .* takes probabilities, but no layer"):
        fit(problem, problem.model(loss="sparse_categorical_crossentropy"), tmp_path)


def test_the_softmax_of_several_has_to_be_told(problem, tmp_path):
    class Gated(keras.Model):
        def __init__(self):
            super().__init__()
            self.gate, self.dense = keras.layers.Dense(4, "softmax"), problem.dense("softmax")

        def call(self, x):
            return self.dense(x + 0 * self.gate(x))

    model = problem.compiled(Gated(), loss="sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=r"output_layer: .* no layer with a softmax or sigmoid could be told"):
        fit(problem, model, tmp_path)
    callback = AUMCallback(tmp_path, model, problem.size, output_layer=model.dense)
    model.fit(with_ids(problem.x), problem.y, epochs=problem.epochs, callbacks=[callback], verbose=0)
    problem.assert_right(callback.totals)


def test_labels_that_do_not_go_with_the_output_are_refused(problem, tmp_path):
    loss = lambda y, y_pred: ops.sum(y_pred, axis=-1)  # noqa: E731 # any shapes go with it
    with pytest.raises(ValueError, match=r"y: shape .*4\), want class indices \(B,\) or one-hot rows \(B, 3\)"):
        fit(problem, problem.model(loss=loss), tmp_path, y=np.zeros((50, 4), np.float32), from_logits=True)


def test_an_output_per_position_is_refused(problem, tmp_path):
    layers = [keras.Input((4,)), keras.layers.Reshape((2, 2)), keras.layers.Dense(3)]
    model = problem.compiled(keras.Sequential(layers), loss=lambda y, y_pred: ops.sum(y_pred, axis=(1, 2)))
    with pytest.raises(ValueError, match=r"y_pred: shape .*2, 3\), want \(B, C\)"):
        fit(problem, model, tmp_path, from_logits=True)


def test_several_outputs_are_refused(problem, tmp_path):
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(3)(inputs), keras.layers.Dense(3)(inputs)]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = problem.compiled(keras.Model(inputs, outputs), loss=[loss, loss])
    with pytest.raises(ValueError, match="y_pred: the model has several outputs"):
        fit(problem, model, tmp_path, y=[problem.y, problem.y], from_logits=True)


def test_several_labels_per_sample_are_refused(problem, tmp_path):
    y = np.eye(3, dtype=np.float32)[problem.y]
    with pytest.raises(ValueError, match="loss: binary_crossentropy of 3 outputs"):
        fit(problem, problem.model("sigmoid", loss="binary_crossentropy"), tmp_path, y=y)


@pytest.mark.parametrize(("how", "words"), [("shuffle", "it is shuffled"), ("batch", "its elements are batches")])
def test_tf_data_that_is_shuffled_or_batched_is_refused(problem, how, words):
    import tensorflow as tf

    dataset = getattr(tf.data.Dataset.from_tensor_slices((problem.x, problem.y)), how)(10)
    for late in (dataset, dataset.map(lambda x, y: (x, y)), dataset.prefetch(1).cache()):
        with pytest.raises(ValueError, match=f"dataset: {words}"):
            with_ids(late)


class Batches(keras.utils.PyDataset):
    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return np.zeros((self.sizes[index], 4)), np.zeros(self.sizes[index])


def test_py_dataset_whose_rows_cannot_be_known_is_refused():
    class Reshuffled(Batches):
        def on_epoch_end(self):
            pass

    with pytest.raises(ValueError, match="x: Reshuffled has an on_epoch_end"):
        with_ids(Reshuffled([4, 4]))
    dataset = with_ids(Batches([4, 3, 4, 2]))
    assert dataset[3][0]["aum_sample_ids"].tolist() == [12, 13]
    with pytest.raises(ValueError, match="x: batch 1 has 3 rows, batch 0 has 4"):
        dataset[1]


def test_what_has_an_order_of_its_own_is_refused():
    from torch.utils.data import DataLoader, TensorDataset

    with pytest.raises(
        TypeError, match=r"x: DataLoader .*want the data set under it.*DataLoader\(with_ids\(dataset\)\)"
    ):
        with_ids(DataLoader(TensorDataset()))
    with pytest.raises(TypeError, match="x: generator"):
        with_ids(each for each in ())


def test_ids_that_do_not_go_with_the_arrays_are_refused():
    with pytest.raises(ValueError, match=r"sample_ids: shape \(2,\), want \(3,\)"):
        with_ids(np.zeros((3, 2)), np.arange(2))
    with pytest.raises(ValueError, match=r"x: arrays of \[2, 3\] rows"):
        with_ids([np.zeros((3, 2)), np.zeros((2, 2))])
    with pytest.raises(ValueError, match="sample_ids: given for a Batches"):
        with_ids(Batches([4]), np.arange(4))


def loaded_by(*lines):
    """Which frameworks a fresh interpreter has loaded after each line."""
    tell = f"print(*[each for each in {FRAMEWORKS} if each in sys.modules], sep=',')"
    code = "\n".join(["import sys", *(f"{line}\n{tell}" for line in lines)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    return [set(line.split(",")) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_import_loads_no_framework_but_what_keras_does():
    other = "torch" if BACKEND != "torch" else "tensorflow"  # Keras on torch brings JAX
    by_keras, by_us, by_both = loaded_by("import keras", "import aum.keras", f"import {other}")
    assert BACKEND in by_keras
    assert by_us == by_keras
    assert other not in by_us
    assert other in by_both  # so that it would have been seen
