"""AUM for JAX: state that lives on the device, updated by pure functions inside the compiled step.

``init`` makes the state, ``update`` measures a batch into it, ``to_totals`` brings it home. The state is a pytree of
dense arrays: it goes through `jit` (donate it: an update then costs O(B), whatever N), `scan`, `vmap`, `shard_map`,
`pmap`, sharded arrays and checkpoints like any other. Sums are two-float, a float32 and what it could not hold, so
that they are as exact as float64 where JAX has none.

Whoever works outside `jit`, or wants the record of every step, has `AUMCalculator`.
"""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import aum_core
from aum_core import AUMRecord, DatasetWithIndex, Findings, Margins, ThresholdPlan, Totals, compute_margins
from aum_core.margins import TargetError, check_logits, check_targets, widened

try:
    import jax  # noqa: TID251 # the one module that may
    import jax.numpy as jnp  # noqa: TID251 # as above
    from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: TID251 # as above
except ModuleNotFoundError as error:
    if error.name != "jax":
        raise
    raise ModuleNotFoundError("aum.jax needs JAX: pip install 'aum[jax]'", name="jax") from error

from aum._jax_processes import merge_prepared
from aum._processes import own_totals
from aum._ranking import write_ranking
from aum._two_float import add, sum_by_row

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from aum_core.belief_window import PosteriorModel
    from aum_core.calculator import KeepPosterior, NonFinite
    from aum_core.sample_index import SampleId

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "AUMState",
    "DatasetWithIndex",
    "Findings",
    "JaxBackend",
    "Margins",
    "ThresholdPlan",
    "Totals",
    "device_ids",
    "find_by_posterior",
    "find_mislabeled",
    "init",
    "measure",
    "merge",
    "merge_processes",
    "to_totals",
    "update",
]

_MAX_SAMPLES = 2**31 - 1

jax.tree_util.register_dataclass(Margins, ["target_val", "other_logit", "other_val", "margin"], [])


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["total", "compensation", "count", "nonfinite", "invalid"],
    meta_fields=[],
)
@dataclass(frozen=True)
class AUMState:
    """Sum and count of the margins of each sample, on the device. Made by `init`.

    Attributes
    ----------
    total : Array of shape (N,), float32 (float64 where x64 is on)
        Sum of the margins of each sample, rounded.
    compensation : Array of shape (N,), as `total`
        What the rounding left out: the sum is ``total + compensation``.
    count : Array of shape (N,), int32
        Number of measurements of each sample.
    nonfinite : Array of shape (), int32
        Measurements left out because their margin was NaN or infinite.
    invalid : Array of shape (), int32
        Measurements left out because their id was outside [0, N) or their target outside [0, C).
    """

    total: jax.Array
    compensation: jax.Array
    count: jax.Array
    nonfinite: jax.Array
    invalid: jax.Array


def init(num_samples: int) -> AUMState:
    """Make the state of a data set of which nothing has been measured yet.

    Parameters
    ----------
    num_samples : int
        N, below 2**31. Sample ids are the row numbers 0 to N - 1.

    Returns
    -------
    AUMState
        12 bytes a sample, on the default device. To spread it over a mesh: ``jax.device_put(init(N), sharding)``.

    Examples
    --------
    >>> init(3).count
    Array([0, 0, 0], dtype=int32)
    """
    size = operator.index(num_samples)
    if not 1 <= size <= _MAX_SAMPLES:
        raise ValueError(
            f"num_samples: {size}, want 1 to {_MAX_SAMPLES}: rows are 32-bit; more samples need a state for each shard"
        )
    # each its own buffer: one that is donated twice is an error
    return AUMState(
        total=jnp.zeros(size, float),
        compensation=jnp.zeros(size, float),
        count=jnp.zeros(size, jnp.int32),
        nonfinite=jnp.zeros((), jnp.int32),
        invalid=jnp.zeros((), jnp.int32),
    )


