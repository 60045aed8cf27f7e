"""AUM for JAX: state that lives on the device, updated by pure functions inside the compiled step.

``init`` makes the state, ``update`` measures a batch into it, ``to_totals`` brings it home. The state is a pytree of
dense arrays: it goes through `jit` (donate it: an update then costs O(B), whatever N), `scan`, `vmap`, `shard_map`,
`pmap`, sharded arrays and checkpoints like any other. Sums are two-float, a float32 and what it could not hold, so
that they are as exact as float64 where JAX has none.

``init_epoch``, ``update_epoch`` and ``to_epoch_sums`` do the same for the other scores and the noise posterior, which
are defined by epochs.

Whoever works outside `jit`, or wants the record of every step, has `AUMCalculator`.
"""

try:
    import jax  # noqa: F401 # first, so that its absence is told in one line
except ModuleNotFoundError as error:
    if error.name != "jax":
        raise
    raise ModuleNotFoundError("aum.jax needs JAX: pip install 'aum[jax]'", name="jax") from error

from aum.jax.backend import JaxBackend
from aum.jax.batch import device_ids
from aum.jax.calculator import AUMCalculator, find_by_posterior, find_mislabeled
from aum.jax.epochs import EpochState, init_epoch, to_epoch_sums, update_epoch
from aum.jax.margins import measure
from aum.jax.processes import merge_processes
from aum.jax.state import AUMState, init, merge, to_totals, update
from aum_core import AUMRecord, DatasetWithIndex, EpochSums, Findings, Margins, ThresholdPlan, Totals

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
