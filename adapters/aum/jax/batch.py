"""A batch inside the compiled step: what can be checked of it while it is traced, and its logits by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from aum_core.margins import check_logits, check_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_SAMPLES", "check_rows", "checked", "fitting", "of_class", "stand_in", "widened", "without_target"]

MAX_SAMPLES = 2**31 - 1


def checked(logits: Any, targets: Any) -> tuple[Any, Any]:
    """Check shapes and dtypes, which are known when tracing; half types widened, targets (B,) of at least 32 bits."""
    logits, targets = jnp.asarray(logits), widened(targets, "targets")
    dtype = check_logits(stand_in(logits))
    check_targets(stand_in(targets), logits.shape)
    return jax.lax.stop_gradient(logits).astype(dtype), targets.reshape(-1)


def check_rows(ids: jax.Array, where: jax.Array, num_rows: int) -> None:
    """Check shapes and dtypes of what goes with each row of the logits."""
    if ids.shape != (num_rows,):
        raise ValueError(f"sample_ids: shape {ids.shape}, want ({num_rows},): one id per row of logits")
    if where.dtype != bool or where.shape != (num_rows,):
        raise ValueError(f"where: {where.dtype} of shape {where.shape}, want bool of shape ({num_rows},)")


def stand_in(array: jax.Array) -> NDArray[Any]:
    """An array of the same form that holds one number, for the engine to check."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def widened(values: Any, name: str) -> jax.Array:
    """Integers of at least 32 bits, so that they compare with N and C as they are."""
    if not isinstance(values, jax.Array):
        return jnp.asarray(fitting(np.asarray(values), name))
    _check_integers(values.dtype, name)
    return values.astype(jax.dtypes.canonicalize_dtype(jnp.promote_types(values.dtype, jnp.int32)))


def fitting(values: NDArray[Any], name: str) -> NDArray[np.int32]:
    """Integers of the host as int32; an error where one does not fit."""
    if not values.size:
        return values.astype(np.int32)
    _check_integers(values.dtype, name)
    fits = (values >= -(2**31)) & (values < 2**31)
    if not fits.all():
        raise ValueError(
            f"{name}: {values[~fits].flat[0]} does not fit 32 bits, want row numbers below {MAX_SAMPLES}; "
            "aum_core.SampleIndex numbers ids of any kind"
        )
    return values.astype(np.int32)


def _check_integers(dtype: Any, name: str) -> None:
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name}: dtype {dtype}, want integers of shape (B,)")


def without_target(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Logits (B, C) with the target's masked."""
    return jnp.where(targets[:, None] == jnp.arange(logits.shape[1]), -jnp.inf, logits)


def of_class(logits: jax.Array, classes: jax.Array) -> Any:
    """Logits (B,) of a class for each row; -inf where it is none, before it could be another row's."""
    inside = (classes >= 0) & (classes < logits.shape[1])
    return jnp.where(inside, jnp.take_along_axis(logits, classes[:, None], axis=1, mode="clip")[:, 0], -jnp.inf)


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
