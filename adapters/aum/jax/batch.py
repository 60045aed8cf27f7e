"""A batch at the border of the compiled step: what can be checked of it while it is traced, and ids from the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from aum_core.margins import check_logits, check_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_SAMPLES", "check_rows", "checked", "device_ids", "fitting", "widened"]

MAX_SAMPLES = 2**31 - 1


def checked(logits: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
    """Check shapes and dtypes, which are known when tracing; half types widened, targets (B,) of at least 32 bits."""
    logits, targets = jnp.asarray(logits), widened(targets, "targets")
    dtype = check_logits(logits.shape, logits.dtype)
    check_targets(targets.shape, targets.dtype, logits.shape)
    return jax.lax.stop_gradient(logits).astype(dtype), targets.reshape(-1)


def check_rows(ids: jax.Array, where: jax.Array, num_rows: int) -> None:
    """Check shapes and dtypes of what goes with each row of the logits."""
    if ids.shape != (num_rows,):
        raise ValueError(f"sample_ids: shape {ids.shape}, want ({num_rows},): one id per row of logits")
    if where.dtype != bool or where.shape != (num_rows,):
        raise ValueError(f"where: {where.dtype} of shape {where.shape}, want bool of shape ({num_rows},)")


def widened(values: Any, name: str) -> jax.Array:
    """Integers of at least 32 bits, so that they compare with N and C as they are."""
    if not isinstance(values, jax.Array):
        return jnp.asarray(fitting(values, name))
    _check_integers(values.dtype, name)
    return values.astype(jax.dtypes.canonicalize_dtype(jnp.promote_types(values.dtype, jnp.int32)))


def device_ids(sample_ids: Any) -> NDArray[np.int32]:
    """Give ids from the host as int32 for a compiled step, where JAX would cut 64 bits to 32 without a word.

    Positions in a data set fit; this is for ids that come from elsewhere.

    Parameters
    ----------
    sample_ids : array_like of shape (B,), any integer dtype

    Returns
    -------
    ndarray of shape (B,), int32

    Raises
    ------
    TypeError
        Where ids are no integers.
    ValueError
        Where one does not fit.

    Examples
    --------
    >>> device_ids(np.array([7, 3]))
    array([7, 3], dtype=int32)
    """
    return fitting(sample_ids, "sample_ids")


def fitting(values: Any, name: str) -> NDArray[np.int32]:
    """Integers of the host as int32; an error where one does not fit."""
    values = np.asarray(values)
    if values.size:
        _check_integers(values.dtype, name)
    fits = (values >= -(2**31)) & (values < 2**31)
    if not fits.all():
        raise ValueError(
            f"{name}: {values[~fits].flat[0]} does not fit 32 bits, want row numbers below {MAX_SAMPLES}; "
            "aum_core.SampleIndex numbers ids of any kind"
        )
    narrow: NDArray[np.int32] = values.astype(np.int32)
    return narrow


def _check_integers(dtype: Any, name: str) -> None:
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name}: dtype {dtype}, want integers of shape (B,)")
