"""The labels of a whole data set, checked once where they come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["class_labels"]


def class_labels(targets: Any, num_classes: int) -> NDArray[np.int64]:
    """Give `targets` as (N,) int64 in [0, num_classes), or say which row does not fit.

    Examples
    --------
    >>> class_labels([[1], [0]], num_classes=2)
    array([1, 0])
    """
    if num_classes < 2:
        raise ValueError(f"num_classes: {num_classes}, want at least 2")
    labels = np.asarray(targets)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not labels.size:
        raise ValueError(f"targets: shape {labels.shape}, want (N,): the class of each sample of the data set")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"targets: dtype {labels.dtype}, want integers: class indices in [0, {num_classes})")
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"targets: row {row} has class {labels[row]}, want classes in [0, {num_classes})")
    return labels.astype(np.int64)