def measure(logits: Any, targets: Any) -> Margins:
    """Margin of each sample of a batch, as `aum_core.compute_margins` but pure, traceable and on the device.

    ``M(x, y) = z_y(x) - max_{i != y} z_i(x)``, equation 1 of Pleiss et al. 2020 (arXiv 2001.10528).

    For the records of every step: return it from the compiled step, and give it to
    `AUMCalculator.accumulate_measured` one step late, when the device has long been done with it.

    Parameters
    ----------
    logits : Array of shape (B, C), float16, bfloat16, float32 or float64
        Raw outputs before any softmax, C >= 2. Half types are widened to float32 first.
    targets : Array of shape (B,) or (B, 1), any integer dtype

    Returns
    -------
    Margins
        A pytree of (B,) arrays, without gradient. A target outside [0, C) has a `target_val` and `margin` of -inf.

    Raises
    ------
    TypeError, ValueError
        Where shapes or dtypes do not fit; under `jit` when it is traced.

    Examples
    --------
    >>> logits = jnp.array([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0]])
    >>> jax.jit(measure)(logits, jnp.array([0, 2])).margin
    Array([ 1.5, -2. ], dtype=float32)
    """
    logits, targets = _checked(logits, targets)
    columns = jnp.arange(logits.shape[1])
    others = _without_target(logits, targets)
    largest = jnp.max(others, axis=1, keepdims=True)
    # argmax takes several times as long; a NaN is the largest of all, here as there
    is_largest = ((others == largest) | jnp.isnan(others)) & (targets[:, None] != columns)
    other_logit: Any = jnp.min(jnp.where(is_largest, columns, logits.shape[1]), axis=1)
    other_val = _of_class(logits, other_logit)  # not `largest`, whose zero may have another sign
    target_val = _of_class(logits, targets)
    return Margins(target_val, other_logit, other_val, target_val - other_val)


def update(
    state: AUMState, logits: Any, targets: Any, sample_ids: Any, *, where: Any = None, axis_name: Any = None
) -> AUMState:
    """Measure a batch into the state: the state after it is returned, the one before it is as it was.

    O(B), whatever N, where the state is donated (``jax.jit(step, donate_argnums=...)``); otherwise JAX copies it.
    An id that is there several times in a batch counts as often. Nothing is differentiated.

    Parameters
    ----------
    state : AUMState
    logits : Array of shape (B, C), float16, bfloat16, float32 or float64
        Raw outputs of the training forward pass, before any softmax, C >= 2.
    targets : Array of shape (B,) or (B, 1), any integer dtype
        The assigned classes. One outside [0, C) is left out and counted in ``state.invalid``.
    sample_ids : Array of shape (B,), any integer dtype
        Rows of the data set. One outside [0, N) is left out and counted in ``state.invalid``.
    where : Array of shape (B,), bool, optional
        False for rows that are padding. The caller knows them: they are left out without being counted as wrong.
    axis_name : str or tuple of str, optional
        Under `shard_map` and `pmap`, the axis over which the batch is split while the state is the same everywhere:
        all devices then add the whole batch. Only ids and margins travel.

    Returns
    -------
    AUMState

    Raises
    ------
    TypeError, ValueError
        Where shapes or dtypes do not fit, under `jit` when it is traced; where ids or targets from the host do not
        fit 32 bits. As arguments of a jitted function those are cut to 32 bits before anybody can see them: see
        `device_ids`.

    Examples
    --------
    >>> state, logits = init(3), jnp.array([[2.0, 0.5], [1.0, 3.0], [0.0, 5.0]])
    >>> step = jax.jit(update, donate_argnums=0)
    >>> for epoch in range(2):
    ...     state = step(state, logits, jnp.array([0, 0, -100]), jnp.array([2, 0, 1]))
    >>> state.total, state.count, state.invalid
    (Array([-4.,  0.,  3.], dtype=float32), Array([2, 0, 2], dtype=int32), Array(2, dtype=int32))
    """
    state = jax.tree.map(jnp.asarray, state)
    if state.count.ndim != 1:
        raise ValueError(f"state: count of shape {state.count.shape}, want (N,): one state; vmap goes over a stack")
    logits, targets = _checked(logits, targets)
    ids = _widened(sample_ids, "sample_ids")
    where = jnp.ones(len(logits), bool) if where is None else jnp.asarray(where)
    _check_rows(ids, where, len(logits))
    add_batch = partial(_add_batch, axis_name=axis_name)
    mesh = _explicit_mesh(state, logits)
    if mesh is not None:
        # how to lay out sorts and scatters of sharded arrays is the compiler's part; the state stays as it was spread
        add_batch = jax.sharding.auto_axes(
            add_batch, axes=_explicit_axes(mesh), out_sharding=jax.tree.map(partial(_sharding_on, mesh), state)
        )
    return add_batch(state, logits, targets, ids, where)


