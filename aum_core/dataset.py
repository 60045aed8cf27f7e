"""A data set whose items carry their own index, so that each can be measured under its own id."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["DatasetWithIndex"]


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
