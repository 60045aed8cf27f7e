"""The state on the device, and the update of it: what `aum.jax` has for the compiled step."""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from aum.jax.batch import MAX_SAMPLES, check_rows, checked, of_class, widened, without_target
from aum.jax.two_float import add, sum_by_row
from aum_core import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from aum_core.ids import SampleId

__all__ = [
    "AUMState",
    "add_margins",
    "check_count",
    "counted_rows",
    "init",
    "left_out_of",
    "merge",
    "of_all_devices",
    "on_batch",
    "to_totals",
    "update",
]


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
    if not 1 <= size <= MAX_SAMPLES:
        raise ValueError(
            f"num_samples: {size}, want 1 to {MAX_SAMPLES}: rows are 32-bit; more samples need a state for each shard"
        )
    # each its own buffer: one that is donated twice is an error
    return AUMState(
        total=jnp.zeros(size, float),
        compensation=jnp.zeros(size, float),
        count=jnp.zeros(size, jnp.int32),
        nonfinite=jnp.zeros((), jnp.int32),
        invalid=jnp.zeros((), jnp.int32),
    )


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
    check_count(state.count)
    after: AUMState = on_batch(
        partial(_add_batch, axis_name=axis_name), state, logits, targets, sample_ids, where=where
    )
    return after


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
    left_out = left_out_of(host, "update")
    return Totals.from_rows(host.total.astype(np.float64) + host.compensation, host.count, sample_ids, left_out)


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


def check_count(count: jax.Array) -> None:
    """Refuse a stack of states."""
    if count.ndim != 1:
        raise ValueError(f"state: count of shape {count.shape}, want (N,): one state; vmap goes over a stack")


def on_batch(
    add_batch: Callable[..., Any], state: Any, logits: Any, targets: Any, sample_ids: Any, *, where: Any
) -> Any:
    """Check a batch, and have ``add_batch(state, logits, targets, ids, where)`` make the next state of it."""
    logits, targets = checked(logits, targets)
    ids = widened(sample_ids, "sample_ids")
    where = jnp.ones(len(logits), bool) if where is None else jnp.asarray(where)
    check_rows(ids, where, len(logits))
    mesh = _explicit_mesh(state, logits)
    if mesh is not None:
        # how to lay out sorts and scatters of sharded arrays is the compiler's part; the state stays as it was spread
        add_batch = jax.sharding.auto_axes(
            add_batch, axes=_explicit_axes(mesh), out_sharding=jax.tree.map(partial(_sharding_on, mesh), state)
        )
    return add_batch(state, logits, targets, ids, where)


def counted_rows(
    num_samples: int, logits: jax.Array, targets: jax.Array, ids: jax.Array, where: jax.Array
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """Rows and margins (B,) of a batch, and how many are left out: margins not finite, ids or targets out of range.

    What does not count has the row N. It does not exist: what is sent there is dropped, where a negative one would wrap
    around.
    """
    margin = of_class(logits, targets) - jnp.max(without_target(logits, targets), axis=1)
    valid = (ids >= 0) & (ids < num_samples) & (targets >= 0) & (targets < logits.shape[1])
    finite = jnp.isfinite(margin)
    rows = jnp.where(where & valid & finite, ids, num_samples).astype(jnp.int32)
    return rows, margin, (_count(where & valid & ~finite), _count(where & ~valid))


def add_margins(state: AUMState, rows: jax.Array, margin: jax.Array, left_out: Any) -> AUMState:
    """Add what `counted_rows` gave."""
    own, sums = sum_by_row(rows, margin, nowhere=len(state.count))
    before = state.total.at[own].get(mode="clip"), state.compensation.at[own].get(mode="clip")
    total, compensation = add(before, sums)
    return AUMState(
        total=state.total.at[own].set(total, mode="drop"),
        compensation=state.compensation.at[own].set(compensation, mode="drop"),
        count=state.count.at[rows].add(1, mode="drop"),
        nonfinite=state.nonfinite + left_out[0],
        invalid=state.invalid + left_out[1],
    )


def of_all_devices(columns: Any, left_out: Any, axis_name: Any) -> Any:
    """The columns (B, ...) of the whole batch, and what was left out of it, on each device.

    A sum of vectors that are zero but for the own part: `shard_map` then knows that the outcome is the same
    everywhere, which of an all_gather it does not.
    """
    index, size = jax.lax.axis_index(axis_name), jax.lax.axis_size(axis_name)
    placed = jax.tree.map(lambda each: jnp.zeros((size, *each.shape), each.dtype).at[index].set(each), columns)
    gathered, left_out = jax.lax.psum((placed, left_out), axis_name)  # type: ignore[no-untyped-call] # JAX's
    return jax.tree.map(lambda each: each.reshape(-1, *each.shape[2:]), gathered), left_out


def left_out_of(host: AUMState, update: str) -> int:
    """Count what a state on the host has left out, and warn of it; an error where nothing was counted at all."""
    left_out = f"{host.invalid} with an id or target out of range, {host.nonfinite} with a margin that is not finite"
    if not host.count.any():
        raise ValueError(
            f"state: nothing was counted; left out: {left_out}. Call {update} at every training step, and keep the "
            "state that it returns"
        )
    total = int(host.invalid) + int(host.nonfinite)
    if total:
        warnings.warn(f"state: left out of the totals: {left_out}", RuntimeWarning, stacklevel=3)
    return total


def _add_batch(
    state: AUMState, logits: jax.Array, targets: jax.Array, ids: jax.Array, where: jax.Array, *, axis_name: Any
) -> AUMState:
    rows, margin, left_out = counted_rows(len(state.count), logits, targets, ids, where)
    columns = rows, margin.astype(state.total.dtype)
    if axis_name is not None:
        columns, left_out = of_all_devices(columns, left_out, axis_name)
    return add_margins(state, *columns, left_out)


def _count(chosen: jax.Array) -> jax.Array:
    return jnp.sum(chosen, dtype=jnp.int32)