def merge(a: AUMState, b: AUMState) -> AUMState:
    """State of what both have measured, of the same data set: of shards, say, or of the devices of a mesh.

    Examples
    --------
    >>> logits, targets = jnp.array([[2.0, 0.5]]), jnp.array([0])
    >>> shards = [update(init(2), logits, targets, jnp.array(ids)) for ids in ([1], [1])]
    >>> merge(*shards).total
    Array([0., 3.], dtype=float32)
    """
    if a.count.shape != b.count.shape:
        raise ValueError(f"a, b: counts of shapes {a.count.shape} and {b.count.shape}, want states of one data set")
    total, compensation = add((a.total, a.compensation), (b.total, b.compensation))
    return AUMState(total, compensation, a.count + b.count, a.nonfinite + b.nonfinite, a.invalid + b.invalid)


def to_totals(state: AUMState, sample_ids: Sequence[SampleId] | NDArray[Any] | None = None) -> Totals:
    """Bring a state home, for rankings, files, thresholds and merging in float64.

    The state stays what it is and where it is. One that is spread over several processes is made whole first, with
    ``jax.experimental.multihost_utils.process_allgather(state, tiled=True)``.

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
    >>> state = update(init(3), jnp.array([[2.0, 0.5]]), jnp.array([0]), jnp.array([2]))
    >>> to_totals(state, ["cat.png", "dog.png", "owl.png"]).sample_ids.tolist()
    ['owl.png']
    """
    host = jax.device_get(state)
    if host.count.ndim != 1:
        raise ValueError(
            f"state: count of shape {host.count.shape}, want (N,): of a stack of states take one, with "
            "jax.tree.map(lambda leaf: leaf[0], state), or merge them"
        )
    left_out = f"{host.invalid} with an id or target out of range, {host.nonfinite} with a margin that is not finite"
    if not host.count.any():
        raise ValueError(
            f"state: nothing was counted; left out: {left_out}. Call update at every training step, and keep the "
            "state that it returns"
        )
    sums = host.total.astype(np.float64) + host.compensation
    totals = Totals.from_rows(sums, host.count, sample_ids, int(host.invalid) + int(host.nonfinite))
    if totals.left_out:
        warnings.warn(f"state: left out of the totals: {left_out}", RuntimeWarning, stacklevel=2)
    return totals


def merge_processes(
    measured: AUMState | aum_core.AUMCalculator | Totals,
    sample_ids: Sequence[SampleId] | NDArray[Any] | None = None,
) -> Totals:
    """Totals of all processes of a `jax.distributed` job, on all of them. Every process must call it.

    Nothing of what the processes have is changed, so calling it twice doubles nothing. It is as exact as one process,
    with x64 and without.

    Parameters
    ----------
    measured : AUMState, AUMCalculator or Totals
        What this process has measured: of its own samples. A state that the whole job shares, sharded or replicated,
        has everything already, and needs `to_totals` alone.
    sample_ids : sequence of N int or str, optional
        The names of the rows of a state.

    Returns
    -------
    Totals
        In the order of the ids, ints before strs.

    Raises
    ------
    ValueError
        On all processes, where something is wrong on one or they differ in options.

    Examples
    --------
    >>> state = update(init(3), jnp.array([[2.0, 0.5]]), jnp.array([0]), jnp.array([2]))
    >>> merge_processes(state).sample_ids  # of all processes, after jax.distributed.initialize()
    array([2])
    """
    return merge_prepared(partial(_own_totals, measured, sample_ids))


def _own_totals(measured: Any, sample_ids: Any) -> tuple[Totals, dict[str, Any]]:
    if not isinstance(measured, AUMState):
        if sample_ids is not None:
            raise ValueError("sample_ids: they name the rows of a state; calculators and totals have their own")
        return own_totals(measured)
    if not measured.count.is_fully_addressable:
        raise ValueError("measured: a state that is spread over the processes has everything already: see to_totals")
    if measured.count.any():
        return to_totals(measured, sample_ids), {}
    nothing = Totals()
    nothing.left_out = int(measured.invalid) + int(measured.nonfinite)
    return nothing, {}


def device_ids(sample_ids: Any) -> NDArray[np.int32]:
    """Give ids from the host as int32 for a compiled step, where JAX would cut 64 bits to 32 without a word.

    Positions in a data set fit; this is for ids that come from elsewhere.

    Parameters
    ----------
    sample_ids : array_like of shape (B,), any integer dtype

    Raises
    ------
    TypeError, ValueError
        Where ids are no integers, or one does not fit.

    Examples
    --------
    >>> device_ids(np.array([7, 3]))
    array([7, 3], dtype=int32)
    """
    return _fitting(np.asarray(sample_ids), "sample_ids")


