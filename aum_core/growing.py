"""An array that grows at its end. The engine learns the number of samples only as it sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["GrowingArray"]


class GrowingArray:
    """A 1-D array with room to spare behind its end.

    The room is never written to, so the system gives it no memory. Appending values of a wider dtype
    widens the whole array.

    Examples
    --------
    >>> column = GrowingArray("float32")
    >>> column.append([1, 2]); column.append([3])
    >>> column.values
    array([1., 2., 3.], dtype=float32)
    """

    __slots__ = ("_buffer", "_size", "values")

    def __init__(self, dtype: DTypeLike) -> None:
        self._buffer: NDArray[Any] = np.empty(0, dtype)
        self._size = 0
        self.values: NDArray[Any] = self._buffer
        """The filled part, a view: writing to it writes to the array. Appending makes a new view."""

    def __len__(self) -> int:
        return self._size

    def append(self, values: Any) -> None:
        """Add `values`, a (B,) array_like, behind the end."""
        values = np.asarray(values)
        end = self._size + len(values)
        self._make_room(
            end,
            np.promote_types(self._buffer.dtype, values.dtype) if values.dtype.kind == "f" else self._buffer.dtype,
        )
        self._buffer[self._size : end] = values
        self._size, self.values = end, self._buffer[:end]

    def append_zeros(self, count: int) -> None:
        """Add `count` zeros behind the end."""
        end = self._size + count
        self._make_room(end, self._buffer.dtype)
        self._buffer[self._size : end] = 0
        self._size, self.values = end, self._buffer[:end]

    def clear(self) -> None:
        """Take all values out; the room stays."""
        self._size, self.values = 0, self._buffer[:0]

    def _make_room(self, size: int, dtype: np.dtype[Any]) -> None:
        if size <= len(self._buffer) and dtype == self._buffer.dtype:
            return
        room = np.empty(max(size, len(self._buffer) * 3 // 2, 64), dtype)
        room[: self._size] = self.values
        self._buffer = room
