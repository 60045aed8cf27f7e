"""One epoch in variables: what the other scores and the noise posterior need beside the margins, added up by sample."""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # noqa: TID251 # a part of aum.tf

from aum.tf.batch import CountedBatch, checked_batch, counted_batch, others_of
from aum.tf.state import Sums, require_eager
from aum_core import EpochSums
from aum_core.scores.epoch_sums import OF_SOFTMAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from aum_core import Scores

__all__ = ["EpochState"]


class EpochState(Sums):
    """What one epoch brings by sample, in variables: as `AUMState`, with what the other scores need.

    Strategies, checkpoints and compiled steps: as with `AUMState`. A checkpoint within an epoch goes on within it; save
    the calculator's books yourself.

    Parameters
    ----------
    num_samples : int
        N; sample ids are in [0, N).
    num_classes : int
        C, the columns of the logits.
    scores : Scores
        Those of the calculator that gets the epochs, ``calculator.scores``: they tell what is to be measured. What
        nobody asked for has no variable, and no part in the step.
    name : str, optional
        Of the module.

    Attributes
    ----------
    total, count, nonfinite, invalid : tf.Variable
        As in `AUMState`, of one epoch.
    target : tf.Variable of shape (N,), int64
        Sum of the targets, which over `count` is the given label: replicas can add up sums alone.
    columns : tf.Variable of shape (N, D), float64
        Sums of what the scores need beside the margin; where they need it.
    softmax, logits : tf.Variable of shape (N, C), float32
        Sums of the softmax and of the logits; where the scores need all of them.

    Examples
    --------
    >>> import tempfile
    >>> import tensorflow as tf
    >>> from aum.tf import AUMCalculator
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), scores=["confidence"])
    >>> state = EpochState(num_samples=4, num_classes=2, scores=calculator.scores)
    >>> step = tf.function(state.update)
    >>> for epoch in range(2):
    ...     step(tf.constant([[0.0, 0.0], [1.0, 3.0]]), tf.constant([0, 0]), tf.constant([3, 1]))
    ...     calculator.add_epoch(state.end_epoch())
    >>> calculator.totals.sample_ids, calculator.totals.counts, calculator.scores["confidence"].round(3)
    (array([1, 3]), array([2, 2]), array([0.119, 0.5  ]))
    """

    target: tf.Variable
    columns: tf.Variable
    softmax: tf.Variable
    logits: tf.Variable

    def __init__(self, num_samples: int, num_classes: int, scores: Scores, name: str | None = None) -> None:
        size = operator.index(num_classes)
        if size < 2:
            raise ValueError(f"num_classes: {size}, want at least 2")
        self._needs = tuple(each for each in scores.needs if each != "margin")
        self._num_classes = size
        # not the scores themselves, a mapping of which tf.Module would look at all values
        self._matrices: Callable[[], list[str]] = partial(_needed_matrices, scores)
        self._has_matrices = tuple(self._matrices())
        variables: dict[str, tuple[tuple[int, ...], Any]] = {"target": ((num_samples,), tf.int64)}
        if self._needs:
            variables["columns"] = (num_samples, len(self._needs)), tf.float64
        variables |= dict.fromkeys(self._has_matrices, ((num_samples, size), tf.float32))
        super().__init__(num_samples, variables, name)
        self._zero = self.on_all_replicas(self._zero_replica)

    def update(self, logits: Any, targets: Any, sample_ids: Any, where: Any = None) -> None:
        """Measure a batch; call it with the logits of the training forward pass. All as in `AUMState.update`.

        O(B) beside the work on the logits, whatever N is; O(B C) where softmax or logits are summed up.

        Parameters
        ----------
        logits : tensor of shape (B, C), float16, bfloat16, float32 or float64
        targets : tensor of shape (B,) or (B, 1), any integer dtype
        sample_ids : tensor of shape (B,), any integer dtype
        where : tensor of shape (B,), bool, optional

        Raises
        ------
        TypeError, ValueError
            As `AUMState.update`; where C is another.
        """
        self.check_replica()
        checked = checked_batch(logits, targets, sample_ids, where)
        if checked[0].shape[1] not in (None, self._num_classes):
            raise ValueError(f"logits: shape {checked[0].shape}, want (B, {self._num_classes}), as num_classes says")
        batch = counted_batch(self.num_samples, *checked)
        self.add_margins(batch)
        self.add(self.target, batch, batch.targets)
        needs_softmax = "softmax" in self._has_matrices or any(name in OF_SOFTMAX for name in self._needs)
        probabilities = tf.nn.softmax(batch.logits) if needs_softmax else None
        if self._needs:
            columns = [tf.cast(_column(name, batch, probabilities), tf.float64) for name in self._needs]
            self.add(self.columns, batch, tf.stack(columns, axis=1))
        if "softmax" in self._has_matrices:
            self.add(self.softmax, batch, probabilities)
        if "logits" in self._has_matrices:
            self.add(self.logits, batch, batch.logits)

    def end_epoch(self) -> EpochSums:
        """Bring the epoch home, for `AUMCalculator.add_epoch`, and begin the next with zeros.

        Returns
        -------
        EpochSums
            Its `left_out` counts what was left out, and a RuntimeWarning tells. Its `softmax` and `logits` are None
            once the scores need no more of them.

        Raises
        ------
        ValueError
            Where nothing was counted, or a sample had several targets; the state is then as before.
        """
        require_eager("end_epoch")
        left_out = self.left_out()
        count = self.count.numpy()
        sums = {"margin": self.total.numpy()}
        if self._needs:
            sums |= dict(zip(self._needs, self.columns.numpy().T, strict=True))
        matrices = {each: getattr(self, each).numpy() for each in self._matrices()}
        epoch = EpochSums(count, sums, _labels(self.target.numpy(), count), left_out=left_out, **matrices)
        self._zero()
        return epoch

    def _zero_replica(self) -> None:
        for name in self._names:
            variable = getattr(self, name)
            variable.assign(tf.zeros(variable.shape, variable.dtype))