class JaxBackend:
    """JAX arrays for the engine, outside `jit`."""

    name = "jax"

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Give an array on the host; a view of its memory where it is there already."""
        if isinstance(array, jax.core.Tracer):
            raise TypeError(
                f"{array}: a traced value, of which only the compiled step knows; inside jit, grad or scan call "
                "aum.jax.update, or return aum.jax.measure and call accumulate_measured outside"
            )
        return np.asarray(array)

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch: with NumPy where the logits are there already, else on their device."""
        if isinstance(logits, jax.Array) and not isinstance(logits, jax.core.Tracer) and not _on_host(logits):
            return _measure_on_device(logits, targets)
        return compute_margins(self.to_numpy(logits), self.to_numpy(targets), other_logit=other_logit)

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give the logits of a batch on the host, half types widened."""
        return widened(self.to_numpy(logits))


class AUMCalculator(aum_core.AUMCalculator):
    """Keeps the Area Under the Margin of every sample, outside `jit`, with records if wished.

    As `aum_core.AUMCalculator`, whose docstring has the parameters. It waits for the device at every call; `update`
    of this module does not.

    Examples
    --------
    >>> import tempfile
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), compressed=True)
    >>> logits = jnp.array([[2.0, 0.5], [1.0, 3.0]])
    >>> records = calculator.update(logits, jnp.array([0, 0]), sample_ids=["cat.png", "dog.png"])
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
            backend=JaxBackend(),
            nonfinite=nonfinite,
            scores=scores,
            noise_posterior=noise_posterior,
            posterior_model=posterior_model,
            log=None if compressed else _log_on_disk(save_dir),
        )


find_by_posterior = partial(aum_core.find_by_posterior, calculator=AUMCalculator)
"""`aum_core.find_by_posterior` with calculators of this framework."""

find_mislabeled = partial(aum_core.find_mislabeled, calculator=AUMCalculator)
"""`aum_core.find_mislabeled` with calculators that take JAX arrays.

A compiled training function ends with ``calculator.add_totals(to_totals(state))``.
"""


def _log_on_disk(save_dir: str | os.PathLike[str]) -> Any:
    from aum.parquet import RecordsOnDisk  # noqa: PLC0415 # pyarrow is for those who keep records

    return partial(RecordsOnDisk, save_dir=save_dir, rank=jax.process_index(), num_ranks=jax.process_count())


def _checked(logits: Any, targets: Any) -> tuple[Any, Any]:
    """Check shapes and dtypes, which are known when tracing; half types widened, targets (B,) of at least 32 bits."""
    logits, targets = jnp.asarray(logits), _widened(targets, "targets")
    dtype = check_logits(_stand_in(logits))
    check_targets(_stand_in(targets), logits.shape)
    return jax.lax.stop_gradient(logits).astype(dtype), targets.reshape(-1)


def _check_rows(ids: jax.Array, where: jax.Array, num_rows: int) -> None:
    if ids.shape != (num_rows,):
        raise ValueError(f"sample_ids: shape {ids.shape}, want ({num_rows},): one id per row of logits")
    if where.dtype != bool or where.shape != (num_rows,):
        raise ValueError(f"where: {where.dtype} of shape {where.shape}, want bool of shape ({num_rows},)")


def _stand_in(array: jax.Array) -> NDArray[Any]:
    """An array of the same form that holds one number, for the engine to check."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def _widened(values: Any, name: str) -> jax.Array:
    """Integers of at least 32 bits, so that they compare with N and C as they are."""
    if not isinstance(values, jax.Array):
        return jnp.asarray(_fitting(np.asarray(values), name))
    _check_integers(values.dtype, name)
    return values.astype(jax.dtypes.canonicalize_dtype(jnp.promote_types(values.dtype, jnp.int32)))


def _fitting(values: NDArray[Any], name: str) -> NDArray[np.int32]:
    if not values.size:
        return values.astype(np.int32)
    _check_integers(values.dtype, name)
    fits = (values >= -(2**31)) & (values < 2**31)
    if not fits.all():
        raise ValueError(
            f"{name}: {values[~fits].flat[0]} does not fit 32 bits, want row numbers below {_MAX_SAMPLES}; "
            "aum_core.SampleIndex numbers ids of any kind"
        )
    return values.astype(np.int32)


def _check_integers(dtype: Any, name: str) -> None:
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name}: dtype {dtype}, want integers of shape (B,)")


def _without_target(logits: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.where(targets[:, None] == jnp.arange(logits.shape[1]), -jnp.inf, logits)


def _of_class(logits: jax.Array, classes: jax.Array) -> Any:
    """Logits (B,) of a class for each row; -inf where it is none, before it could be another row's."""
    inside = (classes >= 0) & (classes < logits.shape[1])
    return jnp.where(inside, jnp.take_along_axis(logits, classes[:, None], axis=1, mode="clip")[:, 0], -jnp.inf)


