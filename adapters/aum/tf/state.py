"""The state in variables, and the update of it: what `aum.tf` has for compiled steps.

In come the batches of a training step, out go totals, or the sums of an epoch. It never waits for the device before it
is asked for them, and never raises while a compiled step runs: what does not fit is left out and counted.
"""

from __future__ import annotations

import operator
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # noqa: TID251 # a part of aum.tf

from aum.tf.batch import CountedBatch, checked_batch, counted_batch
from aum.tf.replicas import ReplicaSums, require_eager
from aum_core import EpochSums, Totals
from aum_core.scores.needs import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aum_core import Needs
    from aum_core.ids import SampleId

__all__ = ["AUMState"]


class AUMState(tf.Module):  # type: ignore[misc] # TensorFlow ships no types
    """Sum and count of the margins of each sample, in variables: for training loops, compiled or not.

    The margin of a sample is the logit of its assigned class minus the largest other logit (Pleiss et al. 2020,
    arXiv 2001.10528, equation 1); an update costs O(B) beside the work on the logits, whatever `num_samples` is.

    Made without `needs` it is the state of a whole training, which ends with `to_totals`. Made with the needs of a
    calculator that keeps other scores or the noise posterior, it is the state of one epoch, which ends with
    ``calculator.add_epoch(state.end_epoch())``. What nobody asked for has no variable, and no part in the step.

    Under a distribution strategy make it, like the model, inside ``with strategy.scope()``, and call `update` inside
    ``strategy.run``: each replica adds up on its own, and what is read is the sum over all of them.

    `tf.train.Checkpoint` saves and restores it, under another number of replicas too; save from Python, since a
    ``checkpoint.write`` inside a `tf.function` saves what was there when the function was traced.

    Parameters
    ----------
    num_samples : int
        N; sample ids are in [0, N).
    num_classes : int, optional
        C, the columns of the logits; wanted where `needs` asks for all of the softmax or the logits.
    needs : Needs, optional
        What is added up beside the margins, as ``calculator.needs`` tells it.
    name : str, optional
        Of the module.

    Attributes
    ----------
    total : tf.Variable of shape (N,), float64
        Sum of the margins of each sample; float64 adds margins of float32 logits without rounding.
    count : tf.Variable of shape (N,), int64
        Number of its measurements.
    nonfinite : tf.Variable of shape (), int64
        Rows left out because of logits that are NaN or infinite.
    invalid : tf.Variable of shape (), int64
        Rows left out because their sample id is outside [0, N) or their target outside [0, C).
    target : tf.Variable of shape (N,), int64
        With needs: sum of the targets, which over `count` is the given label, since replicas can add up sums alone.
    columns : tf.Variable of shape (N, D), float64
        Where ``needs.columns`` has D names: sums of these columns.
    softmax, logits : tf.Variable of shape (N, C), float32
        Where ``needs.softmax``, ``needs.logits``: sums of the softmax and of the logits.

    Raises
    ------
    TypeError, ValueError
        Where `num_samples` or `num_classes` is no such number, or the latter is missing.

    Examples
    --------
    >>> import tensorflow as tf
    >>> state = AUMState(num_samples=4)
    >>> @tf.function
    ... def step(logits, targets, sample_ids):
    ...     state.update(logits, targets, sample_ids)
    >>> for _ in range(2):
    ...     step(tf.constant([[2.0, 0.5], [1.0, 3.0]]), tf.constant([0, 0]), tf.constant([3, 1]))
    >>> totals = state.to_totals()
    >>> totals.sample_ids, totals.aums, totals.counts
    (array([1, 3]), array([-2. ,  1.5]), array([2, 2]))

    With another score, an epoch at a time:

    >>> import tempfile
    >>> from aum.tf import AUMCalculator
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), scores=["confidence"])
    >>> state = AUMState(num_samples=4, num_classes=2, needs=calculator.needs)
    >>> step = tf.function(state.update)
    >>> for epoch in range(2):
    ...     step(tf.constant([[0.0, 0.0], [1.0, 3.0]]), tf.constant([0, 0]), tf.constant([3, 1]))
    ...     calculator.add_epoch(state.end_epoch())
    >>> calculator.totals.sample_ids, calculator.scores["confidence"].round(3)
    (array([1, 3]), array([0.119, 0.5  ]))
    """

    total: tf.Variable
    count: tf.Variable
    nonfinite: tf.Variable
    invalid: tf.Variable
    target: tf.Variable
    columns: tf.Variable
    softmax: tf.Variable
    logits: tf.Variable

    def __init__(
        self, num_samples: int, num_classes: int | None = None, needs: Needs | None = None, name: str | None = None
    ) -> None:
        super().__init__(name=name)
        self._num_samples, self._needs = _size("num_samples", num_samples, 1), needs
        self._num_classes = None if num_classes is None else _size("num_classes", num_classes, 2)
        self._sums = ReplicaSums(_variables(self._num_samples, self._num_classes, needs))
        for each, variable in self._sums.variables.items():
            # object's own __setattr__ passes by the tracking of tf.Module: what a checkpoint has is `_sums`
            object.__setattr__(self, each, variable)

    @property
    def num_samples(self) -> int:
        """N."""
        return self._num_samples

    def update(self, logits: Any, targets: Any, sample_ids: Any, where: Any = None) -> None:
        """Measure a batch; call it with the logits of the training forward pass.

        Call it once per step: a function given to `tf.recompute_grad` runs twice, and what it holds counts twice.

        Rows whose id or target is out of range, or whose margin is not finite, are left out and counted in `invalid`
        and `nonfinite`: a compiled step cannot raise. A repeated id counts as often as it is there. Margins of float32
        logits are those of the engine to the bit, but for those below 1e-38, which TensorFlow takes for 0.

        O(B) beside the work on the logits; O(B C) where softmax or logits are added up.

        Parameters
        ----------
        logits : tensor of shape (B, C), float16, bfloat16, float32 or float64
            Raw outputs before any softmax, C >= 2. Half types are widened to float32 first.
        targets : tensor of shape (B,) or (B, 1), any integer dtype
            The assigned classes, in [0, C).
        sample_ids : tensor of shape (B,), any integer dtype
            In [0, N), such as those of `with_index`.
        where : tensor of shape (B,), bool, optional
            Rows to measure, for batches that are padded: the others are passed over, and counted nowhere.

        Raises
        ------
        TypeError, ValueError
            Where dtypes or shapes do not fit, while the function is traced; where the strategy is not that under
            which the state was made.

        Examples
        --------
        >>> import tensorflow as tf
        >>> state = AUMState(num_samples=2)
        >>> state.update(tf.constant([[2.0, 0.5]]), tf.constant([0]), tf.constant([1]))
        >>> state.total.numpy()
        array([0. , 1.5])
        """
        self._sums.check_replica()
        checked = checked_batch(logits, targets, sample_ids, where)
        if self._num_classes is not None and checked[0].shape[1] not in (None, self._num_classes):
            raise ValueError(f"logits: shape {checked[0].shape}, want (B, {self._num_classes}), as num_classes says")
        needs = self._needs
        names_other = needs is not None and needs.uses_other_logit
        batch = counted_batch(self._num_samples, *checked, other_logit=names_other)
        self._add("total", batch, batch.margins.margin)
        self._add("count", batch, tf.ones_like(batch.counted, tf.int64))
        self.nonfinite.assign_add(batch.nonfinite)
        self.invalid.assign_add(batch.invalid)
        if needs is not None:
            self._add_needed(needs, batch)

    def to_totals(self, sample_ids: Sequence[SampleId] | NDArray[Any] | None = None) -> Totals:
        """Bring the sums and counts home, as the engine's `Totals`: ranking, files, merging and thresholds are there.

        The state is left as it is. Of a state with needs these are the totals of the epoch so far.

        Parameters
        ----------
        sample_ids : sequence of N int or str, optional
            The names of the samples, all different; by default the ids themselves.

        Returns
        -------
        Totals
            Of the samples that were measured, in the order of their ids. `Totals.left_out` is the number of rows
            that were left out, for either reason; a RuntimeWarning tells of them.

        Raises
        ------
        TypeError
            Inside a `tf.function`.
        ValueError
            Where nothing was counted, or the names do not fit.

        Examples
        --------
        >>> import tensorflow as tf
        >>> state = AUMState(num_samples=2)
        >>> state.update(tf.constant([[2.0, 0.5]]), tf.constant([0]), tf.constant([1]))
        >>> state.to_totals(["cat.png", "dog.png"]).sample_ids.tolist()
        ['dog.png']
        """
        require_eager("to_totals")
        count = self._sums.read("count")
        left_out = self._left_out(count)
        return Totals.from_rows(self._sums.read("total"), count, sample_ids, left_out)

    def end_epoch(self, needs: Needs | None = None) -> EpochSums:
        """Bring an epoch home, for `AUMCalculator.add_epoch`, and begin the next with zeros.

        Parameters
        ----------
        needs : Needs, optional
            ``calculator.needs`` as it is by now: of an averaging window that has closed, softmax and logits then stay
            on the device. By default all comes home, and the calculator takes of it what it needs.

        Returns
        -------
        EpochSums
            Its `left_out` counts what was left out, and a RuntimeWarning tells.

        Raises
        ------
        TypeError
            Inside a `tf.function`.
        ValueError
            Where the state was made without needs, nothing was counted, or a sample had several targets; the state is
            then as before.

        Examples
        --------
        >>> import tensorflow as tf
        >>> from aum_core import Needs
        >>> state = AUMState(num_samples=2, needs=Needs(columns=("correct",)))
        >>> state.update(tf.constant([[2.0, 0.5]]), tf.constant([0]), tf.constant([1]))
        >>> epoch = state.end_epoch()
        >>> epoch.sums["margin"], epoch.sums["correct"], state.total.numpy()
        (array([0. , 1.5]), array([0., 1.]), array([0., 0.]))
        """
        require_eager("end_epoch")
        if self._needs is None:
            raise ValueError(
                "end_epoch: the state was made without needs, want AUMState(num_samples, num_classes, calculator.needs)"
            )
        wanted = self._needs if needs is None else needs
        _check_within(wanted, self._needs)
        count = self._sums.read("count")
        left_out = self._left_out(count)
        sums = {"margin": self._sums.read("total")}
        if self._needs.columns:
            sums |= dict(zip(self._needs.columns, self._sums.read("columns").T, strict=True))
        softmax, logits = (self._sums.read(each) if getattr(wanted, each) else None for each in ("softmax", "logits"))
        epoch = EpochSums(count, sums, _labels(self._sums.read("target"), count), softmax, logits, left_out)
        self._sums.zero()
        return epoch

    def _add(self, name: str, batch: CountedBatch, values: tf.Tensor) -> None:
        self._sums.add(name, batch.places, batch.counted, values)

    def _add_needed(self, needs: Needs, batch: CountedBatch) -> None:
        """Add what is needed of a batch beside its margins."""
        self._add("target", batch, batch.margins.target_logit)
        softmax = tf.nn.softmax(batch.logits) if needs.uses_softmax else None
        if needs.columns:
            own = columns(tf.experimental.numpy, needs.columns, batch.margins, softmax)
            self._add("columns", batch, tf.stack([tf.cast(own[name], tf.float64) for name in needs.columns], axis=1))
        if needs.softmax:
            self._add("softmax", batch, softmax)
        if needs.logits:
            self._add("logits", batch, batch.logits)

    def _left_out(self, count: NDArray[np.int64]) -> int:
        """Count what was left out, and warn of it; an error where nothing was counted at all."""
        nonfinite, invalid = (int(self._sums.read(name)) for name in ("nonfinite", "invalid"))
        left_out = f"{nonfinite} rows with margins that are not finite, {invalid} rows with a sample id outside "
        left_out += f"[0, {self._num_samples}) or a target outside [0, C)"
        if not count.any():
            raise ValueError(
                f"nothing was counted, and left out were {left_out}; call state.update(logits, targets, sample_ids) "
                "in the training step"
            )
        if nonfinite + invalid:
            warnings.warn(f"left out were {left_out}; where=... passes over padding", RuntimeWarning, stacklevel=3)
        return nonfinite + invalid


