"""The state on the device: what it holds, how it is made, how two become one, and how it comes home."""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from aum.jax.batch import MAX_SAMPLES
from aum.jax.two_float import add
from aum_core import EpochSums, Needs, Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aum_core.ids import SampleId

__all__ = ["AUMState", "init", "merge", "to_epoch_sums", "to_totals"]

_FIELDS = ["total", "compensation", "count", "nonfinite", "invalid", "labels", "columns", "softmax", "logits"]


@partial(jax.tree_util.register_dataclass, data_fields=_FIELDS, meta_fields=[])
@dataclass(frozen=True)
class AUMState:
    """Sum and count of the margins of each sample, on the device. Made by `init`.

    One that is made with `Needs` is of one epoch, and has beside the margins what the scores and the noise posterior
    need. The structure of the pytree tells which: what nobody asked for has no array and is not compiled.

    Attributes
    ----------
    total : Array of shape (N,), float32 (float64 where x64 is on)
        Sum of the margins of each sample, rounded; in logits.
    compensation : Array of shape (N,), dtype of `total`
        What the rounding left out: the sum is ``total + compensation``.
    count : Array of shape (N,), int32
        Number of measurements of each sample.
    nonfinite : Array of shape (), int32
        Measurements left out because their margin was NaN or infinite.
    invalid : Array of shape (), int32
        Measurements left out because their id was outside [0, N) or their target outside [0, C).
    labels : Array of shape (N,), int32, or None
        Of an epoch: the given label of each sample; below 0, or without a meaning, where it has not been measured.
    columns : dict of str to Array of shape (N,), as `total`
        Of an epoch: sums of what the scores need beside the margin.
    softmax, logits : Array of shape (N, C), float32, or None
        Of an epoch: sums of the softmax and of the logits.

    Examples
    --------
    >>> jax.tree.map(jnp.shape, init(3)).total
    (3,)
    >>> init(3, 10, Needs(softmax=True)).softmax.shape
    (3, 10)
    """

    total: jax.Array
    compensation: jax.Array
    count: jax.Array
    nonfinite: jax.Array
    invalid: jax.Array
    labels: jax.Array | None = None
    columns: dict[str, jax.Array] = field(default_factory=dict)
    softmax: jax.Array | None = None
    logits: jax.Array | None = None

    @property
    def needs(self) -> Needs | None:
        """What is added up beside the margins; None where that is nothing, not even labels."""
        if self.labels is None:
            return None
        return Needs(tuple(self.columns), self.softmax is not None, self.logits is not None)


def init(num_samples: SupportsIndex, num_classes: SupportsIndex | None = None, needs: Needs | None = None) -> AUMState:
    """Make the state of a data set, or of an epoch, of which nothing has been measured yet.

    Parameters
    ----------
    num_samples : int
        N, below 2**31. Sample ids are the row numbers 0 to N - 1.
    num_classes : int, optional
        C, the columns of the logits; wanted where softmax or logits are needed.
    needs : Needs, optional
        Those of the calculator that will get the epoch, ``calculator.needs``, for `to_epoch_sums`; without it the state
        is of the AUM alone, for `to_totals`. Once the noise posterior needs no more epochs, its N x C numbers are left
        away, and the step is compiled a second time; ``jax.tree.map(jax.numpy.zeros_like, state)`` begins an epoch with
        the same arrays instead.

    Returns
    -------
    AUMState
        12 bytes a sample, on the default device; of an epoch 16, 4 for each column, and 4 C each for softmax and
        logits. To spread it over a mesh: ``jax.device_put(init(N), sharding)``.

    Raises
    ------
    TypeError
        Where N or C is no integer.
    ValueError
        Where N is not 1 to 2**31 - 1, or C is below 2, or wanted and not given.

    Examples
    --------
    >>> init(3).count
    Array([0, 0, 0], dtype=int32)
    >>> epoch = init(3, 10, Needs(columns=("confidence",)))
    >>> sorted(epoch.columns), epoch.softmax is None
    (['confidence'], True)
    """
    size = operator.index(num_samples)
    if not 1 <= size <= MAX_SAMPLES:
        raise ValueError(
            f"num_samples: {size}, want 1 to {MAX_SAMPLES}: rows are 32-bit; more samples need a state for each shard"
        )
    zeros = partial(jnp.zeros, size)  # each field its own buffer: one that is donated twice is an error
    nothing, none = zeros(jnp.int32), partial(jnp.zeros, (), jnp.int32)
    state = AUMState(zeros(float), zeros(float), nothing, nonfinite=none(), invalid=none())
    if needs is None:
        return state
    by_class = _by_class(size, num_classes, needs)
    return replace(
        state,
        labels=jnp.full(size, -1, jnp.int32),
        columns={name: zeros(float) for name in needs.columns},
        softmax=jnp.zeros(by_class, jnp.float32) if needs.softmax else None,
        logits=jnp.zeros(by_class, jnp.float32) if needs.logits else None,
    )


def _by_class(num_samples: int, num_classes: SupportsIndex | None, needs: Needs) -> tuple[int, ...]:
    """The shape of what has a number for each sample and class; () where nothing has."""
    if num_classes is None:
        if needs.has_matrices:
            raise ValueError(f"num_classes: None, want the number of columns of the logits, to add up {needs}")
        return ()
    size = operator.index(num_classes)
    if size < 2:
        raise ValueError(f"num_classes: {size}, want at least 2")
    return num_samples, size


