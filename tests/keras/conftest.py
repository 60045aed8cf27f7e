"""Runs on the backend that KERAS_BACKEND names, with four CPU devices (JAX) or two (TensorFlow) to spread over."""

import os
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")  # read when JAX starts
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest

if keras.backend.backend() == "tensorflow":
    tf = sys.modules["tensorflow"]
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "feature(name, **not_on): a row of the table in docs/keras.md; not_on tells by backend why it cannot be",
    )


def pytest_collection_modifyitems(items):
    for item in items:
        mark = item.get_closest_marker("feature")
        reason = mark.kwargs.get(keras.backend.backend()) if mark else None
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def fresh():
    """What the last test left in Keras does not reach the next."""
    keras.utils.set_random_seed(0)
    yield
    keras.distribution.set_distribution(None)


class Problem:
    """Samples, labels, and a linear model of known margins that does not learn."""

    size, num_features, num_classes, epochs, batch_size = 50, 4, 3, 3, 16

    def __init__(self, scale=1.0):
        generator = np.random.default_rng(0)
        self.x = generator.normal(size=(self.size, self.num_features)).astype(np.float32)
        self.y = generator.integers(0, self.num_classes, self.size)
        self.weights = (scale * generator.normal(size=(self.num_features, self.num_classes))).astype(np.float32)

    @property
    def margins(self):
        logits = self.x.astype(np.float64) @ self.weights
        rows = np.arange(self.size)
        target_val = logits[rows, self.y]
        logits[rows, self.y] = -np.inf
        return target_val - logits.max(1)

    def dense(self, activation=None, **options):
        """The last layer, with the known weights once it is built."""
        return keras.layers.Dense(
            self.num_classes,
            activation,
            use_bias=False,
            kernel_initializer=keras.initializers.Constant(self.weights),
            **options,
        )

    def model(self, activation=None, **compiling):
        return self.compiled(keras.Sequential([keras.Input((self.num_features,)), self.dense(activation)]), **compiling)

    def compiled(self, model, from_logits=None, loss=None, learning_rate=0.0, **options):
        if loss is None:
            activation = getattr(model.layers[-1], "activation", None)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is not keras.activations.softmax)
        model.compile(keras.optimizers.SGD(learning_rate), loss, **options)
        return model

    def assert_right(self, totals, count=None, tolerance=1e-5):
        """Every sample was counted as often as it was seen, and its AUM is its own margin."""
        assert totals.sample_ids.tolist() == list(range(self.size))
        assert totals.counts.tolist() == [self.epochs if count is None else count] * self.size
        np.testing.assert_allclose(totals.aums, self.margins, rtol=tolerance, atol=tolerance)


@pytest.fixture
def problem():
    return Problem()