def _variables(
    num_samples: int, num_classes: int | None, needs: Needs | None
) -> dict[str, tuple[tuple[int, ...], tf.DType]]:
    """Shape and dtype of each variable of a state."""
    variables: dict[str, tuple[tuple[int, ...], tf.DType]] = {
        "total": ((num_samples,), tf.float64),
        "count": ((num_samples,), tf.int64),
        "nonfinite": ((), tf.int64),
        "invalid": ((), tf.int64),
    }
    if needs is None:
        return variables
    variables["target"] = (num_samples,), tf.int64
    if needs.columns:
        variables["columns"] = (num_samples, len(needs.columns)), tf.float64
    for name in ("softmax", "logits"):
        if getattr(needs, name):
            if num_classes is None:
                raise ValueError(f"num_classes: None, want C, since all of the {name} is needed")
            variables[name] = (num_samples, num_classes), tf.float32
    return variables


def _check_within(wanted: Needs, summed: Needs) -> None:
    missing = [*set(wanted.columns).difference(summed.columns)]
    missing += [each for each in ("softmax", "logits") if getattr(wanted, each) and not getattr(summed, each)]
    if missing:
        raise ValueError(f"needs: {missing[0]!r} is not among what the state adds up, want needs within {summed}")


def _labels(target: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """The labels (N,) whose sums over an epoch these are; -1 where none was measured."""
    labels = np.where(count > 0, target // np.maximum(count, 1), -1)
    several = np.flatnonzero((count > 0) & (labels * count != target))
    if several.size:
        raise ValueError(f"targets: sample {several[0]} had several within one epoch; scores go with one label")
    return labels


def _size(name: str, given: int, smallest: int) -> int:
    size = operator.index(given)
    if size < smallest:
        raise ValueError(f"{name}: {size}, want at least {smallest}")
    return size