def _explicit_axes(mesh: Any) -> tuple[str, ...]:
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in kinds if kind == AxisType.Explicit)


def _explicit_mesh(*arrays: Any) -> Any:
    """The mesh with Explicit axes, as `jax.make_mesh` makes them, that one of the arrays lies on; else None."""
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(arrays)]
    return next((mesh for mesh in meshes if _explicit_axes(mesh)), None)


def _sharding_on(mesh: Any, array: jax.Array) -> Any:
    sharding = jax.typeof(array).sharding
    return sharding if sharding.mesh == mesh else NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call] # JAX's


def _add_batch(
    state: AUMState, logits: jax.Array, targets: jax.Array, ids: jax.Array, where: jax.Array, *, axis_name: Any
) -> AUMState:
    num_samples, num_classes = len(state.count), logits.shape[1]
    margin = _of_class(logits, targets) - jnp.max(_without_target(logits, targets), axis=1)
    margin = margin.astype(state.total.dtype)
    valid = (ids >= 0) & (ids < num_samples) & (targets >= 0) & (targets < num_classes)
    finite = jnp.isfinite(margin)
    # row N does not exist: what is sent there is dropped, where a negative one would wrap around
    rows = jnp.where(where & valid & finite, ids, num_samples).astype(jnp.int32)
    left_out = _count(where & valid & ~finite), _count(where & ~valid)
    if axis_name is not None:
        rows, margin, left_out = _of_all_devices(rows, margin, left_out, axis_name)
    own, sums = sum_by_row(rows, margin, nowhere=num_samples)
    before = state.total.at[own].get(mode="clip"), state.compensation.at[own].get(mode="clip")
    total, compensation = add(before, sums)
    return AUMState(
        total=state.total.at[own].set(total, mode="drop"),
        compensation=state.compensation.at[own].set(compensation, mode="drop"),
        count=state.count.at[rows].add(1, mode="drop"),
        nonfinite=state.nonfinite + left_out[0],
        invalid=state.invalid + left_out[1],
    )


def _count(chosen: jax.Array) -> jax.Array:
    return jnp.sum(chosen, dtype=jnp.int32)


def _of_all_devices(rows: jax.Array, margin: jax.Array, left_out: Any, axis_name: Any) -> Any:
    """The rows and margins of the whole batch, and what was left out of it, on each device.

    A sum of vectors that are zero but for the own part: `shard_map` then knows that the outcome is the same
    everywhere, which of an all_gather it does not.
    """
    index, size = jax.lax.axis_index(axis_name), jax.lax.axis_size(axis_name)
    placed = [jnp.zeros((size, *each.shape), each.dtype).at[index].set(each) for each in (rows, margin)]
    (rows, margin), left_out = jax.lax.psum((placed, left_out), axis_name)  # type: ignore[no-untyped-call] # JAX's
    return rows.reshape(-1), margin.reshape(-1), left_out


def _on_host(array: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in array.devices())


_measure_jitted = jax.jit(measure)


def _measure_on_device(logits: jax.Array, targets: Any) -> Margins:
    """Reduce logits where they are; (B,) vectors come to the host together."""
    check_logits(_stand_in(logits))
    margins, host_targets = jax.device_get((_measure_jitted(logits, targets), targets))
    wrong = (host_targets < 0) | (host_targets >= logits.shape[1])
    if wrong.any():
        row = int(wrong.reshape(-1).argmax())
        raise TargetError(row, int(host_targets.reshape(-1)[row]), logits.shape[1])
    return Margins(margins.target_val, margins.other_logit.astype(np.int64), margins.other_val, margins.margin)
