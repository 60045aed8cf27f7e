"""The network that `aum find` trains, and the features as it likes them. Every choice here was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.neural_network import MLPClassifier  # noqa: TID251 # the command's classifier
from sklearn.preprocessing import StandardScaler  # noqa: TID251 # as above

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BATCH_SIZE", "CHOICES", "add_noise", "network", "scaled"]

BATCH_SIZE = 64
_LIMIT = 3.0
_LENGTH = 4.0
_NOISE = 0.5
_ROWS = 4096
CHOICES = {
    "scaling": f"standardised, limited to +-{_LIMIT:g}, times min(1, {_LENGTH:g} / sqrt(features))",
    "noise_per_batch": _NOISE,
}
"""What is done to the features, as ``run.json`` has it."""


def network() -> Any:
    """A small network, trained fast: a high learning rate keeps it from learning wrong labels by heart.

    With a single layer of 64 it found as many wrong labels, and flagged more right ones.
    """
    # rows come in a random order already
    return MLPClassifier(
        hidden_layer_sizes=(64, 64),
        solver="sgd",
        learning_rate_init=0.2,
        momentum=0.9,
        nesterovs_momentum=True,
        shuffle=False,
    )


def scaled(features: NDArray[Any]) -> NDArray[np.float32]:
    """Standardise (N, F) features and limit them, so that neither units nor outliers decide.

    Gives zeros for a constant feature. Float32 features are overwritten, for want of a reason to hold them twice.
    """
    blocks = [slice(start, start + _ROWS) for start in range(0, len(features), _ROWS)]
    # by their largest first, or the squares of very large or small numbers would leave the range of floats
    largest = np.max([np.abs(features[block].astype(np.float64)).max(axis=0) for block in blocks], axis=0)
    largest[largest == 0] = 1.0
    scaler = StandardScaler()
    for block in blocks:  # in float64: float32 sums of large numbers would lose what tells samples apart
        scaler.partial_fit(features[block] / largest)
    result: NDArray[np.float32] = features if features.dtype == np.float32 else np.empty(features.shape, np.float32)
    factor = _factor(features.shape[1])
    for block in blocks:
        standard = scaler.transform(features[block] / largest)
        result[block] = standard.clip(-_LIMIT, _LIMIT) * factor
    return result


def _factor(num_features: int) -> float:
    # the step that a layer takes grows with the length of its input: unscaled, 784 pixels blow the network up
    return min(1.0, _LENGTH / float(np.sqrt(num_features)))


def add_noise(features: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """Blur a batch: half a standard deviation makes single samples hard to learn by heart, and classes hardly."""
    noise = generator.standard_normal(features.shape, dtype=np.float32)
    noise *= _NOISE * _factor(features.shape[1])
    noise += features
    return noise
