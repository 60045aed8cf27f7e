"""AUM for TensorFlow: state that lives in variables and is updated inside the step, and ids for `tf.data`.

A `tf.function` runs its Python once, while it is traced, and tensors have no values then: what keeps books on the host
cannot be called from it. `AUMState` is made of TensorFlow operations only, so its update compiles with the step.
`AUMCalculator` is for eager tensors: those on the CPU are seen by the NumPy engine as they are, without a copy.
"""

from __future__ import annotations

import importlib
import io
import operator
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import aum_core
from aum_core import AUMRecord, Findings, Margins, ThresholdPlan, Totals, compute_margins
from aum_core.margins import TargetError, check_logits, check_targets, widened

try:
    import tensorflow as tf  # noqa: TID251 # the one module that may
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError("aum.tf needs TensorFlow: pip install 'aum[tf]'", name="tensorflow") from error

from aum._ranking import write_ranking
from aum._tf_data import with_index

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from aum_core.belief_window import PosteriorModel
    from aum_core.calculator import KeepPosterior, NonFinite
    from aum_core.sample_index import SampleId

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "AUMState",
    "Findings",
    "TFBackend",
    "ThresholdPlan",
    "Totals",
    "find_by_posterior",
    "find_mislabeled",
    "with_index",
]

_STATE_DTYPES = {"total": tf.float64, "count": tf.int64, "nonfinite": tf.int64, "invalid": tf.int64}


def __getattr__(name: str) -> object:
    if name != "AUMCallback":
        raise AttributeError(f"module 'aum.tf' has no attribute {name!r}")
    callback: object = importlib.import_module("aum.keras").AUMCallback  # Keras is for those who call fit
    return callback


