"""The update of a state by a batch: the one thing of `aum.jax` that runs within the compiled step."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from aum.jax.batch import check_rows, checked, widened
from aum.jax.margins import margins_of
from aum.jax.two_float import add, sum_by_row
from aum_core.scores.needs import columns

if TYPE_CHECKING:
    from aum.jax.state import AUMState
    from aum_core import Margins

__all__ = ["update"]


def update(
    state: AUMState, logits: Any, targets: Any, sample_ids: Any, *, where: Any = None, axis_name: Any = None
) -> AUMState:
    """Measure a batch into the state: the state after it is returned, the one before it is as it was.

    O(B), whatever N, where the state is donated (``jax.jit(step, donate_argnums=...)``), and O(B C) where it sums up
    softmax or logits; otherwise JAX copies it. An id that is there several times in a batch counts as often. Nothing is
    differentiated.

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
        all devices then add the whole batch. Ids and margins travel, and what else the state adds up.

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
    >>> from aum.jax import init
    >>> state, logits = init(3), jnp.array([[2.0, 0.5], [1.0, 3.0], [0.0, 5.0]])
    >>> step = jax.jit(update, donate_argnums=0)
    >>> for epoch in range(2):
    ...     state = step(state, logits, jnp.array([0, 0, -100]), jnp.array([2, 0, 1]))
    >>> state.total, state.count, state.invalid
    (Array([-4.,  0.,  3.], dtype=float32), Array([2, 0, 2], dtype=int32), Array(2, dtype=int32))
    """
    state = jax.tree.map(jnp.asarray, state)
    logits, targets = checked(logits, targets)
    _check_state(state, logits.shape)
    ids = widened(sample_ids, "sample_ids")
    where = jnp.ones(len(logits), bool) if where is None else jnp.asarray(where)
    check_rows(ids, where, len(logits))
    add_batch: Any = partial(_add_batch, axis_name=axis_name)
    mesh = _explicit_mesh(state, logits)
    if mesh is not None:
        # how to lay out sorts and scatters of sharded arrays is the compiler's part; the state stays as it was spread
        add_batch = jax.sharding.auto_axes(
            add_batch, axes=_explicit_axes(mesh), out_sharding=jax.tree.map(partial(_sharding_on, mesh), state)
        )
    after: AUMState = add_batch(state, logits, targets, ids, where)
    return after


def _check_state(state: AUMState, shape: tuple[int, ...]) -> None:
    if state.count.ndim != 1:
        raise ValueError(f"state: count of shape {state.count.shape}, want (N,): one state; vmap goes over a stack")
    for sums in (state.softmax, state.logits):
        if sums is not None and sums.shape[1:] != shape[1:]:
            raise ValueError(f"logits: shape {shape}, want (B, {sums.shape[1]}), as init was told")


def _explicit_axes(mesh: Any) -> tuple[str, ...]:
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in kinds if kind == AxisType.Explicit)


def _explicit_mesh(*arrays: Any) -> Any:
    """The mesh with Explicit axes, as `jax.make_mesh` makes them, that one of the arrays lies on; else None."""
    meshes = [jax.typeof(leaf).sharding.mesh for leaf in jax.tree.leaves(arrays)]
    return next((mesh for mesh in meshes if _explicit_axes(mesh)), None)


def _sharding_on(mesh: Any, array: jax.Array) -> Any:
    sharding = jax.typeof(array).sharding
    return sharding if sharding.mesh == mesh else NamedSharding(mesh, PartitionSpec())


def _add_batch(
    state: AUMState, logits: jax.Array, targets: jax.Array, ids: jax.Array, where: jax.Array, *, axis_name: Any
) -> AUMState:
    size = len(state.count)
    margins: Any = margins_of(logits, targets)
    valid = (ids >= 0) & (ids < size) & (targets >= 0) & (targets < logits.shape[1])
    finite = jnp.isfinite(margins.margin)
    left_out = {"nonfinite": _count(where & valid & ~finite), "invalid": _count(where & ~valid)}
    # what does not count has the row N, which is dropped as it does not exist; a negative one would wrap around
    rows = jnp.where(where & valid & finite, ids, size).astype(jnp.int32)
    batch = rows, margins.margin.astype(state.total.dtype), _beside_margins(state, logits, margins)
    if axis_name is not None:
        batch, left_out = _of_all_devices(batch, left_out, axis_name)
    rows, margin, beside = batch
    counted: dict[str, Any] = {name: getattr(state, name) + number for name, number in left_out.items()}
    return replace(state, **_with_margins(state, rows, margin), **_with_beside(state, rows, beside), **counted)


def _beside_margins(state: AUMState, logits: jax.Array, margins: Margins) -> dict[str, Any]:
    """What a batch (B, ...) adds to the fields of an epoch; nothing where the state is of the AUM alone."""
    needs = state.needs
    if needs is None:
        return {}
    softmax = jax.nn.softmax(logits) if needs.uses_softmax else None
    found = columns(jnp, needs.columns, margins, softmax)
    return {
        "labels": jnp.asarray(margins.target_logit, jnp.int32),
        "columns": {name: each.astype(state.total.dtype) for name, each in found.items()},
        "softmax": softmax.astype(jnp.float32) if softmax is not None and needs.softmax else None,
        "logits": logits.astype(jnp.float32) if needs.logits else None,
    }


def _with_margins(state: AUMState, rows: jax.Array, margin: jax.Array) -> dict[str, Any]:
    """The sums and counts of margins after a batch."""
    own, sums = sum_by_row(rows, margin, nowhere=len(state.count))
    before = state.total.at[own].get(mode="clip"), state.compensation.at[own].get(mode="clip")
    total, compensation = add(before, sums)
    return {
        "total": state.total.at[own].set(total, mode="drop"),
        "compensation": state.compensation.at[own].set(compensation, mode="drop"),
        "count": state.count.at[rows].add(1, mode="drop"),
    }


def _with_beside(state: AUMState, rows: jax.Array, beside: dict[str, Any]) -> dict[str, Any]:
    """The fields of an epoch after a batch."""
    if state.labels is None:
        return {}

    def added(sums: jax.Array, values: jax.Array) -> jax.Array:
        return sums.at[rows].add(values, mode="drop")

    names = "columns", "softmax", "logits"
    sums = {name: jax.tree.map(added, getattr(state, name), beside[name]) for name in names}
    return {"labels": state.labels.at[rows].set(beside["labels"], mode="drop"), **sums}


def _of_all_devices(batch: Any, left_out: Any, axis_name: Any) -> Any:
    """The columns (B, ...) of the whole batch, and what was left out of it, on each device.

    A sum of vectors that are zero but for the own part: `shard_map` then knows that the outcome is the same
    everywhere, which of an all_gather it does not.
    """
    index, size = jax.lax.axis_index(axis_name), jax.lax.axis_size(axis_name)
    placed = jax.tree.map(lambda each: jnp.zeros((size, *each.shape), each.dtype).at[index].set(each), batch)
    gathered, left_out = jax.lax.psum((placed, left_out), axis_name)
    return jax.tree.map(lambda each: each.reshape(-1, *each.shape[2:]), gathered), left_out


def _count(chosen: jax.Array) -> jax.Array:
    return jnp.sum(chosen, dtype=jnp.int32)
