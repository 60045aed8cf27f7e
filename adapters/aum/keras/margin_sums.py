"""The state on the device: what each sample's margins add up to within one epoch.

Within one epoch only, since float32 is all that every device has: the callback takes the sums home after each epoch,
into float64, and sets them back to zero. A sample's one margin of an epoch is then exact.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["MarginSums"]

_GRID, _LARGE = 16.0, 2.0**20


class MarginSums(keras.metrics.Metric):
    """Sums and counts of margins by sample id, (N + 2, 3): coarse sum, fine sum, count.

    Row N counts what is left out because its id or target is out of range, row N + 1 what has no finite margin.

    A metric, because Keras carries the variables of metrics through every kind of step, adds them up over the replicas
    of a strategy, and keeps them out of the weights: restoring the best weights does not roll them back. `reset_state`
    does nothing, since Keras resets metrics for validation too, and `result` has nothing for the logs.

    A margin is added as a multiple of 1/16 and the rest of it: up to 2**20 the first sum is exact, and the second is so
    small that its rounding does not matter. So an epoch that goes through the data many times is exact to float64's
    needs as well.
    """

    def __init__(self, num_samples: int) -> None:
        # float32 whatever the policy: half types would lose counts above 256
        dtype = "float64" if keras.config.floatx() == "float64" else "float32"
        super().__init__(name="aum_margin_sums", dtype=dtype)
        self._num_samples = num_samples
        self._sums = self.add_variable((num_samples + 2, 3), "zeros", dtype=dtype, name="sums")

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: a training step of the user's own may update all metrics of the model with (y, y_pred)."""

    def reset_state(self) -> None:
        """Do nothing: see `zero`."""

    def result(self) -> dict[str, Any]:
        """Nothing for the logs of a step."""
        return {}

    def measure(self, logits: Any, y: Any, sample_ids: Any) -> None:
        """Add the margins of a batch, as a part of the step that is being traced.

        Parameters
        ----------
        logits : tensor of shape (B, C), or (B, 1) or (B,) for a binary model's z, whose two logits are [0, z]
        y : tensor of shape (B,), (B, 1) or one-hot (B, C)
        sample_ids : tensor of shape (B,), integers
        """
        logits = _two_dimensional(ops.stop_gradient(logits))
        logits = ops.cast(
            logits, "float64" if keras.backend.standardize_dtype(logits.dtype) == "float64" else "float32"
        )
        targets = _class_indices(y, logits.shape)
        margin = ops.cast(_margin(logits, targets), self.dtype)
        ids = ops.cast(ops.reshape(sample_ids, (-1,)), "int32")
        valid = (ids >= 0) & (ids < self._num_samples) & (targets >= 0) & (targets < logits.shape[1])
        finite = ops.isfinite(margin)
        rows = ops.where(valid, ops.where(finite, ids, self._num_samples + 1), self._num_samples)
        margin = ops.where(valid & finite, margin, 0.0)
        coarse = ops.where(ops.abs(margin) < _LARGE, ops.round(margin * _GRID) / _GRID, margin)
        columns = ops.stack([coarse, margin - coarse, ops.ones_like(margin)], axis=1)
        if keras.backend.backend() == "torch":  # Keras would copy all N rows at every step
            self._sums.value.index_add_(0, rows, columns)
        else:
            self._sums.assign(ops.scatter_update(self._sums, rows[:, None], columns, reduction="add"))

    def zero(self) -> None:
        """Begin an epoch."""
        self._sums.assign(ops.zeros(self._sums.shape, self._sums.dtype))

    def bring_home(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Sums (N + 2,) in float64 and counts (N + 2,) in int64 of the epoch."""
        sums = _to_numpy(ops.convert_to_tensor(self._sums)).astype(np.float64)
        return sums[:, 0] + sums[:, 1], sums[:, 2].astype(np.int64)


def _two_dimensional(logits: Any) -> Any:
    if len(logits.shape) == 1:
        logits = logits[:, None]
    if len(logits.shape) != 2:
        raise ValueError(f"y_pred: shape {tuple(logits.shape)}, want (B, C): a row per sample, a column per class")
    if logits.shape[1] == 1:
        return ops.concatenate([ops.zeros_like(logits), logits], axis=1)
    return logits


def _class_indices(y: Any, shape: tuple[Any, ...]) -> Any:
    """Targets (B,) int32 from indices or one-hot rows; -1 for a row of zeros, which is padding."""
    num_classes = shape[1]
    y = ops.convert_to_tensor(y)
    if len(y.shape) == 1 or (len(y.shape) == 2 and y.shape[1] == 1):
        return ops.cast(ops.reshape(y, (-1,)), "int32")
    if len(y.shape) == 2 and y.shape[1] == num_classes:
        return ops.where(ops.max(y, axis=1) > 0, ops.cast(ops.argmax(y, axis=1), "int32"), -1)
    raise ValueError(
        f"y: shape {tuple(y.shape)}, want class indices (B,) or one-hot rows (B, {num_classes}) to go with the model's "
        f"output of shape {tuple(shape)}"
    )


def _margin(logits: Any, targets: Any) -> Any:
    """The logit of the target minus the largest other one, (B,); anything where the target is out of range."""
    inside = ops.clip(targets, 0, logits.shape[1] - 1)[:, None]
    target_val = ops.take_along_axis(logits, inside, axis=1)[:, 0]
    others = ops.where(ops.arange(logits.shape[1])[None, :] == inside, -float("inf"), logits)
    return target_val - ops.max(others, axis=1)


def _to_numpy(tensor: Any) -> Any:
    # Keras's own conversion goes a way that NumPy 2 warns of, for the tensors of TensorFlow and PyTorch
    backend = keras.backend.backend()
    if backend == "torch":
        return tensor.numpy(force=True)
    return tensor.numpy() if backend == "tensorflow" else np.asarray(tensor)
