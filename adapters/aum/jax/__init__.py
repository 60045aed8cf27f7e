"""AUM for JAX: state that lives on the device, updated by pure functions inside the compiled step.

``init`` makes the state, ``update`` measures a batch into it, ``to_totals`` brings it home. The state is a pytree of
dense arrays: it goes through `jit` (donate it: an update then costs O(B), whatever N), `scan`, `vmap`, `shard_map`,
`pmap`, sharded arrays and checkpoints like any other. Sums are two-float, a float32 and what it could not hold, so
that they are as exact as float64 where JAX has none.

``init_epoch``, ``update_epoch`` and ``to_epoch_sums`` do the same for the other scores and the noise posterior, which
are defined by epochs.

Whoever works outside `jit`, or wants the record of every step, has `AUMCalculator`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import aum_core
from aum_core import AUMRecord, DatasetWithIndex, EpochSums, Findings, Margins, ThresholdPlan, Totals, compute_margins
from aum_core.margins import TargetError, check_logits, widened

try:
    import jax  # noqa: TID251 # the one module that may
    import jax.numpy as jnp  # noqa: TID251 # as above
except ModuleNotFoundError as error:
    if error.name != "jax":
        raise
    raise ModuleNotFoundError("aum.jax needs JAX: pip install 'aum[jax]'", name="jax") from error

from aum._processes import own_totals
from aum._ranking import write_ranking
from aum.jax.batch import checked, fitting, of_class, stand_in, without_target
from aum.jax.epochs import EpochState, init_epoch, to_epoch_sums, update_epoch
from aum.jax.processes import merge_prepared
from aum.jax.state import AUMState, init, merge, to_totals, update

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aum_core.ids import SampleId
    from aum_core.records import RecordLog, SampleIds

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "AUMState",
    "DatasetWithIndex",
    "EpochState",
    "EpochSums",
    "Findings",
    "JaxBackend",
    "Margins",
    "ThresholdPlan",
    "Totals",
    "device_ids",
    "find_by_posterior",
    "find_mislabeled",
    "init",
    "init_epoch",
    "measure",
    "merge",
    "merge_processes",
    "to_epoch_sums",
    "to_totals",
    "update",
    "update_epoch",
]

jax.tree_util.register_dataclass(Margins, ["target_val", "other_logit", "other_val", "margin"], [])


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
    logits, targets = checked(logits, targets)
    columns = jnp.arange(logits.shape[1])
    others = without_target(logits, targets)
    largest = jnp.max(others, axis=1, keepdims=True)
    # argmax takes several times as long; a NaN is the largest of all, here as there
    is_largest = ((others == largest) | jnp.isnan(others)) & (targets[:, None] != columns)
    other_logit: Any = jnp.min(jnp.where(is_largest, columns, logits.shape[1]), axis=1)
    other_val = of_class(logits, other_logit)  # not `largest`, whose zero may have another sign
    target_val = of_class(logits, targets)
    return Margins(target_val, other_logit, other_val, target_val - other_val)


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
    return fitting(np.asarray(sample_ids), "sample_ids")


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


def _log_on_disk(sample_ids: SampleIds, save_dir: str | os.PathLike[str]) -> RecordLog:
    from aum.parquet import RecordsOnDisk  # noqa: PLC0415 # pyarrow is for those who keep records

    return RecordsOnDisk(sample_ids, save_dir=save_dir, rank=jax.process_index(), num_ranks=jax.process_count())


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

    _make_backend = JaxBackend
    _make_log = staticmethod(_log_on_disk)
    _write_ranking = staticmethod(write_ranking)


find_by_posterior = partial(aum_core.find_by_posterior, calculator=AUMCalculator)
"""`aum_core.find_by_posterior` with calculators of this framework."""

find_mislabeled = partial(aum_core.find_mislabeled, calculator=AUMCalculator)
"""`aum_core.find_mislabeled` with calculators that take JAX arrays.

A compiled training function ends with ``calculator.add_totals(to_totals(state))``.
"""


def _on_host(array: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in array.devices())


_measure_jitted = jax.jit(measure)


def _measure_on_device(logits: jax.Array, targets: Any) -> Margins:
    """Reduce logits where they are; (B,) vectors come to the host together."""
    check_logits(stand_in(logits))
    margins, host_targets = jax.device_get((_measure_jitted(logits, targets), targets))
    wrong = (host_targets < 0) | (host_targets >= logits.shape[1])
    if wrong.any():
        row = int(wrong.reshape(-1).argmax())
        raise TargetError(row, int(host_targets.reshape(-1)[row]), logits.shape[1])
    return Margins(margins.target_val, margins.other_logit.astype(np.int64), margins.other_val, margins.margin)
