"""The record of every measurement, kept in columns: a Python object each would take five times the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from aum_core.growing import GrowingArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from aum_core.sample_index import SampleId

__all__ = ["RECORD_FIELDS", "AUMRecord", "Columns", "RecordLog", "record_order"]


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
        ``target_val - other_val``.
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


def record_order(sample_ids: Iterable[SampleId]) -> list[SampleId]:
    """Sort different sample ids as the files do: ints before strs, each in their own order.

    Examples
    --------
    >>> record_order(["b", 10, "a", 9])
    [9, 10, 'a', 'b']
    """
    return sorted(sample_ids, key=lambda each: (isinstance(each, str), each))


class RecordLog(Sequence[AUMRecord]):
    """All records of a run in the order they were made: a sequence of `AUMRecord`, 36 bytes each in memory.

    The records of float64 logits take 48 bytes. Records are made when asked for; sample ids are those of the
    totals that the rows belong to.

    Parameters
    ----------
    sample_ids : callable
        Gives the ids (N,) by row.
    """

    def __init__(self, sample_ids: Callable[[], NDArray[Any]]) -> None:
        self._sample_ids = sample_ids
        self._columns = {
            "sample_id": GrowingArray(np.int32),  # rows
            "num_measurements": GrowingArray(np.int32),
            "target_logit": GrowingArray(np.int32),
            "target_val": GrowingArray(np.float32),
            "other_logit": GrowingArray(np.int32),
            "other_val": GrowingArray(np.float32),
            "margin": GrowingArray(np.float32),
            "aum": GrowingArray(np.float64),
        }

    def append(self, rows: NDArray[np.int64], columns: Columns) -> None:
        """Add records: their rows in the totals, and their other columns."""
        for name, column in self._columns.items():
            column.append(rows if name == "sample_id" else columns[name])

    def columns(self, positions: slice | NDArray[np.intp] = slice(None)) -> Columns:
        """Columns of the records at `positions`, all of them by default."""
        columns = {name: column.values[positions] for name, column in self._columns.items()}
        return {**columns, "sample_id": self._sample_ids()[columns["sample_id"]]}

    def sorted_positions(self) -> NDArray[np.intp]:
        """Positions of the records sorted by sample id (ints before strs), then num_measurements."""
        ids = self._sample_ids()
        ranks = np.empty(len(ids), np.int64)
        if ids.dtype == object:
            rank = {each: i for i, each in enumerate(record_order(ids.tolist()))}
            ranks[:] = [rank[each] for each in ids.tolist()]
        else:
            ranks[np.argsort(ids)] = np.arange(len(ids))
        return np.lexsort((self._columns["num_measurements"].values, ranks[self._columns["sample_id"].values]))

    def __len__(self) -> int:
        return len(self._columns["aum"])

    @overload
    def __getitem__(self, position: int) -> AUMRecord: ...
    @overload
    def __getitem__(self, position: slice) -> list[AUMRecord]: ...
    def __getitem__(self, position: int | slice) -> AUMRecord | list[AUMRecord]:
        if isinstance(position, slice):
            return make_records(self.columns(position))
        at = range(len(self))[position]  # negative positions and IndexError as a list has them
        return make_records(self.columns(slice(at, at + 1)))[0]

    def __iter__(self) -> Iterator[AUMRecord]:
        for start in range(0, len(self), 4096):
            yield from self[start : start + 4096]

    def __repr__(self) -> str:
        return f"RecordLog({len(self)} records of {len(self._sample_ids())} samples)"


def make_records(columns: Columns) -> list[AUMRecord]:
    """Make records from columns; all values become plain Python ints, floats and strs."""
    return list(map(AUMRecord, *(columns[name].tolist() for name in RECORD_FIELDS)))
