"""The CSV files of a run, byte for byte as pandas prints them. Nothing is computed here."""

from __future__ import annotations

import csv
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from aum_core.files.whole import write_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["in_parts", "ranked", "read_aum_values", "write_aum_values", "write_pieces", "write_table"]

_LINES = 65_536


def write_aum_values(path: str | os.PathLike[str], sample_ids: NDArray[Any], aums: NDArray[np.float64]) -> None:
    """Write the ranking: ``sample_id,aum``, best first, tied ones in the order given, NaN last and empty.

    Parameters
    ----------
    path : str or path
    sample_ids : ndarray of shape (N,), ints or strs
    aums : ndarray of shape (N,), floats

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/aum_values.csv"
    >>> write_aum_values(path, np.array([7, 3]), np.array([-1.0, 2.5]))
    >>> read_aum_values(path)
    (['3', '7'], array([ 2.5, -1. ]))
    """
    write_table(path, {"sample_id": sample_ids, "aum": aums}, ranked(aums))


def ranked(aums: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rows (N,) by AUM, best first, tied ones as they come, NaN last."""
    return np.argsort(-aums, kind="stable")


def write_pieces(
    path: str | os.PathLike[str], names: Sequence[str], pieces: Iterable[Mapping[str, NDArray[Any]]]
) -> None:
    """Write a table that comes in pieces: columns by `names`, each (K,)."""
    with write_whole(path) as file:
        lines = _writer(file)
        lines.writerow(names)
        for piece in pieces:
            lines.writerows(_lines([piece[name] for name in names]))


def write_table(path: str | os.PathLike[str], columns: dict[str, NDArray[Any]], order: NDArray[np.intp]) -> None:
    """Write columns as a CSV file, whole or not at all, as pandas would.

    Parameters
    ----------
    path : str or path
    columns : dict of str to ndarray of shape (N,), ints, floats, bools or strs
        By the names of the first line; NaN is an empty cell.
    order : ndarray of shape (M,), ints
        The rows to write, in this order.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp(), "table.csv")
    >>> write_table(path, {"id": np.array([7, 3]), "aum": np.array([0.5, np.nan])}, np.array([1, 0]))
    >>> path.read_text().split()
    ['id,aum', '3,', '7,0.5']
    """
    with write_whole(path) as file:
        lines = _writer(file)
        lines.writerow(columns)
        for part in in_parts(order):
            lines.writerows(_lines([column[part] for column in columns.values()]))


def read_aum_values(path: str | os.PathLike[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Read a ranking back: sample ids as the text in the file (which does not tell 7 from "7"), and AUMs.

    Parameters
    ----------
    path : str or path
        An ``aum_values.csv``.

    Returns
    -------
    sample_ids : list of str, N of them
        In the order of the file: best first, *not* in the order of the data set.
    aums : ndarray of shape (N,), float64

    Raises
    ------
    ValueError
        Where the file is no ranking.

    Examples
    --------
    >>> import tempfile
    >>> from aum_core import AUMCalculator
    >>> calculator = AUMCalculator(tempfile.mkdtemp())
    >>> calculator.accumulate([[2.0, 0.5], [1.0, 3.0]], [0, 0], ["cat.png", "dog.png"])
    >>> calculator.finalize()
    >>> read_aum_values(calculator.save_dir + "/aum_values.csv")
    (['cat.png', 'dog.png'], array([ 1.5, -2. ]))
    """
    sample_ids, aums = [], []
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, None)
        if header != ["sample_id", "aum"]:
            raise ValueError(f"{path}: first line {header}, want sample_id,aum")
        for line in lines:
            try:
                sample_id, aum = line
                aums.append(float(aum or "nan"))
            except ValueError:
                raise ValueError(f"{path}: line {lines.line_num} is {line}, want a sample id and an AUM") from None
            sample_ids.append(sample_id)
    return sample_ids, np.array(aums, dtype=np.float64)


def _writer(file: IO[str]) -> Any:
    return csv.writer(file, lineterminator="\n")


def in_parts(order: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Cut an order (N,) into parts of which the lines fit the memory."""
    for start in range(0, len(order), _LINES):
        yield order[start : start + _LINES]


def _lines(columns: Sequence[NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*map(_cells, columns), strict=True)


def _cells(column: NDArray[Any]) -> list[Any]:
    cells: list[Any] = column.tolist()
    if column.dtype.kind == "f" and np.isnan(column).any():
        return ["" if cell != cell else cell for cell in cells]  # noqa: PLR0124 # NaN alone differs from itself
    return cells
