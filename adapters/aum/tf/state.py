"""The state in variables, and the update of it: what `aum.tf` has for compiled steps."""

from __future__ import annotations

import io
import operator
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # noqa: TID251 # a part of aum.tf

from aum.tf.batch import CountedBatch, checked_batch, counted_batch
from aum_core import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from aum_core.ids import SampleId

__all__ = ["AUMState", "Sums", "require_eager"]


class Sums(tf.Module):  # type: ignore[misc] # TensorFlow ships no types
    """Variables that each replica adds to on its own, and that are read as the sum over all of them.

    Parameters
    ----------
    num_samples : int
        N.
    variables : mapping of name to (shape, dtype)
        Beside those of the margins: ``total`` and ``count`` of shape (N,), ``nonfinite`` and ``invalid``.
    name : str, optional
        Of the module.
    """

    total: tf.Variable
    count: tf.Variable
    nonfinite: tf.Variable
    invalid: tf.Variable

    def __init__(
        self, num_samples: int, variables: Mapping[str, tuple[tuple[int, ...], Any]], name: str | None
    ) -> None:
        super().__init__(name=name)
        self._num_samples = _checked_size(num_samples)
        self._strategy = tf.distribute.get_strategy()
        of_margins: dict[str, tuple[tuple[int, ...], Any]]
        of_margins = {"total": ((self._num_samples,), tf.float64), "count": ((self._num_samples,), tf.int64)}
        of_margins |= {"nonfinite": ((), tf.int64), "invalid": ((), tf.int64)}
        self._names = (*of_margins, *variables)
        for each, (shape, dtype) in {**of_margins, **variables}.items():
            # object's own __setattr__ passes by the tracking of tf.Module: a checkpoint would restore a sum over R
            # replicas by giving each of them 1/R of it, and 1/R of an int64 count is truncated
            object.__setattr__(self, each, _variable(each, shape, dtype))
        self._saved = _Saved(self)

    @property
    def num_samples(self) -> int:
        """N."""
        return self._num_samples

    def add_margins(self, batch: CountedBatch) -> None:
        """Add the margins of a batch to the total, and count it."""
        self.add(self.total, batch, batch.margin)
        self.add(self.count, batch, tf.ones_like(batch.counted, tf.int64))
        self.nonfinite.assign_add(batch.nonfinite)
        self.invalid.assign_add(batch.invalid)

    @staticmethod
    def add(variable: tf.Variable, batch: CountedBatch, values: tf.Tensor) -> None:
        """Add the values (B,) or (B, D) of the rows that count to those of their samples, without looking at others."""
        counted = batch.counted if len(values.shape) == 1 else batch.counted[:, tf.newaxis]
        # an index out of range raises on a CPU and is dropped elsewhere: rows that do not count add 0 to sample 0
        updates = tf.where(counted, tf.cast(values, variable.dtype), tf.zeros([], variable.dtype))
        # by its handle a variable of a strategy is the replica's own; its methods refuse to scatter
        tf.raw_ops.ResourceScatterNdAdd(ref=variable.handle, indices=batch.places, updates=updates)

    def check_replica(self) -> None:
        """Refuse an update where it would not count, or count twice."""
        if tf.distribute.get_strategy() is not self._strategy:
            raise ValueError(
                f"update: under {type(tf.distribute.get_strategy()).__name__}, but the state was made under "
                f"{type(self._strategy).__name__}; make it inside strategy.scope(), update it inside strategy.run"
            )
        if tf.distribute.in_cross_replica_context():
            raise ValueError("update: outside the replicas, want it inside the function that strategy.run runs")

    def left_out(self) -> int:
        """Count what was left out, and warn of it; an error where nothing was counted at all."""
        values = {name: getattr(self, name).numpy() for name in ("count", "nonfinite", "invalid")}
        nonfinite, invalid = int(values["nonfinite"]), int(values["invalid"])
        left_out = f"{nonfinite} rows with margins that are not finite, {invalid} rows with a sample id outside "
        left_out += f"[0, {self._num_samples}) or a target outside [0, C)"
        if not values["count"].any():
            raise ValueError(
                f"nothing was counted, and left out were {left_out}; call state.update(logits, targets, sample_ids) "
                "in the training step"
            )
        if nonfinite + invalid:
            warnings.warn(f"left out were {left_out}; where=... passes over padding", RuntimeWarning, stacklevel=3)
        return nonfinite + invalid

    def values(self) -> dict[str, Any]:
        """Read all variables, summed over the replicas."""
        return {name: getattr(self, name).numpy() for name in self._names}

    def assign(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Give the first replica these values, and the others zeros."""

        def assign(values: Mapping[str, Any]) -> None:
            first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
            for name, value in values.items():
                getattr(self, name).assign(tf.where(first, value, 0))

        self.on_all_replicas(assign)(args=({name: tf.constant(value) for name, value in values.items()},))

    def on_all_replicas(self, function: Callable[..., None]) -> Callable[..., Any]:
        """Have all replicas run a function; in a `tf.function`, since a strategy warns of what it runs eagerly."""
        on_all: Callable[..., Any] = tf.function(partial(self._strategy.run, function), autograph=False)
        return on_all


class AUMState(Sums):
    """Sum and count of the margins of each sample, in variables: for training loops, compiled or not.

    The margin of a sample is the logit of its assigned class minus the largest other logit (Pleiss et al. 2020,
    arXiv 2001.10528, equation 1); an update costs O(B) beside the work on the logits, whatever `num_samples` is.

    Under a distribution strategy make it, like the model, inside ``with strategy.scope()``, and call `update` inside
    ``strategy.run``: each replica adds up on its own, and what is read is the sum over all of them.

    `tf.train.Checkpoint` saves and restores it, under another number of replicas too; save from Python, since a
    ``checkpoint.write`` inside a `tf.function` saves what was there when the function was traced.

    Parameters
    ----------
    num_samples : int
        N; sample ids are in [0, N).
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
    """

    def __init__(self, num_samples: int, name: str | None = None) -> None:
        super().__init__(num_samples, {}, name)

    def update(self, logits: Any, targets: Any, sample_ids: Any, where: Any = None) -> None:
        """Measure a batch; call it with the logits of the training forward pass.

        Call it once per step: a function given to `tf.recompute_grad` runs twice, and what it holds counts twice.

        Rows whose id or target is out of range, or whose margin is not finite, are left out and counted in `invalid`
        and `nonfinite`: a compiled step cannot raise. A repeated id counts as often as it is there. Margins of float32
        logits are those of the engine to the bit, but for those below 1e-38, which TensorFlow takes for 0.

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
        """
        self.check_replica()
        self.add_margins(counted_batch(self.num_samples, *checked_batch(logits, targets, sample_ids, where)))

    def to_totals(self, sample_ids: Sequence[SampleId] | NDArray[Any] | None = None) -> Totals:
        """Bring the sums and counts home, as the engine's `Totals`: ranking, files, merging and thresholds are there.

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
        ValueError
            Where nothing was counted, or the names do not fit.
        """
        require_eager("to_totals")
        left_out = self.left_out()
        return Totals.from_rows(self.total.numpy(), self.count.numpy(), sample_ids, left_out)


class _Saved(tf.train.experimental.PythonState):  # type: ignore[misc] # TensorFlow ships no types
    """What a checkpoint has of a state: its sums over all replicas, exactly."""

    def __init__(self, state: Sums) -> None:
        self._state = state

    def serialize(self) -> bytes:
        if not tf.executing_eagerly():  # of a model that is exported with a state in it: no values are asked for
            return b""
        file = io.BytesIO()
        np.savez(file, **self._state.values())
        return file.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        with np.load(io.BytesIO(string_value), allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        if len(values["total"]) != self._state.num_samples:
            raise ValueError(
                f"checkpoint: it has a state of {len(values['total'])} samples, want one of num_samples="
                f"{self._state.num_samples}"
            )
        found, wanted = _shapes(values), _shapes(self._state.values())
        # it may have more: sums that the noise posterior has seen enough of by now
        values = {name: values[name] for name in wanted if name in values}
        if _shapes(values) != wanted:
            raise ValueError(f"checkpoint: it has sums of shapes {found}, want {wanted}: the same scores and classes")
        self._state.assign(values)


def require_eager(method: str) -> None:
    if not tf.executing_eagerly():
        raise TypeError(
            f"{method}: called inside a tf.function, where tensors have no values and Python runs only once; "
            "inside use aum.tf.AUMState(num_samples).update(...), and its to_totals() outside"
        )


def _shapes(values: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in values.items()}


def _checked_size(num_samples: int) -> int:
    if operator.index(num_samples) < 1:
        raise ValueError(f"num_samples: {num_samples}, want at least 1")
    return operator.index(num_samples)


def _variable(name: str, shape: tuple[int, ...], dtype: Any) -> tf.Variable:
    # outside a strategy these two mean nothing; inside, the defaults count wrongly and say nothing
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        name=name,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
