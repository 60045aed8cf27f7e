"""A batch inside the step: what can be checked of it while it is traced, and its margins.

In come the user's tensors, out goes a `CountedBatch`. It changes no variable, and never raises while a step runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf  # noqa: TID251 # a part of aum.tf

from aum_core.margins import Margins, check_logits, check_targets

__all__ = ["CountedBatch", "checked_batch", "counted_batch", "measured", "widened_tensor"]


@dataclass(frozen=True)
class CountedBatch:
    """What a batch (B,) adds up to.

    Attributes
    ----------
    logits : tensor of shape (B, C)
    margins : Margins of tensors of shape (B,)
        Their targets are in [0, C), though they may not be theirs in rows that do not count.
    counted : tensor of shape (B,), bool
        The rows that count.
    places : tensor of shape (B, 1), int64
        The sample of each row; 0 in rows that do not count.
    nonfinite, invalid : tensor of shape (), int64
        How many rows were left out, and why.
    """

    logits: tf.Tensor
    margins: Margins
    counted: tf.Tensor
    places: tf.Tensor
    nonfinite: tf.Tensor
    invalid: tf.Tensor


def counted_batch(
    num_samples: int,
    logits: tf.Tensor,
    targets: tf.Tensor,
    sample_ids: tf.Tensor,
    where: tf.Tensor,
    *,
    other_logit: bool = False,
) -> CountedBatch:
    """Measure a batch that `checked_batch` gave, and tell which of its rows count.

    Parameters
    ----------
    num_samples : int
        N.
    logits : tensor of shape (B, C), float32 or float64
    targets, sample_ids : tensor of shape (B,), int64
    where : tensor of shape (B,), bool
    other_logit : bool, default False
        Whether anybody will look at `Margins.other_logit`.
    """
    num_classes = tf.shape(logits, tf.int64)[1]
    margins = measured(logits, tf.clip_by_value(targets, 0, num_classes - 1), other_logit=other_logit)
    valid = _in_range(sample_ids, num_samples) & _in_range(targets, num_classes)
    finite = tf.math.is_finite(margins.margin)
    counted = where & valid & finite
    return CountedBatch(
        logits,
        margins,
        counted,
        tf.where(counted, sample_ids, 0)[:, tf.newaxis],
        nonfinite=tf.math.count_nonzero(where & valid & ~finite),
        invalid=tf.math.count_nonzero(where & ~valid),
    )


def checked_batch(logits: Any, targets: Any, sample_ids: Any, where: Any) -> tuple[Any, Any, Any, Any]:
    """Check dtypes and shapes as far as they are known; give (B, C) logits, (B,) int64 targets and ids, (B,) bools."""
    logits, targets, sample_ids = (tf.convert_to_tensor(each) for each in (logits, targets, sample_ids))
    where = tf.ones_like(sample_ids, tf.bool) if where is None else tf.convert_to_tensor(where)
    tensors = {"logits": logits, "targets": targets, "sample_ids": sample_ids, "where": where}
    shapes = {name: _known_shape(name, tensor) for name, tensor in tensors.items()}
    check_logits(shapes["logits"], logits.dtype.name)
    num_rows = next((shape[0] for shape in shapes.values() if shape and shape[0] is not None), None)
    check_targets(shapes["targets"], targets.dtype.name, (num_rows, shapes["logits"][1]))
    if not sample_ids.dtype.is_integer:
        raise TypeError(
            f"sample_ids: dtype {sample_ids.dtype.name}, want integers; for strs give their positions here, and the "
            "strs to to_totals(sample_ids)"
        )
    if where.dtype != tf.bool:
        raise TypeError(f"where: dtype {where.dtype.name}, want bool")
    for name in ("sample_ids", "where"):
        if not tensors[name].shape.is_compatible_with((num_rows,)):
            raise ValueError(
                f"{name}: shape {tensors[name].shape}, want (B,) to go with logits of shape {logits.shape}"
            )
    # lengths that are not known before the step runs are compared by this stack: the operations that follow it would
    # repeat a single row as often as needed, and XLA's gather would not mind either
    columns = [tf.reshape(tf.cast(each, tf.int64), [-1]) for each in (targets, sample_ids, where)]
    rows = tf.stack([*columns, tf.zeros(tf.shape(logits)[:1], tf.int64)])
    return widened_tensor(tf.stop_gradient(logits)), rows[0], rows[1], tf.cast(rows[2], tf.bool)


def _known_shape(name: str, tensor: tf.Tensor) -> tuple[int | None, ...]:
    """The sizes of a tensor, None for those that are known only when the step runs."""
    if tensor.shape.rank is None:
        raise ValueError(f"{name}: shape unknown, want at least its rank; tf.ensure_shape tells it")
    return tuple(tensor.shape)


def _in_range(values: tf.Tensor, end: Any) -> tf.Tensor:
    return (values >= 0) & (values < end)


def widened_tensor(logits: tf.Tensor) -> tf.Tensor:
    """Give logits in the dtype of their margins."""
    return tf.cast(logits, tf.float32) if logits.dtype.size == 2 else logits


def measured(logits: tf.Tensor, targets: tf.Tensor, *, other_logit: bool) -> Margins:
    """Measure logits (B, C) of targets (B,) in [0, C), where they are; as `aum_core.compute_margins`.

    Without `other_logit` the other value is inf where a logit is NaN; the margin is not finite either way.
    """
    classes = tf.range(tf.shape(logits)[1])
    is_target = classes == tf.cast(targets, tf.int32)[:, tf.newaxis]
    infinity = tf.constant(np.inf, logits.dtype)
    # NaN becomes inf: compiled by XLA, a maximum passes over NaN in silence
    others = tf.where(is_target, -infinity, tf.where(tf.math.is_nan(logits), infinity, logits))
    other, other_val = -tf.ones_like(targets), tf.reduce_max(others, axis=1)
    if other_logit:
        # the lowest class that has it; argmax leaves open which of several
        lowest = tf.reduce_min(tf.where(others == other_val[:, tf.newaxis], classes, tf.int32.max), axis=1)
        other = tf.cast(lowest, tf.int64)
        # it is the target only where all others are -inf, as the mask is, and the target is class 0
        other = tf.where(other == targets, tf.ones_like(other), other)
        other_val = tf.gather(logits, other, batch_dims=1)
    target_val = tf.gather(logits, targets, batch_dims=1)
    return Margins(targets, target_val, other, other_val, target_val - other_val)
