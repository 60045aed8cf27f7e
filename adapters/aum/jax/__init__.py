"""AUM for JAX: state that lives on the device, updated by pure functions inside the compiled step.

In come the arrays of a batch, traced or not. Out comes the next state, and at the end `Totals` or `EpochSums` for the
engine. ``init`` makes the state, ``update`` measures a batch into it, ``to_totals`` brings it home. The state is a
pytree of dense arrays: it goes through `jit` (donate it: an update then costs O(B), whatever N), `scan`, `vmap`,
`shard_map`, `pmap`, sharded arrays and checkpoints like any other. Sums are two-float, a float32 and what it could not
hold, so that they are as exact as float64 where JAX has none.

The other scores and the noise posterior are defined by epochs: ``init`` with ``calculator.needs`` makes the state of
an epoch, and ``to_epoch_sums`` brings it home.

Whoever works outside `jit`, or wants the record of every step, has `AUMCalculator`.

Nothing here differentiates, waits for the device within a step, or changes an array that it was given.
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
from aum.jax.margins import measure
from aum.jax.processes import merge_processes
from aum.jax.state import AUMState, init, merge, to_epoch_sums, to_totals
from aum.jax.step import update
from aum_core import AUMRecord, DatasetWithIndex, EpochSums, Findings, Margins, Needs, ThresholdPlan, Totals

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "AUMState",
    "DatasetWithIndex",
    "EpochSums",
    "Findings",
    "JaxBackend",
    "Margins",
    "Needs",
    "ThresholdPlan",
    "Totals",
    "device_ids",
    "find_by_posterior",
    "find_mislabeled",
    "init",
    "measure",
    "merge",
    "merge_processes",
    "to_epoch_sums",
    "to_totals",
    "update",
]
