"""JAX arrays for the engine, outside `jit`: what is on the host stays there, the rest is reduced where it lies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from aum.jax.batch import fitting
from aum.jax.margins import measure
from aum_core import Margins, compute_margins
from aum_core.margins import TargetError, check_logits, widened

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["JaxBackend"]


class JaxBackend:
    """JAX arrays for the engine, outside `jit`: the `aum_core.Backend` of this framework.

    Examples
    --------
    >>> JaxBackend().measure(jax.numpy.array([[1.0, 4.0]]), jax.numpy.array([1])).margin
    array([3.], dtype=float32)
    """

    name = "jax"

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Give an array on the host; see `aum_core.Backend.to_numpy`.

        Raises
        ------
        TypeError
            For a traced value: only the compiled step knows what it is.
        """
        if isinstance(array, jax.core.Tracer):
            raise TypeError(
                f"{array}: a traced value, of which only the compiled step knows; inside jit, grad or scan call "
                "aum.jax.update, or return aum.jax.measure and call accumulate_measured outside"
            )
        return np.asarray(array)

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch, on the device of its logits; see `aum_core.Backend.measure`."""
        if isinstance(logits, jax.Array) and not isinstance(logits, jax.core.Tracer) and not _on_host(logits):
            return _measure_on_device(logits, targets)
        return compute_margins(self.to_numpy(logits), self.to_numpy(targets), other_logit=other_logit)

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give the logits of a batch on the host; see `aum_core.Backend.logits`."""
        return widened(self.to_numpy(logits))


def _on_host(array: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in array.devices())


_measure_jitted = jax.jit(measure)


def _measure_on_device(logits: jax.Array, targets: Any) -> Margins:
    """Reduce logits where they are; (B,) vectors come to the host in one transfer, the targets among them."""
    check_logits(logits.shape, logits.dtype)
    if not isinstance(targets, jax.Array):
        targets = fitting(targets, "targets")  # jit would cut 64 bits to 32 without a word
    margins: Margins = jax.device_get(_measure_jitted(logits, targets))
    wrong = (margins.target_logit < 0) | (margins.target_logit >= logits.shape[1])
    if wrong.any():
        row = int(wrong.argmax())
        raise TargetError(row, int(margins.target_logit[row]), logits.shape[1])
    classes = {name: getattr(margins, name).astype(np.int64) for name in ("target_logit", "other_logit")}
    return replace(margins, **classes)
