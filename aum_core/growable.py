"""An array that grows at its end. The engine learns the number of samples only as it sees them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import os

    from numpy.typing import DTypeLike, NDArray

__all__ = ["Allocate", "GrowableArray", "on_disk", "read_only"]

Allocate = Callable[[tuple[int, ...], Any], "NDArray[Any]"]
"""Makes an array of a shape and dtype, whatever is in it."""


def on_disk(folder: str | os.PathLike[str]) -> Allocate:
    """Make arrays whose memory the system may take back, since they are in files.

    The files have no name, and are gone with the arrays. They are as large as the arrays in `folder`'s file system.

    Examples
    --------
    >>> array = on_disk(tempfile.gettempdir())((2, 3), "float32")
    >>> array[:] = 1.0
    >>> array.sum()
    np.float32(6.0)
    """

    def allocate(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        if 0 in shape:
            return np.empty(shape, dtype)  # no file can be mapped that has nothing in it
        with tempfile.TemporaryFile(dir=folder) as file:
            return np.memmap(file, dtype, "w+", shape=shape).view(np.ndarray)

    return allocate


class GrowableArray:
    """An array with room to spare behind its end: of numbers, or of rows of `width` numbers.

    The room is never written to, so the system gives it no memory. Appending values of a wider dtype
    widens the whole array.

    Examples
    --------
    >>> column = GrowableArray("float32")
    >>> column.append([1, 2]); column.append([3])
    >>> column.values
    array([1., 2., 3.], dtype=float32)
    """

    __slots__ = ("_allocate", "_buffer", "_size", "values")

    def __init__(self, dtype: DTypeLike, width: int | None = None, allocate: Allocate = np.empty) -> None:
        self._allocate = allocate
        self._buffer: NDArray[Any] = np.empty((0,) if width is None else (0, width), dtype)
        self._size = 0
        self.values: NDArray[Any] = self._buffer
        """The filled part, a view: writing to it writes to the array. Appending makes a new view."""

    def __len__(self) -> int:
        return self._size

    def append(self, values: Any) -> None:
        """Add `values`, a (B,) or (B, width) array_like, behind the end."""
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

    def fill(self, values: NDArray[Any]) -> None:
        """Overwrite the whole filled part with as many `values`, 1-D and of the same dtype."""
        if values.dtype != self.values.dtype or values.shape != (self.values.size,):
            raise ValueError(f"{values.dtype} of shape {values.shape}, want {self.values.size} {self.values.dtype}")
        self.values[:] = values.reshape(self.values.shape)

    def _make_room(self, size: int, dtype: np.dtype[Any]) -> None:
        if size <= len(self._buffer) and dtype == self._buffer.dtype:
            return
        room = self._allocate((max(size, len(self._buffer) * 3 // 2, 64), *self._buffer.shape[1:]), dtype)
        room[: self._size] = self.values
        self._buffer = room


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    """Give a view of `values` that cannot be written to.

    Examples
    --------
    >>> read_only(np.zeros(2)).flags.writeable
    False
    """
    view = values.view()
    view.flags.writeable = False
    return view
