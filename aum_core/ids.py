"""Sample ids: what may be one, the two forms in which the engine passes them on, their order, and ids that are rows."""

from __future__ import annotations

import operator
from array import array
from itertools import compress
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "Ids",
    "SampleId",
    "as_ids",
    "by_row",
    "check_rows",
    "id_list",
    "id_order",
    "ids_from_arrays",
    "ids_to_arrays",
    "where_ids",
]

SampleId = int | str

Ids: TypeAlias = "NDArray[np.int64] | list[SampleId]"
"""Checked ids (B,), as `as_ids` gives them."""

_INT, _STR = 0, 1


def as_ids(sample_ids: Any) -> Ids:
    """Check `sample_ids` and bring them into one of two forms.

    Parameters
    ----------
    sample_ids : ndarray of shape (B,), or an iterable of int and str
        Ints of any size, strs, or both. NumPy ints and 0-d integer tensors become Python ints.

    Returns
    -------
    ndarray of shape (B,), int64, or list of int and str
        The array where all ids are 64-bit ints.

    Raises
    ------
    TypeError
        Where an id is neither int nor str.

    Examples
    --------
    >>> as_ids([7, 3])
    array([7, 3])
    >>> as_ids(["a", 3])
    ['a', 3]
    """
    if isinstance(sample_ids, np.ndarray):
        return _array_ids(sample_ids)
    if isinstance(sample_ids, (str, bytes)):
        raise TypeError(f"sample_ids: {sample_ids!r}, want a list with one id per sample, such as [{sample_ids!r}]")
    return _sequence_ids(sample_ids)


def id_list(ids: Ids) -> list[SampleId]:
    """Give ids in the form of `as_ids` as Python ints and strs."""
    return ids.tolist() if isinstance(ids, np.ndarray) else ids


def id_order(ids: NDArray[Any] | Sequence[SampleId]) -> NDArray[np.int64]:
    """Give the order that sorts ids as the files have them: ints before strs, each in their own order.

    Parameters
    ----------
    ids : ndarray of shape (N,), int64 or object, or sequence of N int and str
        Checked ones.

    Returns
    -------
    ndarray of shape (N,), int64
        Positions in `ids`; those of equal ids are in the order in which they come.

    Examples
    --------
    >>> id_order(["b", 10, "a", 9])
    array([3, 1, 2, 0])
    """
    if isinstance(ids, np.ndarray) and ids.dtype != object:
        return _int_order(ids)
    listed = list(ids)
    is_text = [isinstance(each, str) for each in listed]
    # each kind by itself: a key for both would take several times as long
    kinds = ([row for row, text in enumerate(is_text) if text == wanted] for wanted in (False, True))
    return np.array([row for rows in kinds for row in sorted(rows, key=listed.__getitem__)], np.int64)