def merge(a: AUMState, b: AUMState) -> AUMState:
    """State of what both have measured, of the same data set: of shards, say, or of the devices of a mesh.

    States that are of an epoch must be of the same one.

    Parameters
    ----------
    a, b : AUMState
        Of the same N, made for the same needs. They stay as they are.

    Returns
    -------
    AUMState

    Raises
    ------
    ValueError
        Where the two have different arrays; under `jit` when it is traced.

    Examples
    --------
    >>> from aum.jax import update
    >>> logits, targets = jnp.array([[2.0, 0.5]]), jnp.array([0])
    >>> shards = [update(init(2), logits, targets, jnp.array(ids)) for ids in ([1], [1])]
    >>> merge(*shards).total
    Array([0., 3.], dtype=float32)
    """
    if a.count.shape != b.count.shape:
        raise ValueError(f"a, b: counts of shapes {a.count.shape} and {b.count.shape}, want states of one data set")
    shapes = [jax.tree.map(jnp.shape, each) for each in (a, b)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"a, b: made for {a.needs} and {b.needs}, want shards of one epoch, with the same classes")
    total, compensation = add((a.total, a.compensation), (b.total, b.compensation))
    labels = None if a.labels is None or b.labels is None else jnp.maximum(a.labels, b.labels)  # no label is below 0
    added: AUMState = jax.tree.map(jnp.add, a, b)
    return replace(added, total=total, compensation=compensation, labels=labels)


def to_totals(state: AUMState, sample_ids: Sequence[SampleId] | NDArray[Any] | None = None) -> Totals:
    """Bring a state home, for rankings, files, thresholds and merging in float64.

    The state stays what it is and where it is. One that is spread over several processes is made whole first, with
    ``jax.experimental.multihost_utils.process_allgather(state, tiled=True)``. Of the state of an epoch only the margins
    come.

    Parameters
    ----------
    state : AUMState
    sample_ids : sequence of N int or str, optional
        The names of the rows; row numbers by default.

    Returns
    -------
    Totals
        Of the samples that were measured, in the order of the rows. Its `left_out` counts what was left out, and a
        warning tells.

    Raises
    ------
    ValueError
        Where nothing was counted, or the names are not one for each row.

    Examples
    --------
    >>> from aum.jax import update
    >>> state = update(init(3), jnp.array([[2.0, 0.5]]), jnp.array([0]), jnp.array([2]))
    >>> to_totals(state, ["cat.png", "dog.png", "owl.png"]).sample_ids.tolist()
    ['owl.png']
    """
    host, left_out = _brought_home(replace(state, labels=None, columns={}, softmax=None, logits=None))
    return Totals.from_rows(_sums(host), host.count, sample_ids, left_out)


def to_epoch_sums(state: AUMState) -> EpochSums:
    """Bring an epoch home, for `AUMCalculator.add_epoch`.

    The state stays what it is: begin the next epoch with another, or it counts twice. One that is spread over several
    processes is made whole first, as for `to_totals`.

    Parameters
    ----------
    state : AUMState
        Made with `needs`.

    Returns
    -------
    EpochSums
        Its `left_out` counts what was left out, and a warning tells.

    Raises
    ------
    ValueError
        Where the state is of the AUM alone, or nothing was counted.

    Examples
    --------
    >>> import tempfile
    >>> from aum.jax import AUMCalculator, update
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), scores=["confidence"])
    >>> logits, targets, ids = jnp.zeros((2, 2)), jnp.array([0, 1]), jnp.array([0, 1])
    >>> for epoch in range(3):
    ...     state = update(init(2, 2, calculator.needs), logits, targets, ids)
    ...     calculator.add_epoch(to_epoch_sums(state))
    >>> calculator.totals.counts, calculator.scores["confidence"]
    (array([3, 3]), array([0.5, 0.5]))
    """
    if state.labels is None:
        raise ValueError("state: of the AUM alone, want init(num_samples, num_classes, calculator.needs), or to_totals")
    host, left_out = _brought_home(state)
    sums = {"margin": _sums(host), **{name: column.astype(np.float64) for name, column in host.columns.items()}}
    return EpochSums(
        host.count.astype(np.int64), sums, host.labels.astype(np.int64), host.softmax, host.logits, left_out
    )


def _brought_home(state: AUMState) -> tuple[Any, int]:
    """The state on the host, and how much it has left out, of which a warning tells; an error where it has nothing."""
    if state.count.ndim != 1:
        raise ValueError(
            f"state: count of shape {state.count.shape}, want (N,): of a stack of states take one, with "
            "jax.tree.map(lambda leaf: leaf[0], state), or merge them"
        )
    host = jax.device_get(state)
    told = f"{host.invalid} with an id or target out of range, {host.nonfinite} with a margin that is not finite"
    if not host.count.any():
        raise ValueError(
            f"state: nothing was counted; left out: {told}. Call update at every training step, and keep the state "
            "that it returns"
        )
    left_out = int(host.invalid) + int(host.nonfinite)
    if left_out:
        warnings.warn(f"state: left out of the totals: {told}", RuntimeWarning, stacklevel=3)
    return host, left_out


def _sums(host: Any) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = host.total.astype(np.float64) + host.compensation
    return sums