class AUMState(tf.Module):  # type: ignore[misc] # TensorFlow ships no types
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

    total: tf.Variable
    count: tf.Variable
    nonfinite: tf.Variable
    invalid: tf.Variable

    def __init__(self, num_samples: int, name: str | None = None) -> None:
        super().__init__(name=name)
        self._num_samples = _checked_size(num_samples)
        self._strategy = tf.distribute.get_strategy()
        for each, dtype in _STATE_DTYPES.items():
            # object's own __setattr__ passes by the tracking of tf.Module: a checkpoint would restore a sum over R
            # replicas by giving each of them 1/R of it, and 1/R of an int64 count is truncated
            shape = (self._num_samples,) if each in ("total", "count") else ()
            object.__setattr__(self, each, _variable(each, shape, dtype))
        self._saved = _Saved(self)

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
        self._check_replica()
        logits, targets, sample_ids, where = _checked_batch(logits, targets, sample_ids, where)
        num_classes = tf.shape(logits, tf.int64)[1]
        margin = _margins(logits, tf.clip_by_value(targets, 0, num_classes - 1))
        valid = _in_range(sample_ids, self._num_samples) & _in_range(targets, num_classes)
        finite = tf.math.is_finite(margin)
        counted = where & valid & finite
        # an index out of range raises on a CPU and is dropped elsewhere: rows that do not count add 0 to sample 0
        places = tf.where(counted, sample_ids, 0)[:, tf.newaxis]
        margin = tf.where(counted, tf.cast(margin, tf.float64), 0)
        # by its handle a variable of a strategy is the replica's own; its methods refuse to scatter
        tf.raw_ops.ResourceScatterNdAdd(ref=self.total.handle, indices=places, updates=margin)
        tf.raw_ops.ResourceScatterNdAdd(ref=self.count.handle, indices=places, updates=tf.cast(counted, tf.int64))
        self.nonfinite.assign_add(tf.math.count_nonzero(where & valid & ~finite))
        self.invalid.assign_add(tf.math.count_nonzero(where & ~valid))

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
        _require_eager("to_totals")
        total, count, nonfinite, invalid = self._values().values()
        left_out = f"{nonfinite} rows with margins that are not finite, {invalid} rows with a sample id outside "
        left_out += f"[0, {self._num_samples}) or a target outside [0, C)"
        if not count.any():
            raise ValueError(
                f"nothing was counted, and left out were {left_out}; call state.update(logits, targets, sample_ids) "
                "in the training step"
            )
        totals = Totals.from_rows(total, count, sample_ids, int(nonfinite) + int(invalid))
        if totals.left_out:
            warnings.warn(f"left out were {left_out}; where=... passes over padding", RuntimeWarning, stacklevel=2)
        return totals

    def _check_replica(self) -> None:
        if tf.distribute.get_strategy() is not self._strategy:
            raise ValueError(
                f"update: under {type(tf.distribute.get_strategy()).__name__}, but the state was made under "
                f"{type(self._strategy).__name__}; make it inside strategy.scope(), update it inside strategy.run"
            )
        if tf.distribute.in_cross_replica_context():
            raise ValueError("update: outside the replicas, want it inside the function that strategy.run runs")

    def _values(self) -> dict[str, Any]:
        """Read all variables, summed over the replicas."""
        return {name: getattr(self, name).numpy() for name in _STATE_DTYPES}

    def _assign(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Give the first replica these values, and the others zeros."""

        def assign(values: Mapping[str, Any]) -> None:
            first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
            for name, value in values.items():
                getattr(self, name).assign(tf.where(first, value, 0))

        # in a function, since a strategy warns of what it runs eagerly
        on_all = tf.function(partial(self._strategy.run, assign), autograph=False)
        on_all(args=({name: tf.constant(value) for name, value in values.items()},))


class _Saved(tf.train.experimental.PythonState):  # type: ignore[misc] # TensorFlow ships no types
    """What a checkpoint has of a state: its sums over all replicas, exactly."""

    def __init__(self, state: AUMState) -> None:
        self._state = state

    def serialize(self) -> bytes:
        if not tf.executing_eagerly():  # of a model that is exported with a state in it: no values are asked for
            return b""
        file = io.BytesIO()
        np.savez(file, **self._state._values())  # noqa: SLF001 # a part of it
        return file.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        with np.load(io.BytesIO(string_value), allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in _STATE_DTYPES}
        if len(values["total"]) != self._state.num_samples:
            raise ValueError(
                f"checkpoint: it has a state of {len(values['total'])} samples, want one of num_samples="
                f"{self._state.num_samples}"
            )
        self._state._assign(values)  # noqa: SLF001 # a part of it


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

    _write_ranking = staticmethod(write_ranking)

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        compressed: bool = True,
        *,
        nonfinite: NonFinite = "leave_out",
        scores: Iterable[str] = (),
        noise_posterior: KeepPosterior = False,
        posterior_model: PosteriorModel = "judged",
    ) -> None:
        super().__init__(
            save_dir,
            compressed,
            backend=TFBackend(),
            nonfinite=nonfinite,
            scores=scores,
            noise_posterior=noise_posterior,
            posterior_model=posterior_model,
            log=None if compressed else _log_on_disk(save_dir),
        )

    def update(self, logits: Any, targets: Any, sample_ids: Any) -> dict[SampleId, AUMRecord]:
        """Measure a batch and give its records; see `aum_core.AUMCalculator.update`."""
        _require_eager("update")
        return super().update(logits, targets, sample_ids)

    def accumulate(self, logits: Any, targets: Any, sample_ids: Any) -> None:
        """Measure a batch without making records of it; see `aum_core.AUMCalculator.accumulate`."""
        _require_eager("accumulate")
        super().accumulate(logits, targets, sample_ids)


find_by_posterior = partial(aum_core.find_by_posterior, calculator=AUMCalculator)
"""`aum_core.find_by_posterior` with calculators of this framework."""

find_mislabeled = partial(aum_core.find_mislabeled, calculator=AUMCalculator)
"""`aum_core.find_mislabeled` with calculators that take eager tensors.

A training function that measures with an `AUMState` ends with ``calculator.add_totals(state.to_totals())``.
"""


def _log_on_disk(save_dir: str | os.PathLike[str]) -> Any:
    from aum.parquet import RecordsOnDisk  # noqa: PLC0415 # pyarrow is for those who keep records

    return partial(RecordsOnDisk, save_dir=save_dir)


def _require_eager(method: str) -> None:
    if not tf.executing_eagerly():
        raise TypeError(
            f"{method}: called inside a tf.function, where tensors have no values and Python runs only once; "
            "inside use aum.tf.AUMState(num_samples).update(...), and its to_totals() outside"
        )


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


def _checked_batch(logits: Any, targets: Any, sample_ids: Any, where: Any) -> tuple[Any, Any, Any, Any]:
    """Check dtypes and shapes as far as they are known; give (B, C) logits, (B,) int64 targets and ids, (B,) bools."""
    logits, targets, sample_ids = (tf.convert_to_tensor(each) for each in (logits, targets, sample_ids))
    where = tf.ones_like(sample_ids, tf.bool) if where is None else tf.convert_to_tensor(where)
    num_rows = _num_rows(logits=logits, targets=targets, sample_ids=sample_ids, where=where)
    form = _stand_in(logits, num_rows)
    check_logits(form)
    check_targets(_stand_in(targets, num_rows), form.shape)
    if not sample_ids.dtype.is_integer:
        raise TypeError(
            f"sample_ids: dtype {sample_ids.dtype.name}, want integers; for strs give their positions here, and the "
            "strs to to_totals(sample_ids)"
        )
    if where.dtype != tf.bool:
        raise TypeError(f"where: dtype {where.dtype.name}, want bool")
    for name, each in (("sample_ids", sample_ids), ("where", where)):
        if _stand_in(each, num_rows).shape != (num_rows,):
            raise ValueError(f"{name}: shape {each.shape}, want (B,) to go with logits of shape {logits.shape}")
    # lengths that are not known before the step runs are compared by this stack: the operations that follow it would
    # repeat a single row as often as needed, and XLA's gather would not mind either
    columns = [tf.reshape(tf.cast(each, tf.int64), [-1]) for each in (targets, sample_ids, where)]
    rows = tf.stack([*columns, tf.zeros(tf.shape(logits)[:1], tf.int64)])
    return _widened(tf.stop_gradient(logits)), rows[0], rows[1], tf.cast(rows[2], tf.bool)


def _num_rows(**tensors: tf.Tensor) -> int:
    """B, or 1 where no shape tells it."""
    for name, each in tensors.items():
        if each.shape.rank is None:
            raise ValueError(f"{name}: shape unknown, want at least its rank; tf.ensure_shape tells it")
    known = [each.shape[0] for each in tensors.values() if each.shape.rank and each.shape[0] is not None]
    return int(known[0]) if known else 1


def _stand_in(tensor: tf.Tensor, num_rows: int) -> NDArray[Any]:
    """An array of the same form that holds one number, for the engine's checks; unknown sizes are ones that fit."""
    shape = [size if size is not None else (num_rows, 2)[axis > 0] for axis, size in enumerate(tensor.shape)]
    return np.broadcast_to(np.zeros((), tensor.dtype.as_numpy_dtype), shape)


def _in_range(values: tf.Tensor, end: Any) -> tf.Tensor:
    return (values >= 0) & (values < end)


def _widened(logits: tf.Tensor) -> tf.Tensor:
    return tf.cast(logits, tf.float32) if logits.dtype.size == 2 else logits


def _others(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Logits with the target's masked. NaN becomes inf: compiled by XLA, a maximum passes over NaN in silence."""
    masked = tf.one_hot(targets, tf.shape(logits)[1], on_value=True, off_value=False)
    infinity = tf.constant(np.inf, logits.dtype)
    return tf.where(masked, -infinity, tf.where(tf.math.is_nan(logits), infinity, logits))


def _margins(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Margins (B,) of targets in [0, C); not finite where they should not count."""
    return tf.gather(logits, targets, batch_dims=1) - tf.reduce_max(_others(logits, targets), axis=1)


def _is_on_host(tensor: tf.Tensor) -> bool:
    return "CPU" in tensor.device


def _measure_on_device(logits: tf.Tensor, targets: NDArray[Any]) -> Margins:
    """Reduce logits where they are; four (B,) vectors come to the host."""
    form = _stand_in(logits, 1)
    check_logits(form)
    check_targets(targets, form.shape)
    num_rows, num_classes = form.shape
    targets = targets.reshape(num_rows).astype(np.int64)
    wrong = np.flatnonzero((targets < 0) | (targets >= num_classes))
    if wrong.size:
        raise TargetError(int(wrong[0]), int(targets[wrong[0]]), num_classes)
    wide = _widened(logits)
    others = _others(wide, tf.constant(targets))
    largest = others == tf.reduce_max(others, axis=1, keepdims=True)
    columns = tf.range(num_classes, dtype=tf.int64)
    # a target is its own rival only where all others are -inf too: it is put last
    rank = tf.where(columns == targets[:, np.newaxis], num_classes, columns)
    other_logit = tf.reduce_min(tf.where(largest, rank, num_classes), axis=1)
    target_val, other_val = (tf.gather(wide, each, batch_dims=1) for each in (tf.constant(targets), other_logit))
    return Margins(*(each.numpy() for each in (target_val, other_logit, other_val, target_val - other_val)))
