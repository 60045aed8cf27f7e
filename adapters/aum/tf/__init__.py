"""AUM for TensorFlow: state that lives in variables and is updated inside the step, and ids for `tf.data`.

A `tf.function` runs its Python once, while it is traced, and tensors have no values then: what keeps books on the host
cannot be called from it. `AUMState` is made of TensorFlow operations only, so its update compiles with the step; so is
`EpochState`, for the other scores and the noise posterior.
`AUMCalculator` is for eager tensors: those on the CPU are seen by the NumPy engine as they are, without a copy.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import aum_core
from aum_core import AUMRecord, EpochSums, Findings, Margins, ThresholdPlan, Totals, compute_margins
from aum_core.margins import TargetError, check_logits, check_targets, widened

try:
    import tensorflow as tf  # noqa: TID251 # the one module that may
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError("aum.tf needs TensorFlow: pip install 'aum[tf]'", name="tensorflow") from error

from aum._ranking import write_ranking
from aum.tf.batch import others_of, stand_in, widened_tensor
from aum.tf.data import with_index
from aum.tf.epochs import EpochState
from aum.tf.state import AUMState, require_eager

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from aum_core.ids import SampleId
    from aum_core.records import RecordLog, SampleIds

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "AUMState",
    "EpochState",
    "EpochSums",
    "Findings",
    "TFBackend",
    "ThresholdPlan",
    "Totals",
    "find_by_posterior",
    "find_mislabeled",
    "with_index",
]


def __getattr__(name: str) -> object:
    if name != "AUMCallback":
        raise AttributeError(f"module 'aum.tf' has no attribute {name!r}")
    callback: object = importlib.import_module("aum.keras").AUMCallback  # Keras is for those who call fit
    return callback


class TFBackend:
    """Eager tensors for the engine."""

    name = "tensorflow"

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Give a tensor on the host; a view of its memory where it is there already. Strings become strs."""
        numpy = np.asarray(array)
        if isinstance(array, tf.Tensor) and array.dtype == tf.string:
            return np.array([each.decode() for each in numpy.reshape(-1)], object).reshape(numpy.shape)
        return numpy

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch on the device of its logits."""
        if isinstance(logits, tf.Tensor) and not _is_on_host(logits):
            return _measure_on_device(logits, self.to_numpy(targets))
        return compute_margins(self.to_numpy(logits), self.to_numpy(targets), other_logit=other_logit)

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give the logits of a batch on the host, half types widened."""
        return widened(self.to_numpy(logits))


def _log_on_disk(sample_ids: SampleIds, save_dir: str | os.PathLike[str]) -> RecordLog:
    from aum.parquet import RecordsOnDisk  # noqa: PLC0415 # pyarrow is for those who keep records

    return RecordsOnDisk(sample_ids, save_dir=save_dir)


class AUMCalculator(aum_core.AUMCalculator):
    """Keeps the Area Under the Margin of every sample while a TensorFlow model trains eagerly.

    As `aum_core.AUMCalculator`, whose docstring has the parameters. Inside a `tf.function` use `AUMState`.

    Examples
    --------
    >>> import tempfile
    >>> import tensorflow as tf
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), compressed=True)
    >>> logits = tf.constant([[2.0, 0.5], [1.0, 3.0]])
    >>> records = calculator.update(logits, tf.constant([0, 0]), sample_ids=["cat.png", "dog.png"])
    >>> records["dog.png"].margin
    -2.0
    """

    _make_backend = TFBackend
    _make_log = staticmethod(_log_on_disk)
    _write_ranking = staticmethod(write_ranking)

    def update(self, logits: Any, targets: Any, sample_ids: Any) -> dict[SampleId, AUMRecord]:
        """Measure a batch and give its records; see `aum_core.AUMCalculator.update`."""
        require_eager("update")
        return super().update(logits, targets, sample_ids)

    def accumulate(self, logits: Any, targets: Any, sample_ids: Any) -> None:
        """Measure a batch without making records of it; see `aum_core.AUMCalculator.accumulate`."""
        require_eager("accumulate")
        super().accumulate(logits, targets, sample_ids)


find_by_posterior = partial(aum_core.find_by_posterior, calculator=AUMCalculator)
"""`aum_core.find_by_posterior` with calculators of this framework."""

find_mislabeled = partial(aum_core.find_mislabeled, calculator=AUMCalculator)
"""`aum_core.find_mislabeled` with calculators that take eager tensors.

A training function that measures with an `AUMState` ends with ``calculator.add_totals(state.to_totals())``.
"""


def _is_on_host(tensor: tf.Tensor) -> bool:
    return "CPU" in tensor.device


def _measure_on_device(logits: tf.Tensor, targets: NDArray[Any]) -> Margins:
    """Reduce logits where they are; four (B,) vectors come to the host."""
    form = stand_in(logits, 1)
    check_logits(form)
    check_targets(targets, form.shape)
    num_rows, num_classes = form.shape
    targets = targets.reshape(num_rows).astype(np.int64)
    wrong = np.flatnonzero((targets < 0) | (targets >= num_classes))
    if wrong.size:
        raise TargetError(int(wrong[0]), int(targets[wrong[0]]), num_classes)
    wide = widened_tensor(logits)
    others = others_of(wide, tf.constant(targets))
    largest = others == tf.reduce_max(others, axis=1, keepdims=True)
    columns = tf.range(num_classes, dtype=tf.int64)
    # a target is its own rival only where all others are -inf too: it is put last
    rank = tf.where(columns == targets[:, np.newaxis], num_classes, columns)
    other_logit = tf.reduce_min(tf.where(largest, rank, num_classes), axis=1)
    target_val, other_val = (tf.gather(wide, each, batch_dims=1) for each in (tf.constant(targets), other_logit))
    return Margins(*(each.numpy() for each in (target_val, other_logit, other_val, target_val - other_val)))