def _needed_matrices(scores: Scores) -> list[str]:
    """Which of the sums of (N, C) numbers are needed of the next epoch: never more than of the one before."""
    return [name for name in ("softmax", "logits") if getattr(scores, f"need_{name}_sums")]


def _labels(target: np.ndarray[Any, Any], count: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The labels (N,) whose sums over an epoch these are; -1 where none was measured."""
    labels = np.where(count > 0, target // np.maximum(count, 1), -1)
    several = np.flatnonzero((count > 0) & (labels * count != target))
    if several.size:
        raise ValueError(f"targets: sample {several[0]} had several within one epoch; scores go with one label")
    return labels


def _column(name: str, batch: CountedBatch, probabilities: tf.Tensor | None) -> tf.Tensor:
    """A column (B,) of a batch, as `aum_core.epoch_sums.column` defines it."""
    if name == "correct":
        before_target = tf.range(tf.shape(batch.logits, tf.int64)[1]) < batch.targets[:, tf.newaxis]
        own = tf.gather(batch.logits, batch.targets, batch_dims=1)[:, tf.newaxis]
        return ~tf.reduce_any(tf.where(before_target, batch.logits >= own, batch.logits > own), axis=1)
    own = tf.gather(probabilities, batch.targets, batch_dims=1)
    others = tf.maximum(others_of(probabilities, batch.targets), 0)
    if name == "confidence":
        return own
    if name == "softmax_margin":
        return own - tf.reduce_max(others, axis=1)
    if name == "error_norm":
        return tf.sqrt(tf.reduce_sum(others**2, axis=1) + (1 - own) ** 2)
    raise ValueError(f"scores: they need {name!r}, which this version cannot measure")
