"""A classification data set from wherever it lies: features, labels and names of the rows, checked and told apart.

Everything that can be wrong with a file is found here, before anything is trained or written, and said in one line.
"""

from __future__ import annotations

import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aum.command.errors import InputError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["LabelledData", "load"]

_TABLES = (".csv", ".parquet")
_NUMPY = (".npz", ".npy")
_UNREADABLE = (ValueError, EOFError, OSError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)
_ROWS = 4096


@dataclass(slots=True)
class LabelledData:
    """A data set to search.

    Attributes
    ----------
    source : str
        What the user called it.
    features : ndarray of shape (N, F), numbers, all finite
    targets : ndarray of shape (N,), int64
        Positions in `classes`.
    classes : ndarray of shape (C,)
        The distinct labels, sorted.
    sample_ids : ndarray of shape (N,), int64 or object
        Row numbers, or what the id column has.
    """

    source: str
    features: NDArray[Any]
    targets: NDArray[np.int64]
    classes: NDArray[Any]
    sample_ids: NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Raw:
    """A data set as read, not yet checked; `columns` are the names of the features where they have any."""

    features: NDArray[Any]
    labels: NDArray[Any]
    label_source: str
    sample_ids: NDArray[Any] | None = None
    columns: list[str] | None = None


def load(source: str, *, labels: str | None, label_column: str | None, id_column: str | None) -> LabelledData:
    """Load and check a data set: "digits", an ``.npz``, an ``.npy`` and another of its `labels`, or a table."""
    raw = _read(source, labels, label_column, id_column)
    features = _checked_features(raw, source)
    classes, targets = np.unique(_checked_labels(raw, len(features)), return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"{raw.label_source}: only one class, {classes[0]!s}; want at least two to tell apart")
    if len(classes) == len(targets):
        raise InputError(
            f"{raw.label_source}: {len(targets)} samples of {len(classes)} classes are too few, want at least "
            f"{len(classes) + 1}: no label is there twice; are these the labels?"
        )
    ids = np.arange(len(features)) if raw.sample_ids is None else raw.sample_ids
    return LabelledData(source, features, targets.astype(np.int64), classes, ids)


def _read(source: str, labels: str | None, label_column: str | None, id_column: str | None) -> _Raw:
    kind = "digits" if source == "digits" else Path(source).suffix.lower()
    if kind != "digits":
        _check_file(source)
        if kind not in (*_NUMPY, *_TABLES):
            raise InputError(f"{source}: unknown kind of file, want .npz, .npy, .csv or .parquet, or the word digits")
    for option, value in (("--label-column", label_column), ("--id-column", id_column)):
        if value is not None and kind not in _TABLES:
            raise InputError(f"{option}: goes with a .csv or .parquet table, not with {source}")
    if labels is not None and kind != ".npy":
        raise InputError(f"--labels: goes with features in an .npy file, not with {source}")
    if kind == "digits":
        from sklearn.datasets import load_digits  # noqa: PLC0415, TID251 # slow to import: only who asks for it waits

        features, classes = load_digits(return_X_y=True)
        return _Raw(features, classes, "digits")
    if kind in _TABLES:
        from aum.command.tables import read_table  # noqa: PLC0415 # pyarrow is wanted for tables alone

        features, columns, classes, sample_ids = read_table(source, kind, label_column, id_column)
        return _Raw(features, classes, f"{source}: column {label_column!r}", sample_ids, columns)
    return _npz(source) if kind == ".npz" else _npy_pair(source, labels)


def _check_file(path: str) -> None:
    if not Path(path).exists():
        raise InputError(f"{path}: no such file")
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder, want a file")
    if not Path(path).stat().st_size:
        raise InputError(f"{path}: is empty")


def _npz(path: str) -> _Raw:
    with _open_numpy(path) as loaded:
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: a single array under the name of an .npz; rename it to .npy and add --labels")
        missing = [name for name in ("X", "y") if name not in loaded]
        if missing:
            there = ", ".join(loaded.files) or "nothing"
            raise InputError(f"{path}: no array named {' and '.join(missing)}; there is: {there}")
        return _Raw(loaded["X"], loaded["y"], f"{path}: y")


