"""The formula: logits and targets in, margins out.

Everything else in this project moves, adds up or prints what this module computes. It is pure, and it works
through wide logits in blocks of rows that fit the cache: masking the target needs a copy, and a copy of all
of ``(256, 50000)`` costs more in page faults than the arithmetic does. Where nobody asks which class the largest
other logit is of, there are two shorter ways: few classes are copied into rows, along which NumPy is fast; many need
no copy at all, since the maximum left and right of the target will do.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MARGIN_FIELDS",
    "Margins",
    "Shape",
    "TargetError",
    "check_logits",
    "check_targets",
    "compute_margins",
    "rows_per_block",
    "widened",
]

_BLOCK_BYTES = 512 * 1024  # fits a core's own cache
_NARROW, _WIDE = 48, 256  # classes: where, as measured, the next way of finding the largest other becomes the faster
_of_thread = threading.local()
_FLOAT32, _FLOAT64, _INT64 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)
_NOT_ASKED = np.full(4096, -1)
_NOT_ASKED.flags.writeable = False
# by the dtype itself too: to ask NumPy for its name takes as long as to add up a small batch
_MARGIN_DTYPE: dict[Any, np.dtype[Any]] = {
    **dict.fromkeys((np.dtype(np.float16), "float16", "bfloat16", _FLOAT32, "float32"), _FLOAT32),
    **dict.fromkeys((_FLOAT64, "float64"), _FLOAT64),
}

Shape = tuple[int | None, ...]
"""Sizes of an array; None is one that is not known before a compiled step runs."""


class TargetError(ValueError):
    """A target that is no class of the logits; `row` is its place in the batch."""

    def __init__(self, row: int, target: int, num_classes: int, sample_id: object = None) -> None:
        where = f"row {row}" if sample_id is None else f"sample {sample_id!r}"
        super().__init__(
            f"targets: {where} has target {target}, but logits of shape (B, {num_classes}) need targets in "
            f"[0, {num_classes}); leave ignored samples (such as -100) out of the batch"
        )
        self.row, self.target, self.num_classes = row, target, num_classes


@dataclass(slots=True)
class Margins:
    """What a batch of logits says about its targets; values are in the unit of the logits.

    Attributes
    ----------
    target_logit : ndarray of shape (B,), int64
        The assigned class.
    target_val : ndarray of shape (B,), float32 or float64
        The logit of the assigned class.
    other_logit : ndarray of shape (B,), int64
        The class with the largest other logit; the lowest class where several tie. -1 where it was not asked for.
    other_val : ndarray of shape (B,), float32 or float64
        That largest other logit.
    margin : ndarray of shape (B,), float32 or float64
        ``target_val - other_val``, subtracted in the dtype of the logits.
    """

    target_logit: NDArray[np.int64]
    target_val: NDArray[Any]
    other_logit: NDArray[np.int64]
    other_val: NDArray[Any]
    margin: NDArray[Any]

    def __len__(self) -> int:
        return len(self.margin)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Margins:
        return Margins(*(getattr(self, name)[rows] for name in MARGIN_FIELDS))

    def brought_home(self, to_numpy: Callable[[Any], NDArray[Any]]) -> Margins:
        """Give these margins, measured on another device, as NumPy's, each column brought to the host by `to_numpy`.

        Raises
        ------
        TypeError, ValueError
            Where the columns are not all of shape (B,), or the classes not ints.
        """
        columns = {name: to_numpy(getattr(self, name)) for name in MARGIN_FIELDS}
        shapes = {name: column.shape for name, column in columns.items()}
        if set(shapes.values()) != {(columns["margin"].size,)}:
            raise ValueError(f"margins: columns of shapes {shapes}, want (B,) for all")
        for name in ("target_logit", "other_logit"):
            if columns[name].dtype.kind not in "iu":
                raise TypeError(f"margins: {name} of dtype {columns[name].dtype}, want integers: class indices")
            columns[name] = columns[name].astype(np.int64, copy=False)  # devices count in 32 bits
        return Margins(**columns)

    @classmethod
    def concatenate(cls, parts: Iterable[Margins]) -> Margins:
        """Join `parts`, the margins of consecutive blocks of rows."""
        columns = zip(*([getattr(part, name) for name in MARGIN_FIELDS] for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


MARGIN_FIELDS = tuple(field.name for field in fields(Margins))
"""Names of the columns of `Margins`, in their order."""


def compute_margins(logits: ArrayLike, targets: ArrayLike, *, other_logit: bool = True) -> Margins:
    """Margin of each sample: the logit of its assigned class minus the largest other logit.

    ``M(x, y) = z_y(x) - max_{i != y} z_i(x)``, equation 1 of Pleiss et al. 2020 (arXiv 2001.10528).

    Parameters
    ----------
    logits : array_like of shape (B, C), float16, float32 or float64
        Raw outputs before any softmax, C >= 2. Half types are widened to float32 first.
    targets : array_like of shape (B,) or (B, 1), any integer dtype
        The assigned class of each sample, in [0, C).
    other_logit : bool, default True
        False says that nobody will look at `Margins.other_logit`. The rest is the same, and wide logits take half
        the passes.

    Returns
    -------
    Margins
        Float32 columns for half and float32 logits, float64 columns for float64 logits.

    Raises
    ------
    TypeError
        Where logits are not floats or targets not integers.
    ValueError
        Where shapes do not fit, C < 2, or a target lies outside [0, C).

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.array([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0]])
    >>> compute_margins(logits, [0, 2]).margin
    array([ 1.5, -2. ])
    """
    logits = np.asarray(logits)
    dtype = check_logits(logits.shape, logits.dtype)
    targets = _checked_targets(np.asarray(targets), logits.shape)
    if other_logit or not (logits.shape[1] < _NARROW or _is_wide(logits, dtype)):
        target_val, other, other_val = _with_class(logits, targets, dtype)
    else:
        other = _NOT_ASKED[: len(logits)] if len(logits) <= len(_NOT_ASKED) else np.full(len(logits), -1)
        values = _narrow_values if logits.shape[1] < _NARROW else _wide_values
        target_val, other_val = values(logits, targets, dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # what becomes of inf - inf is the caller's choice
        margin = target_val - other_val
    return Margins(targets, target_val, other, other_val, margin)


def _is_wide(logits: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    return logits.shape[1] >= _WIDE and logits.dtype == dtype and logits.flags.c_contiguous


def _narrow_values(
    logits: NDArray[Any], targets: NDArray[np.int64], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits (B,) of the targets, and the largest others, of a handful of classes."""
    num_rows, num_classes = logits.shape
    by_class = _scratch(num_classes, num_rows, dtype)
    np.copyto(by_class, logits.T)
    rows = np.arange(num_rows)
    target_val = by_class[targets, rows]
    by_class[targets, rows] = -np.inf
    return target_val, np.maximum.reduce(by_class)


