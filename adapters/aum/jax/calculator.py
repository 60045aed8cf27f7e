"""The engine's calculator with JAX arrays, outside `jit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

import aum_core
from aum._ranking import write_ranking
from aum.jax.backend import JaxBackend
from aum_core.detection import with_calculator

if TYPE_CHECKING:
    import os

    from aum_core import Margins
    from aum_core.records import RecordLog, SampleIds

__all__ = ["AUMCalculator", "find_by_posterior", "find_mislabeled"]


def _log_on_disk(sample_ids: SampleIds, save_dir: str | os.PathLike[str]) -> RecordLog:
    from aum.parquet import RecordsOnDisk  # noqa: PLC0415 # pyarrow is for those who keep records

    return RecordsOnDisk(sample_ids, save_dir=save_dir, rank=jax.process_index(), num_ranks=jax.process_count())


class AUMCalculator(aum_core.AUMCalculator):
    """Keeps the Area Under the Margin of every sample, outside `jit`, with records if wished.

    For the parameters see `aum_core.AUMCalculator`. It waits for the device at every call; `update` of this module
    does not.

    Examples
    --------
    >>> import tempfile
    >>> import jax.numpy as jnp
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), compressed=True)
    >>> logits = jnp.array([[2.0, 0.5], [1.0, 3.0]])
    >>> records = calculator.update(logits, jnp.array([0, 0]), sample_ids=["cat.png", "dog.png"])
    >>> records["dog.png"].margin
    -2.0
    """

    _make_backend = JaxBackend
    _make_log = staticmethod(_log_on_disk)
    _write_ranking = staticmethod(write_ranking)

    def accumulate_measured(self, margins: Margins, sample_ids: Any, *, logits: Any = None) -> None:  # noqa: D102 # as above
        super().accumulate_measured(jax.device_get(margins), sample_ids, logits=logits)  # columns in one transfer


find_by_posterior = with_calculator(aum_core.find_by_posterior, AUMCalculator, "aum.jax")
find_mislabeled = with_calculator(
    aum_core.find_mislabeled,
    AUMCalculator,
    "aum.jax",
    notes="A compiled training function ends with ``calculator.add_totals(to_totals(state))``.",
)
