"""The formula in JAX: logits and targets in, margins out, inside a compiled step or outside."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from aum.jax.batch import checked, of_class, without_target
from aum_core import Margins

__all__ = ["measure"]

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
