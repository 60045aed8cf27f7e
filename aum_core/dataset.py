"""What is known of a whole data set: items that carry their index, labels that are checked, draws of its rows."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DatasetWithIndex", "class_labels", "random_stream"]


class _Sized(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class DatasetWithIndex:
    """A thin wrapper over a data set that gives each sample's index as the last element of its tuple.

    Items that are mappings get it under the key ``"sample_id"``.

    Parameters
    ----------
    base_dataset : object with ``__len__`` and ``__getitem__``
        Gives tuples, lists or mappings.

    Examples
    --------
    >>> dataset = DatasetWithIndex([("first", 0), ("second", 1)])
    >>> dataset[-1]
    ('second', 1, 1)
    """

    def __init__(self, base_dataset: _Sized) -> None:
        self.base_dataset = base_dataset

    def __len__(self) -> int:
        return len(self.base_dataset)

    def __getitem__(self, index: Any) -> Any:
        position = operator.index(index)
        if position < 0:  # the same sample must have the same id, however it is asked for
            position += len(self)
            if position < 0:
                raise IndexError(f"index {operator.index(index)} is out of range for {len(self)} samples")
        item = self.base_dataset[position]
        if isinstance(item, tuple | list):
            return (*item, position)
        if not isinstance(item, Mapping):
            raise TypeError(
                f"base_dataset[{position}] is {type(item).__name__}, want a tuple like (features, target) or a mapping"
            )
        if "sample_id" in item:
            raise ValueError(f"base_dataset[{position}] has a 'sample_id' already: use that, or rename it")
        return {**item, "sample_id": position}


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


_KEYS = {"noise": 1, "threshold samples": 2}


def random_stream(seed: int, purpose: Literal["noise", "threshold samples"]) -> np.random.Generator:
    """Make the generator of `seed` for a purpose; the same each time, and independent of those for others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_KEYS[purpose],)))