def _int_order(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(numbers):
        return np.empty(0, np.int64)
    lowest, bits = int(numbers.min()), len(numbers).bit_length()
    if (int(numbers.max()) - lowest).bit_length() + bits > 63:
        return np.argsort(numbers, kind="stable")
    # number and place in one: a plain sort of these is stable, and faster than a stable one
    packed: NDArray[np.int64] = ((numbers - lowest) << bits) | np.arange(len(numbers))
    packed.sort()
    return packed & ((1 << bits) - 1)


def where_ids(ids: Ids, chosen: NDArray[np.bool_]) -> Ids:
    """Give those of some ids, in the form of `as_ids`, that are chosen by a mask (B,)."""
    return ids[chosen] if isinstance(ids, np.ndarray) else list(compress(ids, chosen.tolist()))


def _array_ids(ids: NDArray[Any]) -> Ids:
    kind = ids.dtype.kind
    if ids.ndim != 1:
        raise ValueError(f"sample_ids: shape {ids.shape}, want (B,): one id per sample")
    if kind == "i" or (kind == "u" and ids.dtype.itemsize < 8):
        return ids.astype(np.int64, copy=False)
    if kind in "uUTO" or not ids.size:
        return _sequence_ids(ids.tolist())
    raise TypeError(f"sample_ids: dtype {ids.dtype}, want ints or strs")


def _sequence_ids(sample_ids: Iterable[Any]) -> Ids:
    ids = sample_ids if isinstance(sample_ids, list) else list(sample_ids)
    try:
        return np.frombuffer(array("q", ids), dtype=np.int64)
    except (TypeError, OverflowError):  # strs, ints beyond 64 bits, or something that is no id
        if set(map(type, ids)) == {str}:
            return ids
        return [_as_id(each, row) for row, each in enumerate(ids)]


def _as_id(each: Any, row: int) -> SampleId:
    if isinstance(each, str):
        return str(each)
    try:
        return operator.index(each)
    except TypeError:
        raise TypeError(
            f"sample_ids: row {row} is {each!r} of type {type(each).__name__}, want an int or a str"
        ) from None


def by_row(sample_ids: NDArray[Any], values: NDArray[np.float64], num_samples: int, what: str) -> NDArray[np.float64]:
    """Give values (M,) of samples by row of the data set, (N,); NaN where nothing was measured.

    Parameters
    ----------
    sample_ids : ndarray of shape (M,)
        Row numbers, all different, in any order.
    values : ndarray of shape (M,)
    num_samples : int
        N.
    what : str
        Who measured, for the error message.

    Raises
    ------
    ValueError
        Where nothing was measured at all, or a sample id is no row.

    Examples
    --------
    >>> by_row(np.array([2, 0]), np.array([1.5, -1.0]), 3, "the run")
    array([-1. ,  nan,  1.5])
    """
    if not len(sample_ids):
        raise ValueError(
            f"{what} measured nothing; call calculator.accumulate(logits, targets, sample_ids) at every training step"
        )
    check_rows(as_ids(sample_ids), num_samples)
    found = np.full(num_samples, np.nan)
    found[sample_ids] = values
    return found


def check_rows(ids: Any, num_samples: int) -> None:
    """Make an error of an id that is no row of the data set."""
    if isinstance(ids, np.ndarray) and (not len(ids) or (ids.min() >= 0 and ids.max() < num_samples)):
        return
    wrong = next(each for each in id_list(ids) if not (isinstance(each, int) and 0 <= each < num_samples))
    raise ValueError(
        f"sample_ids: {wrong!r} is no row of the data set, want row numbers in [0, {num_samples}), as "
        "DatasetWithIndex gives them"
    )


def ids_to_arrays(sample_ids: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Give ids (N,) as arrays of numbers: 64-bit ints as they are, in ``ids``.

    Else texts end to end in ``text``, the end of each in ``ids``, and in ``kinds`` whether the text is an int (in
    hexadecimal, which has no limit of length) or a str.
    """
    if sample_ids.dtype != object:
        nothing = np.empty(0, np.uint8)
        return {"ids": sample_ids, "text": nothing, "kinds": nothing}
    ids = sample_ids.tolist()
    texts = [(each if isinstance(each, str) else f"{each:x}").encode("utf-8", "surrogatepass") for each in ids]
    return {
        "ids": np.cumsum([len(text) for text in texts], dtype=np.int64),
        "text": np.frombuffer(b"".join(texts), np.uint8),
        "kinds": np.array([_STR if isinstance(each, str) else _INT for each in ids], np.uint8),
    }


def ids_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Ids:
    """Give the ids that gave these arrays; a ValueError where the arrays contradict each other."""
    ids, kinds, text = arrays["ids"], arrays["kinds"], arrays["text"].tobytes()
    if not len(kinds):
        return ids
    starts = np.concatenate([[0], ids[:-1]])
    if len(ids) != len(kinds) or (ids < starts).any() or ids[-1] != len(text) or (kinds > _STR).any():
        raise ValueError("the texts of the sample ids do not add up")
    texts = [text[i:j].decode("utf-8", "surrogatepass") for i, j in zip(starts.tolist(), ids.tolist(), strict=True)]
    return [each if kind == _STR else int(each, 16) for each, kind in zip(texts, kinds.tolist(), strict=True)]