def _wide_values(
    logits: NDArray[Any], targets: NDArray[np.int64], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits (B,) of the targets, and the largest others, of many classes: one pass, and no copy."""
    num_rows, num_classes = logits.shape
    places = np.arange(0, logits.size, num_classes) + targets
    target_val = _take(logits, places, targets, dtype)  # before the pass, after which their lines have left the cache
    starts = np.empty((num_rows, 3), np.int64)  # what is left of the target, the target, and what is right of it
    starts[:, 0] = places - targets
    starts[:, 1] = places
    starts[:, 2] = places + 1
    # behind the last logit there is none to start at; what comes of it is put right below
    np.minimum(starts[-1:, 2], logits.size - 1, out=starts[-1:, 2])
    parts = np.maximum.reduceat(logits.reshape(-1), starts.reshape(-1)).reshape(num_rows, 3)
    parts[targets == 0, 0] = -np.inf  # a part without a logit: reduceat gives a neighbour's
    parts[targets == num_classes - 1, 2] = -np.inf
    return target_val, np.maximum(parts[:, 0], parts[:, 2])


def _with_class(
    logits: NDArray[Any], targets: NDArray[np.int64], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any]]:
    """Logits (B,) of the targets, the classes of the largest others, and these."""
    first = np.arange(0, logits.size, logits.shape[1])  # flat position of each row's first logit
    places = first + targets
    target_val = _take(logits, places, targets, dtype)  # before the pass, as above
    other = _largest_other(logits, places, targets, dtype)
    return target_val, other, _take(logits, first + other, other, dtype)


def _take(logits: NDArray[Any], places: NDArray[np.int64], columns: NDArray[np.int64], dtype: np.dtype[Any]) -> Any:
    """Logits at flat `places`, which are in these `columns`."""
    if logits.flags.c_contiguous:
        # flat positions: a pair of index arrays costs three times as much
        return logits.reshape(-1)[places].astype(dtype, copy=False)
    return logits[np.arange(len(columns)), columns].astype(dtype, copy=False)


def _largest_other(
    logits: NDArray[Any], places: NDArray[np.int64], targets: NDArray[np.int64], dtype: np.dtype[Any]
) -> NDArray[np.int64]:
    """Column of the largest logit of each row once the target's, at flat `places`, is masked; (B,)."""
    num_rows, num_classes = logits.shape
    size = rows_per_block(num_classes, dtype.itemsize)
    if num_rows <= size:
        return _largest_other_of_block(logits, places, targets, dtype)
    parts = []
    for start in range(0, num_rows, size):
        rows = slice(start, start + size)
        places_in_block = places[rows] - start * num_classes
        parts.append(_largest_other_of_block(logits[rows], places_in_block, targets[rows], dtype))
    return np.concatenate(parts)


def _largest_other_of_block(
    logits: NDArray[Any], places: NDArray[np.int64], targets: NDArray[np.int64], dtype: np.dtype[Any]
) -> NDArray[np.int64]:
    num_rows, num_classes = logits.shape
    block = _scratch(num_rows, num_classes, dtype)
    np.copyto(block, logits)
    block.reshape(-1)[places] = -np.inf
    largest: NDArray[np.int64] = block.argmax(axis=1)
    masked = largest == targets  # only where all others are -inf too: the lowest of them is the answer
    if np.count_nonzero(masked):
        largest[masked] = targets[masked] == 0
    return largest


def rows_per_block(num_classes: int, itemsize: int) -> int:
    """How many rows of logits fit the cache."""
    return max(1, _BLOCK_BYTES // (num_classes * itemsize))


def _scratch(num_rows: int, num_classes: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to overwrite: of this thread's own memory, whose pages are there already, where it fits."""
    num_bytes = num_rows * num_classes * dtype.itemsize
    if num_bytes > _BLOCK_BYTES:  # a single row may be wider than a block
        return np.empty((num_rows, num_classes), dtype)
    try:
        memory = _of_thread.memory
    except AttributeError:
        memory = _of_thread.memory = np.empty(_BLOCK_BYTES, np.uint8)
    return np.ndarray((num_rows, num_classes), dtype, memory)


def check_logits(shape: Shape, dtype: np.dtype[Any] | str) -> np.dtype[Any]:
    """Check shape and dtype of logits before there are values, or without looking at them.

    Parameters
    ----------
    shape : tuple of int or None
        Want (B, C) with C of at least 2; None is a size that is not known yet, and passes.
    dtype : dtype, or its name
        "bfloat16", which NumPy has not, among them.

    Returns
    -------
    dtype
        That of the margins: float32 for half and float32 logits, float64 for float64 ones.

    Raises
    ------
    TypeError, ValueError
        Where they do not fit.

    Examples
    --------
    >>> check_logits((None, 10), "bfloat16")
    dtype('float32')
    """
    found = _MARGIN_DTYPE.get(dtype) or _MARGIN_DTYPE.get(getattr(dtype, "name", dtype))  # by name in any byte order
    if found is None:
        raise TypeError(
            f"logits: dtype {dtype}, want float16, bfloat16, float32 or float64: raw outputs before the softmax"
        )
    if len(shape) != 2:
        raise ValueError(
            f"logits: shape {shape}, want (B, C): a row per sample, a column per class.{_binary_hint(shape)}"
        )
    if shape[1] is not None and shape[1] < 2:
        raise ValueError(f"logits: shape {shape} has fewer than two classes.{_binary_hint(shape)}")
    return found


def widened(logits: ArrayLike) -> NDArray[Any]:
    """Give logits (B, C) in the dtype of their margins; not a copy where they have it."""
    given = np.asarray(logits)
    wide: NDArray[Any] = given.astype(check_logits(given.shape, given.dtype), copy=False)
    return wide


def _binary_hint(shape: Shape) -> str:
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return (
            " A binary model's single logit z is the two columns [0, z]: "
            "z = logits.reshape(-1, 1); logits = concatenate([zeros_like(z), z], axis 1)"
        )
    return ""


def check_targets(shape: Shape, dtype: np.dtype[Any] | str, logits_shape: Shape) -> None:
    """Check shape and dtype of targets that go with logits of a shape; as `check_logits`, without their values.

    Raises
    ------
    TypeError, ValueError
        Where they are no integers of shape (B,) or (B, 1).

    Examples
    --------
    >>> check_targets((4,), "int32", (4, 10))
    """
    kind = dtype.kind if isinstance(dtype, np.dtype) else dtype[:1]
    if kind not in "iu" and 0 not in shape:
        raise TypeError(f"targets: dtype {dtype}, want integers: class indices of shape (B,)")
    num_rows = logits_shape[0]
    fits = len(shape) == 1 or (len(shape) == 2 and shape[1] in (1, None))
    if not fits or (shape[0] != num_rows and None not in (shape[0], num_rows)):
        raise ValueError(f"targets: shape {shape}, want ({num_rows},) to go with logits of shape {logits_shape}")


def _checked_targets(targets: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    num_rows, num_classes = shape
    if targets.dtype != _INT64 or targets.shape != (num_rows,):
        check_targets(targets.shape, targets.dtype, shape)
        targets = targets.reshape(num_rows).astype(np.int64)
    unsigned = targets.view(np.uint64)  # a negative target becomes a huge one: one pass finds both
    if num_rows and unsigned[unsigned.argmax()] >= num_classes:
        row = int((unsigned >= num_classes).argmax())
        raise TargetError(row, int(targets[row]), num_classes)
    return targets
