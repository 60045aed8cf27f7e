"""The `RecordLog` on disk: fills a part in memory, writes it, and starts the next.

The parts of a log are those that it has written or was loaded with, in this order. Whatever else lies in its folder
when it first writes is of another run, or was written after the checkpoint it was loaded from, and is set aside.
"""

from __future__ import annotations

import json
import secrets
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aum.parquet.csv_lines import write_csv
from aum.parquet.names import IdSorter
from aum.parquet.parts import COLUMNS, part_name, part_paths, rank_of, read_part, size_and_mark, write_part
from aum_core.files.arrays import check_arrays
from aum_core.growable import GrowableArray
from aum_core.records import RECORD_FIELDS, Columns, RecordLog

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

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
    rank, num_ranks : int
        Which of how many processes this is, that share the folder.
    part_size : int
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
        self._save_dir, self._folder = Path(save_dir), Path(save_dir) / "records"
        self._rank, self._num_ranks, self._part_size = rank, num_ranks, part_size
        self._parts: list[tuple[str, int, str]] = []  # name, number of records, mark
        self._owns_folder = False
        self._pending = {name: GrowableArray(dtype) for name, dtype in _PENDING.items()}
        self._batch_sizes: list[int] = []  # of the pending records
        self._step = 0  # of the first of these batches
        self._sorter = IdSorter()
        self._read: tuple[int, Columns] | None = None  # the part that was last read

    def append(self, rows: NDArray[np.int64], columns: Columns) -> None:
        """Add the records of a batch; one without records is a step too."""
        self._batch_sizes.append(len(rows))
        for name, column in self._pending.items():
            column.append(rows if name == "rows" else columns[name])
        if self._num_pending >= self._part_size:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory to a part: synced to the disk when this returns."""
        self._own_folder()
        if not self._num_pending:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = part_name(self._rank, len(self._parts))
        if (self._folder / name).exists():
            raise FileExistsError(
                f"{self._folder / name}: another process writes there as rank {self._rank} too; want the process group "
                "before the calculator, or a save_dir for each"
            )
        order, ids = self._sorter.sort(self._pending["rows"].values, self._sample_ids())
        columns = self._pending_columns()
        mark = secrets.token_hex(8)
        write_part(self._folder / name, ids, {each: columns[each][order] for each in COLUMNS}, mark)
        self._parts.append((name, self._num_pending, mark))
        self._step += len(self._batch_sizes)
        self._batch_sizes.clear()
        for column in self._pending.values():
            column.clear()

    def columns(self, positions: slice = slice(None)) -> Columns:
        """Columns of the records at `positions`, all of them by default."""
        at = np.arange(*positions.indices(len(self)))
        pieces = [self._columns_in(part, at - start) for part, start in self._parts_at(at)] or [self._no_columns()]
        columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in RECORD_FIELDS}
        return columns if positions.step is None or positions.step > 0 else {n: c[::-1] for n, c in columns.items()}

    def write_csv(self, path: str | os.PathLike[str], on_progress: Callable[[int, int], object] | None = None) -> None:
        """Write all records, by sample id (ints before strs) and then by num_measurements, in bounded memory.

        Parameters
        ----------
        path : str or path
        on_progress : callable ``on_progress(done, total)``, optional
            Called now and then with the number of records that are written, and of all.
        """
        self.flush()
        write_csv(path, self.files, self._sample_ids(), on_progress)

    @property
    def files(self) -> list[Path]:
        """The parts that were written, in this order."""
        return [self._folder / name for name, _, _ in self._parts]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Names, sizes and marks of the parts. What was in memory is on disk when this returns."""
        self.flush()
        return {
            "parts": np.frombuffer(json.dumps(self._parts).encode(), np.uint8),
            "step": np.array([self._step + len(self._batch_sizes)]),
        }

    def take_arrays(self, arrays: Mapping[str, NDArray[Any]], num_samples: int) -> None:  # noqa: ARG002 # of the base
        """Become the log that gave these arrays, and set aside what was written after; a ValueError changes nothing."""
        if "parts" not in arrays:
            raise ValueError(
                "its records are in the file itself: want aum_core.AUMCalculator, which keeps them in memory"
            )
        check_arrays(arrays, _SCHEMA)
        parts, step = _parts_from(arrays["parts"].tobytes()), arrays["step"].tolist()
        if [name for name, _, _ in parts] != [part_name(self._rank, i) for i in range(len(parts))] or len(step) != 1:
            raise ValueError(f"its record parts are {parts}, want those of rank {self._rank} from 0 on")
        if parts and not self._folder.is_dir():
            raise ValueError(
                f"{self._folder} is not there, and has its records: want the save_dir that these are in now"
            )
        for name, size, mark in parts:
            _check_part(self._folder / name, size, mark)
        self._parts, self._step = parts, step[0]
        self._batch_sizes.clear()
        for column in self._pending.values():
            column.clear()
        self._read = None
        self._set_aside()
        self._owns_folder = True

    def __len__(self) -> int:
        return sum(size for _, size, _ in self._parts) + self._num_pending

    @property
    def _num_pending(self) -> int:
        return len(self._pending["rows"])

    def _pending_columns(self) -> Columns:
        sizes = np.array(self._batch_sizes, np.int64)
        first = np.cumsum(sizes) - sizes
        columns = {name: column.values for name, column in self._pending.items()}
        columns["step"] = np.repeat(self._step + np.arange(len(sizes)), sizes)
        columns["place"] = np.arange(self._num_pending) - np.repeat(first, sizes)
        columns["rank"] = np.full(self._num_pending, self._rank)
        return columns

    def _parts_at(self, positions: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Number and first position of the parts that some of `positions` lie in; the last one is in memory."""
        if not len(positions):
            return
        start, low, high = 0, int(positions.min()), int(positions.max())
        for part, size in enumerate([*(size for _, size, _ in self._parts), self._num_pending]):
            if low < start + size and high >= start:
                yield part, start
            start += size

    def _columns_in(self, part: int, positions: NDArray[np.int64]) -> Columns:
        """Columns of one part at those of `positions` that lie in it, in rising order."""
        size = self._parts[part][1] if part < len(self._parts) else self._num_pending
        chosen = np.sort(positions[(positions >= 0) & (positions < size)])
        if part < len(self._parts):
            columns = self._columns_of(part)
            return {name: columns[name][chosen] for name in RECORD_FIELDS}
        columns = {name: column.values[chosen] for name, column in self._pending.items()}
        return {**columns, "sample_id": self._sample_ids()[columns["rows"]]}

    def _columns_of(self, part: int) -> Columns:
        if self._read is None or self._read[0] != part:
            self._read = part, read_part(self._folder / self._parts[part][0])
        return self._read[1]

    def _no_columns(self) -> Columns:
        columns = {name: column.values[:0] for name, column in self._pending.items()}
        return {**columns, "sample_id": columns["rows"]}

    def _own_folder(self) -> None:
        """See that the folder has this log's parts and no others of its rank."""
        if self._owns_folder:
            self._check_last_part()
            return
        old, place = self._set_aside()
        self._owns_folder = True
        if old:
            warnings.warn(
                f"{self._folder}: {len(old)} parts of an earlier run were there, and are in {place} now; to go on with "
                "a run: AUMCalculator.load",
                UserWarning,
                stacklevel=4,
            )

    def _check_last_part(self) -> None:
        """See that no other run has set the parts of this one aside: it may have written its own under their names."""
        if not self._parts:
            return
        name, size, mark = self._parts[-1]
        try:
            _check_part(self._folder / name, size, mark)
        except ValueError as error:
            raise FileNotFoundError(f"{error}: want a save_dir that no other run writes to") from None

    def _set_aside(self) -> tuple[list[Path], Path | None]:
        """Move parts that are not of this log out of the folder, which others read as a whole."""
        own = set(self.files)
        old = [path for path in part_paths(self._folder) if self._is_mine(path) and path not in own]
        for path in self._folder.glob(f".rank{self._rank}-part*.tmp") if self._folder.is_dir() else ():
            path.unlink(missing_ok=True)  # half of a part, of a process that was killed
        if not old:
            return old, None
        place = _new_folder(self._save_dir / "records_set_aside")
        for path in reversed(old):  # of what is not moved yet no part is missing in between
            path.rename(place / path.name)
        return old, place

    def _is_mine(self, path: Path) -> bool:
        """Whether nobody but this process looks after a part. The first one does for ranks that are no longer there."""
        rank = rank_of(path)
        return rank == self._rank or (self._rank == 0 and rank >= self._num_ranks)


def _parts_from(text: bytes) -> list[tuple[str, int, str]]:
    try:
        return [(str(name), int(size), str(mark)) for name, size, mark in json.loads(text)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"its list of record parts is damaged ({error})") from error


def _check_part(path: Path, size: int, mark: str) -> None:
    try:
        found = size_and_mark(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is not there, and it has {size} of its records") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read, and it has {size} of its records ({error})") from error
    if found != (size, mark):
        raise ValueError(f"{path} is another part than the one that has {size} of its records")


def _new_folder(parent: Path) -> Path:
    """A folder with the next number that is free."""
    number = 0
    while True:
        place = parent / str(number)
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return place