def _npy_pair(path: str, labels: str | None) -> _Raw:
    if labels is None:
        raise InputError(f"{path}: holds features only; give their labels with --labels FILE.npy")
    _check_file(labels)
    return _Raw(_npy(path), _npy(labels), labels)


def _npy(path: str) -> NDArray[Any]:
    with _open_numpy(path) as loaded:
        if isinstance(loaded, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: an archive of several arrays under the name of an .npy; rename it to .npz")
        array: NDArray[Any] = loaded
        return array


@contextmanager
def _open_numpy(path: str) -> Iterator[Any]:
    """What is in the file, to be read in the block; what is wrong with the file becomes an InputError."""
    try:
        with open(path, "rb") as file:  # np.load would leave it open where it is no archive after all
            yield np.load(file, allow_pickle=False)
    except _UNREADABLE as error:
        raise InputError(f"{path}: {_why_unreadable(error)}") from None


def _why_unreadable(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return f"does not fit into memory ({one_line(error)})"
    if "Object arrays" in str(error):
        return "Python objects, which are not loaded because they can run code; save numbers, or strs with dtype=str"
    if "pickled data" in str(error):
        return "not a NumPy file"
    return f"damaged, or not a NumPy file ({one_line(error)})"


def _checked_features(raw: _Raw, source: str) -> NDArray[Any]:
    features, where = raw.features, source if raw.columns is not None else f"{source}: X"
    if features.dtype.kind not in "biuf":
        raise InputError(f"{where}: dtype {features.dtype}, want numbers")
    if features.ndim < 2:
        raise InputError(
            f"{where}: shape {features.shape}, want one row per sample; "
            "a single feature is X.reshape(-1, 1), a single sample X.reshape(1, -1)"
        )
    if not len(features):
        raise InputError(f"{where}: no samples")
    if not features.size:
        raise InputError(f"{where}: shape {features.shape} has no features")
    features = features.reshape(len(features), -1)  # of images, pixels
    _check_finite(features, where, raw.columns)
    return features


def _check_finite(features: NDArray[Any], where: str, columns: list[str] | None) -> None:
    if features.dtype.kind != "f":
        return
    for start in range(0, len(features), _ROWS):
        wrong = ~np.isfinite(features[start : start + _ROWS])
        if wrong.any():
            row, column = (int(each[0]) for each in np.nonzero(wrong))
            value = features[start + row, column]
            what = "a missing value" if np.isnan(value) else f"{value}"
            name = f"column {column}" if columns is None else f"column {columns[column]!r}"
            raise InputError(
                f"{where}: row {start + row} (counted from 0) has {what} in {name}; "
                "fill it in or leave the row or the column out"
            )


def _checked_labels(raw: _Raw, num_samples: int) -> NDArray[Any]:
    """Give the labels as (N,) ints, bools or strs, or say which row has none."""
    labels, where = raw.labels, raw.label_source
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        one_hot = "; of one-hot rows take the argmax" if labels.ndim == 2 else ""
        raise InputError(f"{where}: shape {labels.shape}, want (N,): the class of each sample{one_hot}")
    if len(labels) != num_samples:
        raise InputError(f"{where}: {len(labels)} labels for {num_samples} rows of features, want one for each")
    if labels.dtype.kind in "biu":
        return labels
    if labels.dtype.kind == "f":
        return _whole_numbers(labels, where)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind not in "UO":
        raise InputError(f"{where}: dtype {labels.dtype}, want classes as integers or strings")
    empty = labels == ""
    if empty.any():
        raise InputError(f"{where}: row {int(empty.argmax())} (counted from 0) has no label")
    return labels


def _whole_numbers(labels: NDArray[Any], where: str) -> NDArray[np.int64]:
    missing = np.isnan(labels)
    if missing.any():
        raise InputError(f"{where}: row {int(missing.argmax())} (counted from 0) has no label (NaN)")
    # beyond 2**53 floats no longer tell whole numbers apart
    broken = (labels != np.floor(labels)) | (np.abs(labels) > 2.0**53)
    if broken.any():
        row = int(broken.argmax())
        raise InputError(
            f"{where}: row {row} (counted from 0) has {labels[row]}, want classes as integers or strings; "
            "numbers to predict are no classes unless they are put into bins"
        )
    return labels.astype(np.int64)
