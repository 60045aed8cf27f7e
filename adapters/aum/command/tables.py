"""CSV and Parquet tables as arrays, with pyarrow, which reads both and changes no id on the way.

In a CSV file an id and a label are the text that stands there ("007" is no 7) and every other column is a number.
A Parquet file knows its types.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # noqa: TID251 # the command's reader of tables
import pyarrow.compute as pc  # noqa: TID251 # as above
import pyarrow.csv  # noqa: TID251 # as above
import pyarrow.parquet  # noqa: TID251 # as above

from aum.command.errors import InputError, reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

__all__ = ["read_table"]

_UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
_PARSING = pa.csv.ParseOptions(newlines_in_values=True)
_WANT_NUMBERS = "want numbers; encode it as such, or leave the column out"
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


def read_table(
    path: str, suffix: str, label_column: str | None, id_column: str | None
) -> tuple[NDArray[Any], list[str], NDArray[Any], NDArray[Any] | None]:
    """Read a table whose columns are features, but for that of the labels and that of the ids.

    Returns
    -------
    features : ndarray of shape (N, F), float32 where every column is, or float64
    columns : list of F str
    labels : ndarray of shape (N,)
    sample_ids : ndarray of shape (N,), or None where there is no `id_column`
    """
    names = _column_names(path, suffix)
    label = _checked_names(path, names, label_column, id_column)
    columns = [name for name in names if name not in (label, id_column)]
    for name in columns:
        _check_not_an_index(path, name)
    if not columns:
        raise InputError(f"{path}: no features: there is no column beside {label!r}")
    table = _parquet(path) if suffix == ".parquet" else _csv(path, columns, label, id_column)
    if not table.num_rows:
        raise InputError(f"{path}: no rows under the header")
    labels = _names(table[label], f"{path}: column {label!r}", "label", pa.types.is_floating, pa.types.is_boolean)
    ids = None if id_column is None else _ids(table[id_column], f"{path}: column {id_column!r}")
    return _features(table, columns, path), columns, labels, ids


def _column_names(path: str, suffix: str) -> list[str]:
    """Names of the columns of a table, each there once."""
    with _reading(path, suffix):
        if suffix == ".parquet":
            names = pa.parquet.read_schema(path).names
        else:
            with pa.csv.open_csv(path, parse_options=_PARSING) as reader:
                names = reader.schema.names
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(f"{path}: the column {twice[0]!r} is there twice; rename one of them")
    return list(names)


def _checked_names(path: str, names: list[str], label_column: str | None, id_column: str | None) -> str:
    """Give the name of the column of the labels, which is there and is not that of the ids."""
    there = f"there are: {', '.join(names)}"
    if label_column is None:
        raise InputError(f"{path}: tell which column has the labels with --label-column NAME; {there}")
    if label_column == id_column:
        raise InputError(f"--id-column: {id_column!r} is the label column too")
    for option, name in (("--label-column", label_column), ("--id-column", id_column)):
        if name is not None and name not in names:
            raise InputError(f"{option}: no column {name!r} in {path}; {there}")
    return label_column


def _check_not_an_index(path: str, name: str) -> None:
    # row numbers among the features of a sorted file would give the labels away
    if not name or _PANDAS_INDEX.fullmatch(name):
        raise InputError(
            f"{path}: the column {name!r} looks like an index that pandas wrote; write the table with index=False, or "
            f"use it as ids with --id-column {name or repr(name)}"
        )


def _reading(path: str, suffix: str) -> AbstractContextManager[None]:
    kind = "a Parquet file" if suffix == ".parquet" else "a table in UTF-8 text"
    return reading(path, f"damaged, or not {kind}", *_UNREADABLE)


def _csv(path: str, columns: list[str], label_column: str, id_column: str | None) -> Any:
    texts = [name for name in (label_column, id_column) if name is not None]
    as_text = dict.fromkeys(texts, pa.string())
    try:
        # left to itself, pyarrow would tell types from the first block and stumble over the first 1.5 after it
        return _read_csv(path, as_text | dict.fromkeys(columns, pa.float64()))
    except _UNREADABLE as error:
        first = error
    with _reading(path, ".csv"):
        table = _read_csv(path, as_text | dict.fromkeys(columns, pa.string()))
        for name in columns:
            _check_numbers(table[name], f"{path}: column {name!r}")
        raise first


def _read_csv(path: str, types: dict[str, Any]) -> Any:
    conversion = pa.csv.ConvertOptions(column_types=types)
    return pa.csv.read_csv(path, parse_options=_PARSING, convert_options=conversion)


def _check_numbers(column: Any, where: str) -> None:
    """Find the first cell of a column of text that is no number."""
    missing = pa.csv.ConvertOptions().null_values
    for row, cell in enumerate(column.to_pylist()):
        if cell in missing:
            continue
        try:
            pc.cast(pa.scalar(cell.strip()), pa.float64())
        except pa.ArrowInvalid:
            raise InputError(f"{where}: row {row} (counted from 0) has {cell!r}, {_WANT_NUMBERS}") from None


def _parquet(path: str) -> Any:
    with _reading(path, ".parquet"), pa.parquet.ParquetFile(path) as file:
        return file.read()


def _plain(column: Any) -> Any:
    """A column whose categories, if any, are written out."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _names(column: Any, where: str, what: str, *others: Callable[[Any], bool]) -> NDArray[Any]:
    """The cells of a column of labels or ids: none missing; texts, integers, or what one of `others` lets pass."""
    column = _plain(column)
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InputError(f"{where}: row {row} (counted from 0) has no {what}")
    if not any(test(column.type) for test in (_is_text, pa.types.is_integer, *others)):
        raise InputError(f"{where}: type {column.type}, want {what}s as integers or strings")
    if not _is_text(column.type):
        array: NDArray[Any] = column.to_numpy()
        return array
    texts = np.empty(len(column), dtype=object)  # one long text would make all cells of a str array as long
    texts[:] = column.to_pylist()
    return texts


def _ids(column: Any, where: str) -> NDArray[Any]:
    ids = _names(column, where, "id")
    listed = ids.tolist()
    if "" in listed:
        raise InputError(f"{where}: row {listed.index('')} (counted from 0) has no id")
    most_common, times = Counter(listed).most_common(1)[0]
    if times > 1:
        raise InputError(f"{where}: the id {most_common!r} is there {times} times, want each once")
    return ids


def _features(table: Any, columns: list[str], path: str) -> NDArray[Any]:
    narrow = all(pa.types.is_float32(table.schema.field(name).type) for name in columns)
    features = np.empty((table.num_rows, len(columns)), np.float32 if narrow else np.float64)
    for place, name in enumerate(columns):
        features[:, place] = _numbers(_plain(table[name]), f"{path}: column {name!r}")
    return features


def _numbers(column: Any, where: str) -> NDArray[Any]:
    kind = column.type
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    if not any(test(kind) for test in tests):
        raise InputError(f"{where}: type {kind}, {_WANT_NUMBERS}")
    if pa.types.is_floating(kind) and not column.null_count:
        array: NDArray[Any] = column.to_numpy()
        return array
    numbers: NDArray[Any] = pc.cast(column, pa.float64(), safe=False).to_numpy()  # missing ones become NaN
    return numbers
