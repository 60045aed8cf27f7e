"""The calculator for eager tensors: those on the CPU are seen by the NumPy engine as they are, without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # noqa: TID251 # a part of aum.tf

import aum_core
from aum._ranking import write_ranking
from aum.tf.batch import measured, widened_tensor
from aum.tf.replicas import require_eager
from aum_core import AUMRecord, Margins, compute_margins
from aum_core.detection import with_calculator
from aum_core.margins import MARGIN_FIELDS, TargetError, check_logits, check_targets, widened

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from aum_core.ids import SampleId
    from aum_core.records import RecordLog, SampleIds

__all__ = ["AUMCalculator", "TFBackend", "find_by_posterior", "find_mislabeled"]


class TFBackend:
    """Eager tensors for the engine; a `aum_core.Backend`.

    Examples
    --------
    >>> import tensorflow as tf
    >>> TFBackend().measure(tf.constant([[2.0, 0.5]]), tf.constant([0])).margin
    array([1.5], dtype=float32)
    """

    name = "tensorflow"

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Give a tensor on the host, strings as strs; see `aum_core.Backend.to_numpy`."""
        numpy = np.asarray(array)
        if isinstance(array, tf.Tensor) and array.dtype == tf.string:
            return np.array([each.decode() for each in numpy.reshape(-1)], object).reshape(numpy.shape)
        return numpy

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch on the device of its logits; see `aum_core.Backend.measure`."""
        if isinstance(logits, tf.Tensor) and not _is_on_host(logits):
            return _measure_on_device(logits, self.to_numpy(targets))
        return compute_margins(self.to_numpy(logits), self.to_numpy(targets), other_logit=other_logit)

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give the logits of a batch on the host; see `aum_core.Backend.logits`."""
        return widened(self.to_numpy(logits))


def _log_on_disk(sample_ids: SampleIds, save_dir: str | os.PathLike[str]) -> RecordLog:
    from aum.parquet import RecordsOnDisk  # noqa: PLC0415 # pyarrow is for those who keep records

    return RecordsOnDisk(sample_ids, save_dir=save_dir)


class AUMCalculator(aum_core.AUMCalculator):
    """Keeps the Area Under the Margin of every sample while a TensorFlow model trains eagerly.

    For the parameters see `aum_core.AUMCalculator`. Inside a `tf.function` use `AUMState`.

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
        """Measure a batch without making records of it; for its parameters see `aum_core.AUMCalculator.update`."""
        require_eager("accumulate")
        super().accumulate(logits, targets, sample_ids)


find_by_posterior = with_calculator(aum_core.find_by_posterior, AUMCalculator, "aum.tf")
find_mislabeled = with_calculator(
    aum_core.find_mislabeled,
    AUMCalculator,
    "aum.tf",
    notes="A training that measures with an `AUMState` ends with ``calculator.add_totals(state.to_totals())``.",
)


def _is_on_host(tensor: tf.Tensor) -> bool:
    return "CPU" in tensor.device


def _measure_on_device(logits: tf.Tensor, targets: NDArray[Any]) -> Margins:
    """Reduce logits where they are; four (B,) vectors come to the host."""
    shape = tuple(logits.shape)
    check_logits(shape, logits.dtype.name)
    check_targets(targets.shape, targets.dtype, shape)
    num_rows, num_classes = shape
    targets = targets.reshape(num_rows).astype(np.int64)
    wrong = np.flatnonzero((targets < 0) | (targets >= num_classes))
    if wrong.size:
        raise TargetError(int(wrong[0]), int(targets[wrong[0]]), num_classes)
    margins = measured(widened_tensor(logits), tf.constant(targets), other_logit=True)
    return Margins(targets, *(getattr(margins, name).numpy() for name in MARGIN_FIELDS[1:]))
