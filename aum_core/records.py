"""The record of every measurement, kept in columns: a Python object each would take five times the memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from aum_core.files.arrays import check_arrays
from aum_core.files.tables import in_parts, write_pieces
from aum_core.growable import GrowableArray
from aum_core.ids import id_order

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

__all__ = [
    "RECORD_FIELDS",
    "AUMRecord",
    "Columns",
    "RecordLog",
    "RecordsInMemory",
    "SampleIds",
    "make_records",
    "records_to_df",
]


@dataclass
class AUMRecord:
    """One measurement of one sample, and its AUM up to then.

    Attributes
    ----------
    sample_id : int or str
    num_measurements : int
        How often the sample has been measured, this time included.
    target_logit, other_logit : int
        The assigned class, and the class with the largest other logit.
    target_val, other_val : float
        The logits of these two classes.
    margin : float
        ``target_val - other_val``, in the unit of the logits.
    aum : float
        Mean of the sample's margins up to and including this one.
    """

    sample_id: int | str
    num_measurements: int
    target_logit: int
    target_val: float
    other_logit: int
    other_val: float
    margin: float
    aum: float


RECORD_FIELDS = tuple(field.name for field in fields(AUMRecord))

Columns = dict[str, "NDArray[Any]"]
"""Columns of records by the names of `RECORD_FIELDS`, each (K,)."""

SampleIds = Callable[[], "NDArray[Any]"]
"""Gives the ids (N,) of all samples by their row in the totals."""

_AT_ONCE = 4096
_SCHEMA = {
    "sample_id": "int32",  # rows
    "num_measurements": "int32",
    "target_logit": "int32",
    "target_val": "float32 or float64",
    "other_logit": "int32",
    "other_val": "float32 or float64",
    "margin": "float32 or float64",
    "aum": "float64",
}


class RecordLog(Sequence[AUMRecord]):
    """Where a calculator keeps its records: to be read, a sequence of `AUMRecord` in the order they were made.

    Records are made when asked for. `RecordsInMemory` is the engine's own; `aum.parquet.RecordsOnDisk` is used by the
    frameworks.
    """

    @abstractmethod
    def append(self, rows: NDArray[np.int64], columns: Columns) -> None:
        """Add the records of a batch, B of them or none.

        Parameters
        ----------
        rows : ndarray of shape (B,), int64
            Their samples' rows in the totals.
        columns : dict of str to ndarray of shape (B,)
            The other columns, by the names of `RECORD_FIELDS`, in the dtypes of the margins: floats and ints.
        """

    @abstractmethod
    def columns(self, positions: slice = slice(None)) -> Columns:
        """Columns (K,) of the records at `positions`, all of them by default."""

    @abstractmethod
    def flush(self) -> None:
        """Bring what was logged to where it outlasts the process, if there is such a place."""

    @abstractmethod
    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all records to `path`, by sample id (ints before strs) and then by num_measurements."""

    @abstractmethod
    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as 1-D arrays of numbers, for a file or a framework's checkpoint."""

    @abstractmethod
    def take_arrays(self, arrays: Mapping[str, NDArray[Any]], num_samples: int) -> None:
        """Become the log whose `to_arrays` gave `arrays`, with rows below `num_samples`.

        Raises
        ------
        ValueError
            Where they contradict each other; the log is as before.
        """

    @overload
    def __getitem__(self, position: int) -> AUMRecord: ...
    @overload
    def __getitem__(self, position: slice) -> list[AUMRecord]: ...
    def __getitem__(self, position: int | slice) -> AUMRecord | list[AUMRecord]:
        """Records at a position or a slice, as of a list."""
        if isinstance(position, slice):
            return make_records(self.columns(position))
        at = range(len(self))[position]  # negative positions and IndexError as a list has them
        return make_records(self.columns(slice(at, at + 1)))[0]

    def __iter__(self) -> Iterator[AUMRecord]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self[start : start + _AT_ONCE]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} records)"


class RecordsInMemory(RecordLog):
    """Records in columns, 36 bytes each, or 48 of float64 logits; sample ids are those of the totals.

    Parameters
    ----------
    sample_ids : callable
        Gives the ids (N,) by row.

    Examples
    --------
    >>> from aum_core import AUMCalculator
    >>> calculator = AUMCalculator("aum_run", compressed=False)
    >>> calculator.accumulate([[2.0, 0.5]], [0], ["cat.png"])
    >>> calculator.records, calculator.records[0].margin
    (RecordsInMemory(1 records), 1.5)
    """

    def __init__(self, sample_ids: SampleIds) -> None:
        self._sample_ids = sample_ids
        self._columns = {name: GrowableArray(dtypes.partition(" ")[0]) for name, dtypes in _SCHEMA.items()}

    def append(self, rows: NDArray[np.int64], columns: Columns) -> None:
        """Add the records of a batch; see `RecordLog.append`."""
        for name, column in self._columns.items():
            column.append(rows if name == "sample_id" else columns[name])

    def columns(self, positions: slice | NDArray[np.intp] = slice(None)) -> Columns:
        """Columns (K,) of the records at `positions`, all of them by default."""
        columns = {name: column.values[positions] for name, column in self._columns.items()}
        return {**columns, "sample_id": self._sample_ids()[columns["sample_id"]]}

    def flush(self) -> None:
        """Do nothing: they are kept where the calculator is saved."""

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all records; see `RecordLog.write_csv`."""
        write_pieces(path, RECORD_FIELDS, map(self.columns, in_parts(self._sorted_positions())))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The columns, with rows for sample ids."""
        return {name: column.values for name, column in self._columns.items()}

    def take_arrays(self, arrays: Mapping[str, NDArray[Any]], num_samples: int) -> None:
        """Become the log that gave these arrays; see `RecordLog.take_arrays`."""
        if "parts" in arrays:
            raise ValueError("its records are on disk: want the calculator of a framework, such as aum.torch's")
        check_arrays(arrays, _SCHEMA)
        rows = arrays["sample_id"]
        if {len(each) for each in arrays.values()} != {len(rows)}:
            raise ValueError("the columns of the records are not of one length")
        if len(rows) and not 0 <= rows.min() <= rows.max() < num_samples:
            raise ValueError("a record is of no sample of the totals")
        for name, values in arrays.items():
            self._columns[name] = GrowableArray(values.dtype)
            self._columns[name].append(values)

    def _sorted_positions(self) -> NDArray[np.intp]:
        ids = self._sample_ids()
        ranks = np.empty(len(ids), np.int64)
        ranks[id_order(ids)] = np.arange(len(ids))
        return np.lexsort((self._columns["num_measurements"].values, ranks[self._columns["sample_id"].values]))

    def __len__(self) -> int:
        return len(self._columns["aum"])


def make_records(columns: Columns) -> list[AUMRecord]:
    """Make records from columns; all values become plain Python ints, floats and strs."""
    return list(map(AUMRecord, *(columns[name].tolist() for name in RECORD_FIELDS)))


def records_to_df(records: Iterable[AUMRecord]) -> Any:
    """Give records as a pandas DataFrame, sorted by sample id and num_measurements; its index is their place."""
    import pandas as pd  # noqa: PLC0415, TID251 # optional, and slow to import: only who calls this pays for it

    listed = list(records)
    by_time = sorted(range(len(listed)), key=lambda i: listed[i].num_measurements)
    order = [by_time[k] for k in id_order([listed[i].sample_id for i in by_time]).tolist()]
    columns = {name: [getattr(listed[i], name) for i in order] for name in RECORD_FIELDS}
    return pd.DataFrame(columns, index=order)
