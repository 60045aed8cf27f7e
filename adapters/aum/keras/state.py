"""The state on the device: what each sample's margins add up to within one epoch, and what other scores need.

In come the logits of a training step, out go NumPy arrays once an epoch. It never keeps more than one epoch, since
float32 is all that every device has: the callback takes the sums home after each, into float64, and sets them back to
zero. A sample's one margin of an epoch is then exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from aum_core import EpochSums, Margins
from aum_core.scores.needs import columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core import Needs

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
    needs : Needs, optional
        What other scores need beside the margins; None where there are none.
    num_classes : int, optional
        C; wanted where all of the softmax or the logits are needed.
    """

    def __init__(self, num_samples: int, needs: Needs | None = None, num_classes: int | None = None) -> None:
        # float32 whatever the policy: half types would lose counts above 256
        dtype = "float64" if keras.config.floatx() == "float64" else "float32"
        super().__init__(name="aum_margin_sums", dtype=dtype)
        self._num_samples, self._needs = num_samples, needs
        self._sums = self._zeros("sums", 3, dtype)
        self._columns = self._softmax = self._logits = None
        if needs is not None:
            self._columns = self._zeros("columns", 1 + len(needs.columns), dtype)
            self._softmax = self._zeros("softmax", num_classes) if needs.softmax else None
            self._logits = self._zeros("logits", num_classes) if needs.logits else None

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

        Raises
        ------
        ValueError
            Where shapes do not fit.
        """
        logits = _two_dimensional(ops.stop_gradient(logits))
        is_double = keras.backend.standardize_dtype(logits.dtype) == "float64"
        logits = ops.cast(logits, "float64" if is_double else "float32")
        targets = _class_indices(y, logits.shape)
        margins = _measured(logits, targets, other_logit=self._needs is not None and self._needs.uses_other_logit)
        margin = ops.cast(margins.margin, self.dtype)
        ids = ops.cast(ops.reshape(sample_ids, (-1,)), "int32")
        valid = (ids >= 0) & (ids < self._num_samples) & (targets >= 0) & (targets < logits.shape[1])
        finite = ops.isfinite(margin)
        rows = ops.where(valid, ops.where(finite, ids, self._num_samples + 1), self._num_samples)
        margin = ops.where(valid & finite, margin, 0.0)
        # float32 has no sixteenths above that: all of a larger margin goes into the first sum
        coarse = ops.where(ops.abs(margin) < _LARGE, ops.round(margin * _GRID) / _GRID, margin)
        _add_rows(self._sums, rows, ops.stack([coarse, margin - coarse, ops.ones_like(margin)], axis=1))
        if self._needs is not None:
            self._measure_others(self._needs, logits, margins, rows)

    def zero(self) -> None:
        """Begin an epoch."""
        for sums in (self._sums, self._columns, self._softmax, self._logits):
            if sums is not None:
                sums.assign(ops.zeros(sums.shape, sums.dtype))

    def bring_home(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Bring the margins of the epoch home.

        Returns
        -------
        sums : ndarray of shape (N,), float64
        counts : ndarray of shape (N,), int64
        left_out : ndarray of shape (2,), int64
            The rows with an id or a target out of range, and those without a finite margin.
        """
        sums = _to_numpy(self._sums).astype(np.float64)
        counts = sums[:, 2].astype(np.int64)
        return sums[:-2, 0] + sums[:-2, 1], counts[:-2], counts[-2:]

    def epoch(
        self, sums: NDArray[np.float64], counts: NDArray[np.int64], left_out: NDArray[np.int64], needs: Needs
    ) -> EpochSums:
        """Bring home what the other scores need of the epoch as well.

        Parameters
        ----------
        sums, counts, left_out
            What `bring_home` gave.
        needs : Needs
            What is needed by now: softmax and logits that are needed no more stay on the device.

        Raises
        ------
        ValueError
            Where a sample had several targets.
        """
        targets, *own = _to_numpy(self._columns).astype(np.float64)[:-2].T
        by_name = dict(zip(needs.columns, own, strict=True))
        labels = np.where(counts > 0, targets // np.maximum(counts, 1), -1).astype(np.int64)
        several = np.flatnonzero((counts > 0) & (labels * counts != targets))
        if several.size:
            raise ValueError(f"y: sample {several[0]} had several labels within one epoch; scores go with one label")
        softmax = _to_numpy(self._softmax)[:-2] if needs.softmax else None
        logits = _to_numpy(self._logits)[:-2] if needs.logits else None
        return EpochSums(counts, {"margin": sums, **by_name}, labels, softmax, logits, int(left_out.sum()))

    def _zeros(self, name: str, width: int | None, dtype: str = "float32") -> Any:
        return self.add_variable((self._num_samples + 2, width), "zeros", dtype=dtype, name=name)

    def _measure_others(self, needs: Needs, logits: Any, margins: Margins, rows: Any) -> None:
        """Add what the other scores need of a batch, at the rows at which its margins were added."""
        for sums in (self._softmax, self._logits):
            if sums is not None and logits.shape[1] != sums.shape[1]:
                raise ValueError(f"num_classes: {sums.shape[1]}, but the logits have {logits.shape[1]} columns")
        softmax = ops.softmax(logits, axis=1) if needs.uses_softmax else None
        own = columns(ops, needs.columns, margins, softmax)
        added = [margins.target_logit, *(own[name] for name in needs.columns)]
        _add_rows(self._columns, rows, ops.stack([ops.cast(each, self.dtype) for each in added], axis=1))
        if self._softmax is not None:
            _add_rows(self._softmax, rows, softmax)
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


def _measured(logits: Any, targets: Any, *, other_logit: bool) -> Margins:
    """The margins (B,) of a batch; where a target is out of range, those of the nearest class."""
    inside = ops.clip(targets, 0, logits.shape[1] - 1)
    target_val = ops.take_along_axis(logits, inside[:, None], axis=1)[:, 0]
    others = ops.where(ops.arange(logits.shape[1])[None, :] == inside[:, None], -float("inf"), logits)
    other = ops.argmax(others, axis=1) if other_logit else ops.full_like(inside, -1)
    other_val = ops.max(others, axis=1)
    return Margins(inside, target_val, other, other_val, target_val - other_val)


def _to_numpy(variable: Any) -> Any:
    # Keras's own conversion goes a way that NumPy 2 warns of, for the tensors of TensorFlow and PyTorch
    tensor, backend = ops.convert_to_tensor(variable), keras.backend.backend()
    if backend == "torch":
        return tensor.numpy(force=True)
    return tensor.numpy() if backend == "tensorflow" else np.asarray(tensor)
