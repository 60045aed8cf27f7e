"""The formula in JAX: logits and targets in, margins out, inside a compiled step or outside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from aum.jax.batch import checked
from aum_core.margins import MARGIN_FIELDS, Margins

__all__ = ["margins_of", "measure"]

jax.tree_util.register_dataclass(Margins, list(MARGIN_FIELDS), [])


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
        A pytree of (B,) arrays, without gradient; classes are int32. A target outside [0, C) has a `target_val` and
        `margin` of -inf.

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
    margins = margins_of(logits, targets)
    other_val = _of_class(logits, margins.other_logit)  # of a tie of zeros the first, which may have a sign
    return replace(margins, other_val=other_val, margin=margins.target_val - other_val)


def margins_of(logits: jax.Array, targets: jax.Array) -> Margins:
    """Margins of a checked batch, but for the sign of zeros. What is not used of them is not compiled."""
    classes = jnp.arange(logits.shape[1])
    is_target = targets[:, None] == classes
    others = jnp.where(is_target, -jnp.inf, logits)
    largest: Any = jnp.max(others, axis=1, keepdims=True)
    # argmax takes several times as long; a NaN is the largest of all, here as there
    is_largest = ((others == largest) | jnp.isnan(others)) & ~is_target
    other_logit: Any = jnp.min(jnp.where(is_largest, classes, logits.shape[1]), axis=1)
    is_class = (targets >= 0) & (targets < logits.shape[1])
    target_val: Any = jnp.where(is_class, _of_class(logits, targets), -jnp.inf)
    other_val = largest[:, 0]
    return Margins(targets, target_val, other_logit, other_val, target_val - other_val)  # type: ignore[arg-type] # JAX's


def _of_class(logits: jax.Array, classes: Any) -> Any:
    """Logits (B,) of a class for each row; that of another where it is none."""
    return jnp.take_along_axis(logits, classes[:, None], axis=1, mode="clip")[:, 0]
