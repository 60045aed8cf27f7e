"""A batch inside the step: what can be checked of it while it is traced, and its margins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # noqa: TID251 # a part of aum.tf

from aum_core.margins import check_logits, check_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CountedBatch", "checked_batch", "counted_batch", "others_of", "stand_in", "widened_tensor"]


@dataclass(frozen=True)
class CountedBatch:
    """What a batch (B,) adds up to.

    Attributes
    ----------
    logits : tensor of shape (B, C)
    targets : tensor of shape (B,), int64
        In [0, C), though it may not be theirs in rows that do not count.
    margin : tensor of shape (B,)
    counted : tensor of shape (B,), bool
        The rows that count.
    places : tensor of shape (B, 1), int64
        The sample of each row; 0 in rows that do not count.
    nonfinite, invalid : tensor of shape (), int64
        How many rows were left out, and why.
    """

    logits: tf.Tensor
    targets: tf.Tensor
    margin: tf.Tensor
    counted: tf.Tensor
    places: tf.Tensor
    nonfinite: tf.Tensor
    invalid: tf.Tensor


def counted_batch(
    num_samples: int, logits: tf.Tensor, targets: tf.Tensor, sample_ids: tf.Tensor, where: tf.Tensor
) -> CountedBatch:
    """Measure a batch that `checked_batch` gave, and tell which of its rows count."""
    num_classes = tf.shape(logits, tf.int64)[1]
    inside = tf.clip_by_value(targets, 0, num_classes - 1)
    margin = _margins(logits, inside)
    valid = _in_range(sample_ids, num_samples) & _in_range(targets, num_classes)
    finite = tf.math.is_finite(margin)
    counted = where & valid & finite
    return CountedBatch(
        logits,
        inside,
        margin,
        counted,
        tf.where(counted, sample_ids, 0)[:, tf.newaxis],
        nonfinite=tf.math.count_nonzero(where & valid & ~finite),
        invalid=tf.math.count_nonzero(where & ~valid),
    )


def checked_batch(logits: Any, targets: Any, sample_ids: Any, where: Any) -> tuple[Any, Any, Any, Any]:
    """Check dtypes and shapes as far as they are known; give (B, C) logits, (B,) int64 targets and ids, (B,) bools."""
    logits, targets, sample_ids = (tf.convert_to_tensor(each) for each in (logits, targets, sample_ids))
    where = tf.ones_like(sample_ids, tf.bool) if where is None else tf.convert_to_tensor(where)
    num_rows = _num_rows(logits=logits, targets=targets, sample_ids=sample_ids, where=where)
    form = stand_in(logits, num_rows)
    check_logits(form)
    check_targets(stand_in(targets, num_rows), form.shape)
    if not sample_ids.dtype.is_integer:
        raise TypeError(
            f"sample_ids: dtype {sample_ids.dtype.name}, want integers; for strs give their positions here, and the "
            "strs to to_totals(sample_ids)"
        )
    if where.dtype != tf.bool:
        raise TypeError(f"where: dtype {where.dtype.name}, want bool")
    for name, each in (("sample_ids", sample_ids), ("where", where)):
        if stand_in(each, num_rows).shape != (num_rows,):
            raise ValueError(f"{name}: shape {each.shape}, want (B,) to go with logits of shape {logits.shape}")
    # lengths that are not known before the step runs are compared by this stack: the operations that follow it would
    # repeat a single row as often as needed, and XLA's gather would not mind either
    columns = [tf.reshape(tf.cast(each, tf.int64), [-1]) for each in (targets, sample_ids, where)]
    rows = tf.stack([*columns, tf.zeros(tf.shape(logits)[:1], tf.int64)])
    return widened_tensor(tf.stop_gradient(logits)), rows[0], rows[1], tf.cast(rows[2], tf.bool)


def _num_rows(**tensors: tf.Tensor) -> int:
    """B, or 1 where no shape tells it."""
    for name, each in tensors.items():
        if each.shape.rank is None:
            raise ValueError(f"{name}: shape unknown, want at least its rank; tf.ensure_shape tells it")
    known = [each.shape[0] for each in tensors.values() if each.shape.rank and each.shape[0] is not None]
    return int(known[0]) if known else 1


def stand_in(tensor: tf.Tensor, num_rows: int) -> NDArray[Any]:
    """An array of the same form that holds one number, for the engine's checks; unknown sizes are ones that fit."""
    shape = [size if size is not None else (num_rows, 2)[axis > 0] for axis, size in enumerate(tensor.shape)]
    return np.broadcast_to(np.zeros((), tensor.dtype.as_numpy_dtype), shape)


def _in_range(values: tf.Tensor, end: Any) -> tf.Tensor:
    return (values >= 0) & (values < end)


def widened_tensor(logits: tf.Tensor) -> tf.Tensor:
    return tf.cast(logits, tf.float32) if logits.dtype.size == 2 else logits


def others_of(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Logits with the target's masked. NaN becomes inf: compiled by XLA, a maximum passes over NaN in silence."""
    masked = tf.one_hot(targets, tf.shape(logits)[1], on_value=True, off_value=False)
    infinity = tf.constant(np.inf, logits.dtype)
    return tf.where(masked, -infinity, tf.where(tf.math.is_nan(logits), infinity, logits))


def _margins(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Margins (B,) of targets in [0, C); not finite where they should not count."""
    return tf.gather(logits, targets, batch_dims=1) - tf.reduce_max(others_of(logits, targets), axis=1)
