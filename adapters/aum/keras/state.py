"""The state on the device: what each sample's margins add up to within one epoch, and what other scores need.

Within one epoch only, since float32 is all that every device has: the callback takes the sums home after each epoch,
into float64, and sets them back to zero. A sample's one margin of an epoch is then exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from aum_core import EpochSums
from aum_core.scores.epoch_sums import OF_SOFTMAX

if TYPE_CHECKING:
    from aum_core import Scores

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

    Where there are other scores, a second variable (N + 2, 1 + D) has the sum of the targets, which over the count is
    the label, since replicas can add up sums alone, and the columns that the scores need. Others (N + 2, C) have the
    softmax and the logits, where they need all of them.

    Parameters
    ----------
    num_samples : int
        N.
    scores : Scores, optional
        They tell what is to be measured beside the margins.
    num_classes : int, optional
        C; wanted where the scores need all of the softmax or the logits.
    """

    def __init__(self, num_samples: int, scores: Scores | None = None, num_classes: int | None = None) -> None:
        # float32 whatever the policy: half types would lose counts above 256
        dtype = "float64" if keras.config.floatx() == "float64" else "float32"
        super().__init__(name="aum_margin_sums", dtype=dtype)
        self._num_samples = num_samples
        self._sums = self.add_variable((num_samples + 2, 3), "zeros", dtype=dtype, name="sums")
        self._needs = None if scores is None else tuple(each for each in scores.needs if each != "margin")
        self._columns = self._softmax = self._logits = None
        if scores is not None and self._needs is not None:
            shape = num_samples + 2, 1 + len(self._needs)
            self._columns = self.add_variable(shape, "zeros", dtype=dtype, name="columns")
        if scores is not None and num_classes is not None:
            shape = num_samples + 2, num_classes
            if scores.need_softmax_sums:
                self._softmax = self.add_variable(shape, "zeros", dtype="float32", name="softmax")
            if scores.need_logits_sums:
                self._logits = self.add_variable(shape, "zeros", dtype="float32", name="logits")

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
        _add_rows(self._sums, rows, ops.stack([coarse, margin - coarse, ops.ones_like(margin)], axis=1))
        if self._columns is not None:
            self._measure_others(logits, targets, rows)

    def zero(self) -> None:
        """Begin an epoch."""
        for sums in (self._sums, self._columns, self._softmax, self._logits):
            if sums is not None:
                sums.assign(ops.zeros(sums.shape, sums.dtype))

    def bring_home(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Sums (N + 2,) in float64 and counts (N + 2,) in int64 of the epoch."""
        sums = _to_numpy(ops.convert_to_tensor(self._sums)).astype(np.float64)
        return sums[:, 0] + sums[:, 1], sums[:, 2].astype(np.int64)

    def bring_epoch_home(self, sums: np.ndarray[Any, Any], counts: np.ndarray[Any, Any], scores: Scores) -> EpochSums:
        """The epoch with what the other scores still need, given what `bring_home` gave.

        Raises
        ------
        ValueError
            Where a sample had several targets.
        """
        counts, left_out = counts[:-2], int(counts[-2:].sum())
        columns = _to_numpy(ops.convert_to_tensor(self._columns)).astype(np.float64)[:-2]
        by_name = dict(zip(self._needs or (), columns.T[1:], strict=True))
        labels = np.where(counts > 0, columns[:, 0] // np.maximum(counts, 1), -1).astype(np.int64)
        several = np.flatnonzero((counts > 0) & (labels * counts != columns[:, 0]))
        if several.size:
            raise ValueError(f"y: sample {several[0]} had several labels within one epoch; scores go with one label")
        softmax = _to_numpy(ops.convert_to_tensor(self._softmax))[:-2] if scores.need_softmax_sums else None
        logits = _to_numpy(ops.convert_to_tensor(self._logits))[:-2] if scores.need_logits_sums else None
        return EpochSums(counts, {"margin": sums[:-2], **by_name}, labels, softmax, logits, left_out)

    def _measure_others(self, logits: Any, targets: Any, rows: Any) -> None:
        """Add what the other scores need of a batch, at the rows at which its margins were added."""
        for sums in (self._softmax, self._logits):
            if sums is not None and logits.shape[1] != sums.shape[1]:
                raise ValueError(f"num_classes: {sums.shape[1]}, but the logits have {logits.shape[1]} columns")
        needs = self._needs or ()
        needs_softmax = self._softmax is not None or any(name in OF_SOFTMAX for name in needs)
        probabilities = ops.softmax(logits, axis=1) if needs_softmax else None
        targets = ops.clip(targets, 0, logits.shape[1] - 1)
        columns = [targets, *(_column(name, logits, targets, probabilities) for name in needs)]
        _add_rows(self._columns, rows, ops.stack([ops.cast(each, self.dtype) for each in columns], axis=1))
        if self._softmax is not None:
            _add_rows(self._softmax, rows, probabilities)
        if self._logits is not None:
            _add_rows(self._logits, rows, logits)


def _add_rows(variable: Any, rows: Any, values: Any) -> None:
    """Add values (B, D) to rows of a variable, in its place: Keras's own way copies all N rows at every step.

    But on JAX, where the step owns the variable and the compiler adds in its place.
    """
    values = ops.cast(values, variable.dtype)
    backend = keras.backend.backend()
    if backend == "torch":
        variable.value.index_add_(0, rows, values)
    elif backend == "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 # Keras has loaded it

        # by its handle a variable of a strategy is the replica's own; its methods refuse to scatter
        tf.raw_ops.ResourceScatterNdAdd(ref=variable.handle, indices=rows[:, None], updates=values)
    else:
        variable.assign(ops.scatter_update(variable, rows[:, None], values, reduction="add"))


def _column(name: str, logits: Any, targets: Any, probabilities: Any) -> Any:
    """A column (B,) of a batch, as `aum_core.epoch_sums.column` defines it; targets in [0, C)."""
    classes, targets = ops.arange(logits.shape[1])[None, :], targets[:, None]
    if name == "correct":
        own = ops.take_along_axis(logits, targets, axis=1)
        return ~ops.any(ops.where(classes < targets, logits >= own, logits > own), axis=1)
    own = ops.take_along_axis(probabilities, targets, axis=1)[:, 0]
    others = ops.where(classes == targets, 0.0, probabilities)
    if name == "confidence":
        return own
    if name == "softmax_margin":
        return own - ops.max(others, axis=1)
    if name == "error_norm":
        return ops.sqrt(ops.sum(ops.square(others), axis=1) + ops.square(1 - own))
    raise ValueError(f"scores: they need {name!r}, which this version cannot measure")


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
