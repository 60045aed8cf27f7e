"""One epoch on the device: what the other scores and the noise posterior need beside the margins, added up by sample.

Which columns there are is a matter of the pytree's structure, so it is known when the step is traced: what nobody asked
for is not compiled.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from aum.jax.batch import of_class, without_target
from aum.jax.state import AUMState, add_margins, check_count, counted_rows, init, left_out_of, of_all_devices, on_batch
from aum_core import EpochSums

if TYPE_CHECKING:
    from aum_core import Scores

__all__ = ["EpochState", "init_epoch", "to_epoch_sums", "update_epoch"]


@partial(
    jax.tree_util.register_dataclass, data_fields=["margins", "labels", "columns", "softmax", "logits"], meta_fields=[]
)
@dataclass(frozen=True)
class EpochState:
    """What one epoch has brought so far, by sample, on the device. Made by `init_epoch`.

    Attributes
    ----------
    margins : AUMState
        Their sums and counts.
    labels : Array of shape (N,), int32
        The given label of each sample; -1 where it has not been measured.
    columns : dict of str to Array of shape (N,), float32 (float64 where x64 is on)
        Sums of what the scores need beside the margin.
    softmax, logits : Array of shape (N, C), float32, or None
        Sums of the softmax and of the logits, where the scores need all of them.
    """

    margins: AUMState
    labels: jax.Array
    columns: dict[str, jax.Array]
    softmax: jax.Array | None
    logits: jax.Array | None


def init_epoch(num_samples: int, num_classes: int, scores: Scores) -> EpochState:
    """Make the state of an epoch of which nothing has been measured yet.

    Parameters
    ----------
    num_samples : int
        N, below 2**31. Sample ids are the row numbers 0 to N - 1.
    num_classes : int
        C, the columns of the logits.
    scores : Scores
        Those of the calculator that will get the epoch, ``calculator.scores``: they tell what is to be measured. Once
        the noise posterior needs no more epochs, its N x C numbers are left away, and the step is compiled a second
        time; ``jax.tree.map(jax.numpy.zeros_like, state)`` begins an epoch with the same columns instead.

    Returns
    -------
    EpochState
        16 bytes a sample, 4 for each column, and 4 C each where softmax and logits are summed up.

    Examples
    --------
    >>> from aum_core import Scores
    >>> state = init_epoch(3, 10, Scores(["confidence", "forgetting"]))
    >>> sorted(state.columns), state.softmax is None
    (['confidence', 'correct'], True)
    """
    size = operator.index(num_classes)
    if size < 2:
        raise ValueError(f"num_classes: {size}, want at least 2")
    margins = init(num_samples)
    shape = len(margins.count), size
    return EpochState(
        margins=margins,
        labels=jnp.full(len(margins.count), -1, jnp.int32),
        columns={name: jnp.zeros(len(margins.count), float) for name in scores.needs if name != "margin"},
        softmax=jnp.zeros(shape, jnp.float32) if scores.need_softmax_sums else None,
        logits=jnp.zeros(shape, jnp.float32) if scores.need_logits_sums else None,
    )


def update_epoch(
    state: EpochState, logits: Any, targets: Any, sample_ids: Any, *, where: Any = None, axis_name: Any = None
) -> EpochState:
    """Measure a batch into the state of an epoch: as `update`, with what the other scores need.

    O(B), whatever N, where the state is donated; O(B C) where softmax or logits are summed up.

    Parameters
    ----------
    state : EpochState
    logits, targets, sample_ids, where, axis_name
        As in `update`. Where softmax or logits are summed up, they travel over `axis_name` too.

    Returns
    -------
    EpochState

    Raises
    ------
    TypeError, ValueError
        As `update`.

    Examples
    --------
    >>> from aum_core import Scores
    >>> step = jax.jit(update_epoch, donate_argnums=0)
    >>> logits = jnp.array([[2.0, 0.5], [1.0, 3.0]])
    >>> state = step(init_epoch(3, 2, Scores(["correctness"])), logits, jnp.array([0, 0]), jnp.array([2, 0]))
    >>> state.columns["correct"], state.labels
    (Array([0., 0., 1.], dtype=float32), Array([ 0, -1,  0], dtype=int32))
    """
    state = jax.tree.map(jnp.asarray, state)
    check_count(state.margins.count)
    for sums in (state.softmax, state.logits):
        if sums is not None and jnp.shape(logits)[-1:] != sums.shape[1:]:
            raise ValueError(f"logits: shape {jnp.shape(logits)}, want (B, {sums.shape[1]}), as init_epoch was told")
    after: EpochState = on_batch(
        partial(_add_batch, axis_name=axis_name), state, logits, targets, sample_ids, where=where
    )
    return after


def to_epoch_sums(state: EpochState) -> EpochSums:
    """Bring an epoch home, for `AUMCalculator.add_epoch`.

    The state stays what it is: begin the next epoch with another, or it counts twice. One that is spread over several
    processes is made whole first, as for `to_totals`.

    Parameters
    ----------
    state : EpochState

    Returns
    -------
    EpochSums
        Its `left_out` counts what was left out, and a warning tells.

    Raises
    ------
    ValueError
        Where nothing was counted.

    Examples
    --------
    >>> import tempfile
    >>> from aum.jax import AUMCalculator
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), scores=["confidence"])
    >>> logits, targets, ids = jnp.zeros((2, 2)), jnp.array([0, 1]), jnp.array([0, 1])
    >>> for epoch in range(3):
    ...     state = update_epoch(init_epoch(2, 2, calculator.scores), logits, targets, ids)
    ...     calculator.add_epoch(to_epoch_sums(state))
    >>> calculator.totals.counts, calculator.scores["confidence"]
    (array([3, 3]), array([0.5, 0.5]))
    """
    host = jax.device_get(state)
    check_count(host.margins.count)
    margins = host.margins
    left_out = left_out_of(margins, "update_epoch")
    sums = {name: column.astype(np.float64) for name, column in host.columns.items()}
    sums["margin"] = margins.total.astype(np.float64) + margins.compensation
    return EpochSums(
        margins.count.astype(np.int64), sums, host.labels.astype(np.int64), host.softmax, host.logits, left_out
    )


def _add_batch(
    state: EpochState, logits: jax.Array, targets: jax.Array, ids: jax.Array, where: jax.Array, *, axis_name: Any
) -> EpochState:
    rows, margin, left_out = counted_rows(len(state.labels), logits, targets, ids, where)
    probabilities, dtype = jax.nn.softmax(logits), state.margins.total.dtype
    batch: dict[str, Any] = {
        "rows": rows,
        "margin": margin.astype(dtype),
        "labels": targets.astype(jnp.int32),
        "columns": {name: _column(name, logits, targets, probabilities).astype(dtype) for name in state.columns},
        "softmax": None if state.softmax is None else probabilities.astype(jnp.float32),
        "logits": None if state.logits is None else logits.astype(jnp.float32),
    }
    if axis_name is not None:
        batch, left_out = of_all_devices(batch, left_out, axis_name)
    rows = batch["rows"]

    def add(sums: jax.Array, values: jax.Array) -> jax.Array:
        return sums.at[rows].add(values, mode="drop")

    return EpochState(
        margins=add_margins(state.margins, rows, batch["margin"], left_out),
        labels=state.labels.at[rows].set(batch["labels"], mode="drop"),
        columns=jax.tree.map(add, state.columns, batch["columns"]),
        softmax=None if state.softmax is None else add(state.softmax, batch["softmax"]),
        logits=None if state.logits is None else add(state.logits, batch["logits"]),
    )


def _column(name: str, logits: jax.Array, targets: jax.Array, probabilities: jax.Array) -> Any:
    """A column (B,) of a batch, as `aum_core.epoch_sums.column` defines it."""
    if name == "correct":
        before_target = jnp.arange(logits.shape[1]) < targets[:, None]
        own = of_class(logits, targets)[:, None]
        return ~jnp.any(jnp.where(before_target, logits >= own, logits > own), axis=1)
    own = of_class(probabilities, targets)
    others = without_target(probabilities, targets)
    if name == "confidence":
        return own
    if name == "softmax_margin":
        return own - jnp.max(others, axis=1)
    if name == "error_norm":
        return jnp.sqrt(jnp.sum(jnp.maximum(others, 0.0) ** 2, axis=1) + (1 - own) ** 2)
    raise ValueError(f"state: it has a column {name!r}, which this version cannot measure")
