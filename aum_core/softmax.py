"""Probabilities of the classes, for the scores that want more of a batch than its margins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.margins import widened

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["softmax"]

_NARROW = 32


def softmax(logits: ArrayLike) -> NDArray[Any]:
    """Give the softmax of each row.

    Parameters
    ----------
    logits : array_like of shape (B, C), float16, float32 or float64
        Raw outputs; C >= 2.

    Returns
    -------
    ndarray of shape (B, C)
        A new array, float32 for half and float32 logits, float64 for float64 ones. A row with a NaN or two infinities
        has NaNs.

    Examples
    --------
    >>> softmax([[0.0, 0.0], [0.0, 800.0]])
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    wide = widened(logits)
    if wide.shape[1] < _NARROW:  # along a short axis NumPy is slow: three times as fast with the classes in rows
        return _softmax(np.array(wide.T, order="C"), axis=0).T
    return _softmax(wide.copy(), axis=1)


def _softmax(logits: NDArray[Any], axis: int) -> NDArray[Any]:
    """Overwrite logits with their softmax."""
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf, of rows that will be left out
        logits -= logits.max(axis=axis, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=axis, keepdims=True)
    return logits
