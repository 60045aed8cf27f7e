"""JAX arrays for the engine, outside `jit`: what is on the host stays there, the rest is reduced where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from aum.jax.batch import stand_in
from aum.jax.margins import measure
from aum_core import Margins, compute_margins
from aum_core.margins import TargetError, check_logits, widened

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["JaxBackend"]


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
