"""The `RecordLog` on disk: fills a part in memory, writes it, and starts the next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from aum.parquet.csv_lines import write_csv
from aum.parquet.names import IdSorter
from aum.parquet.part_folder import Part, PartFolder
from aum.parquet.parts import COLUMNS
from aum_core.files.arrays import check_arrays
from aum_core.growable import GrowableArray
from aum_core.records import RECORD_FIELDS, Columns, RecordLog

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from aum_core.records import SampleIds

__all__ = ["RecordsOnDisk"]

_PENDING = {
    "rows": np.int32,
    "num_measurements": np.int32,
    "target_logit": np.int32,
    "target_val": np.float32,
    "other_logit": np.int32,
    "other_val": np.float32,
    "margin": np.float32,
    "aum": np.float64,
}
_SCHEMA = {"parts": "uint8", "step": "int64"}


class RecordsOnDisk(RecordLog):
    """Records in part files of a folder; those that make no whole part yet are in memory.

    Parameters
    ----------
    sample_ids : callable
        Gives the ids (N,) by row.
    save_dir : str or path
        Of the run: parts go to its ``records/``, and what is not of the run to its ``records_set_aside/``.
    rank, num_ranks : int, default 0 and 1
        Which of how many processes this is, that share the folder.
    part_size : int, default 1,000,000
        Records of a part: what is in memory.

    Examples
    --------
    >>> import tempfile
    >>> from aum_core import AUMCalculator
    >>> folder = tempfile.mkdtemp()
    >>> calculator = AUMCalculator(folder, compressed=False, log=lambda ids: RecordsOnDisk(ids, folder))
    >>> calculator.accumulate([[2.0, 0.5]], [0], ["cat.png"])
    >>> calculator.finalize()
    >>> calculator.records
    RecordsOnDisk(1 records)
    """

    def __init__(
        self,
        sample_ids: SampleIds,
        save_dir: str | os.PathLike[str],
        *,
        rank: int = 0,
        num_ranks: int = 1,
        part_size: int = 1_000_000,
    ) -> None:
        self._sample_ids = sample_ids
        self._rank, self._part_size = rank, part_size
        self._folder = PartFolder(save_dir, rank, num_ranks)
        self._pending = {name: GrowableArray(dtype) for name, dtype in _PENDING.items()}
        self._batch_sizes: list[int] = []  # of the pending records
        self._step = 0  # of the first of these batches
        self._sorter = IdSorter()

    def append(self, rows: NDArray[np.int64], columns: Columns) -> None:
        """Add the records of a batch; one without records is a step too.

        Parameters
        ----------
        rows : ndarray of shape (B,), int64
            Of the samples in the totals.
        columns : dict of str to ndarray of shape (B,)
            The other fields of `AUMRecord` by name.

        Raises
        ------
        FileExistsError, FileNotFoundError
            Where a part is full and another process writes to the folder as the same rank, or another run has set
            this one's parts aside. Such a batch stays in memory, as it does where the disk is full (OSError).
        """
        self._batch_sizes.append(len(rows))
        for name, column in self._pending.items():
            column.append(rows if name == "rows" else columns[name])
        if self._num_pending >= self._part_size:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory to a part: synced to the disk when this returns. Raises as `append` does."""
        self._folder.claim()
        if not self._num_pending:
            return
        order, ids = self._sorter.sort(self._pending["rows"].values, self._sample_ids())
        columns = self._pending_columns()
        self._folder.write(ids, {name: columns[name][order] for name in COLUMNS})
        self._begin_part(self._step + len(self._batch_sizes))

    def columns(self, positions: slice = slice(None)) -> Columns:
        """Columns of the records at `positions`, all of them by default: {name of a field of `AUMRecord`: (K,)}."""
        at = np.arange(*positions.indices(len(self)))
        starts = np.cumsum([0, *(part.size for part in self._folder.parts)])
        part_of = np.searchsorted(starts, at, side="right") - 1  # the last one is what is in memory
        wanted = list(dict.fromkeys(part_of.tolist())) or [len(starts) - 1]
        pieces = [self._columns_in(each, at[part_of == each] - starts[each]) for each in wanted]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in RECORD_FIELDS}

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all records; see `aum_core.RecordLog.write_csv`."""
        self.flush()
        write_csv(path, self.files, self._sample_ids())

    @property
    def files(self) -> list[Path]:
        """The parts that were written, in this order."""
        return self._folder.paths

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Names, sizes and marks of the parts. What was in memory is on disk when this returns."""
        self.flush()
        return {
            "parts": np.frombuffer(json.dumps(self._folder.parts).encode(), np.uint8),
            "step": np.array([self._step + len(self._batch_sizes)]),
        }

    def take_arrays(self, arrays: Mapping[str, NDArray[Any]], num_samples: int) -> None:  # noqa: ARG002 # of the base
        """Become the log that gave these arrays, and set aside what was written after; see `RecordLog.take_arrays`.

        Raises
        ------
        ValueError
            Where they are of another log, or some of its parts are not in the folder as they were written. The log
            and the folder are as before the call.
        """
        if "parts" not in arrays:
            raise ValueError(
                "its records are in the file itself: want aum_core.AUMCalculator, which keeps them in memory"
            )
        check_arrays(arrays, _SCHEMA)
        if arrays["step"].shape != (1,):
            raise ValueError(f"step has shape {arrays['step'].shape}, want (1,)")
        self._folder.restore(_parts_from(arrays["parts"].tobytes()))
        self._begin_part(int(arrays["step"][0]))

    def __len__(self) -> int:
        return sum(part.size for part in self._folder.parts) + self._num_pending

    @property
    def _num_pending(self) -> int:
        return len(self._pending["rows"])

    def _begin_part(self, step: int) -> None:
        """Have nothing in memory; the next batch is number `step`."""
        self._step = step
        self._batch_sizes.clear()
        for column in self._pending.values():
            column.clear()

    def _pending_columns(self) -> Columns:
        """What is in memory as the columns (K,) of a part, all but the ids."""
        sizes = np.array(self._batch_sizes, np.int64)
        first = np.cumsum(sizes) - sizes
        columns = {name: column.values for name, column in self._pending.items()}
        columns["step"] = np.repeat(self._step + np.arange(len(sizes)), sizes)
        columns["place"] = np.arange(self._num_pending) - np.repeat(first, sizes)
        columns["rank"] = np.full(self._num_pending, self._rank)
        return columns

    def _columns_in(self, number: int, places: NDArray[np.int64]) -> Columns:
        """Columns (K,) of one part, or of what is in memory, at places (K,) in it."""
        if number < len(self._folder.parts):
            columns = self._folder.read(self._folder.parts[number])
            return {name: columns[name][places] for name in RECORD_FIELDS}
        columns = {name: column.values[places] for name, column in self._pending.items()}
        return {**columns, "sample_id": self._sample_ids()[columns["rows"]]}


def _parts_from(text: bytes) -> list[Part]:
    try:
        return [Part(str(name), int(size), str(mark)) for name, size, mark in json.loads(text)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"its list of record parts is damaged ({error})") from error
