"""The records of a run, read back from its parts: one sample's, or all, lazily."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from aum.parquet.csv_lines import write_csv
from aum.parquet.merging import number_over_ranks
from aum.parquet.names import id_columns
from aum.parquet.parts import COLUMNS, part_paths, rank_of
from aum_core.ids import as_ids

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from aum_core.ids import SampleId

__all__ = ["RecordFiles", "read_records"]


def read_records(run: str | os.PathLike[str]) -> RecordFiles:
    """Look at the records of a run that `compressed=False` left on disk, finished or not.

    Parameters
    ----------
    run : str or path
        Its `save_dir`, or the folder ``records`` in it.

    Returns
    -------
    RecordFiles

    Raises
    ------
    ValueError
        Where there are no parts.

    Examples
    --------
    >>> import tempfile
    >>> from aum_core import AUMCalculator
    >>> from aum.parquet import RecordsOnDisk
    >>> folder = tempfile.mkdtemp()
    >>> calculator = AUMCalculator(folder, compressed=False, log=lambda ids: RecordsOnDisk(ids, folder))
    >>> for logits in ([[2.0, 0.5]], [[3.0, 0.5]]):
    ...     calculator.accumulate(logits, [0], ["cat.png"])
    >>> calculator.finalize()
    >>> read_records(folder).trajectory("cat.png")["aum"].to_pylist()
    [1.5, 2.0]
    """
    found = RecordFiles.of_run(run)
    if not found.files:
        raise ValueError(
            f"{run}: no records in it, want the save_dir of a run with compressed=False, or its folder records"
        )
    return found


class RecordFiles:
    """The parts of a run. Nothing is read before it is asked for; its length is the number of records.

    Parameters
    ----------
    files : sequence of path
        Parts, each rank's in the order they were written.

    Attributes
    ----------
    files : list of path
        The same, by rank, then in the order they were written.

    Examples
    --------
    >>> import tempfile
    >>> from aum_core import AUMCalculator
    >>> from aum.parquet import RecordsOnDisk
    >>> folder = tempfile.mkdtemp()
    >>> calculator = AUMCalculator(folder, compressed=False, log=lambda ids: RecordsOnDisk(ids, folder))
    >>> calculator.accumulate([[2.0, 0.5], [1.0, 3.0]], [0, 0], ["cat.png", "dog.png"])
    >>> calculator.finalize()
    >>> records = RecordFiles.of_run(folder)
    >>> records
    RecordFiles(2 records in 1 parts)
    >>> records.to_table(["sample_id", "margin"]).to_pydict()
    {'sample_id': ['cat.png', 'dog.png'], 'margin': [1.5, -2.0]}
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    @classmethod
    def of_run(cls, run: str | os.PathLike[str]) -> RecordFiles:
        """Give the parts of a run; there may be none. Its folder is given as in the function: see `read_records`."""
        folder = Path(run)
        return cls(part_paths(folder / "records") or part_paths(folder))

    def __len__(self) -> int:
        return sum(int(pq.read_metadata(path).num_rows) for path in self.files)

    def __repr__(self) -> str:
        return f"RecordFiles({len(self)} records in {len(self.files)} parts)"

    @property
    def ranks(self) -> list[int]:
        """The processes whose records these are."""
        return sorted({rank_of(path) for path in self.files})

    def trajectory(self, sample_id: SampleId) -> pa.Table:
        """Give the records of one sample, in the order they were made.

        Where several ranks measured it, num_measurements and aum are those of all ranks together.

        Parameters
        ----------
        sample_id : int or str

        Returns
        -------
        pyarrow.Table
            K rows, with the columns of a part: the fields of `AUMRecord` (ids int64 or string, floats float64), then
            ``step`` (number of the batch, from 0), ``rank`` (of the process) and ``place`` (in the batch).

        Raises
        ------
        KeyError
            Where it was never measured; 7 and "7" are different samples.
        ValueError
            Where a part is damaged; the message names it.
        """
        found = [
            _of_sample(sample_id, ds.dataset(files, schema=schema)) for schema, files in self._files_by_schema().items()
        ]
        records = pa.concat_tables([each for each in found if each is not None] or [pa.table({"step": []})])
        if not len(records):
            raise KeyError(sample_id)
        records = records.sort_by([("step", "ascending"), ("rank", "ascending"), ("place", "ascending")])
        columns = {name: records[name].to_numpy() for name in COLUMNS}
        if len(self.ranks) > 1:
            columns |= number_over_ranks(np.zeros(len(records), np.int64), columns["margin"])
        return pa.table({**id_columns(as_ids([sample_id] * len(records))), **columns})

    def dataset(self) -> Any:
        """Give all records as a `pyarrow.dataset.Dataset`, of which batches, columns and rows can be read.

        Raises
        ------
        ValueError
            Where some parts have int64 ids and others texts, as a run has whose first str came late; where a part is
            damaged.
        """
        schemas = self._files_by_schema()
        if len(schemas) > 1:
            raise ValueError("sample ids are int64 in some parts and texts in others: read each of files by itself")
        return ds.dataset([str(path) for path in self.files], schema=next(iter(schemas)))

    def to_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Give all records as an Arrow table, by part.

        Parameters
        ----------
        columns : sequence of str, optional
            Names of those to read; all by default.

        Raises
        ------
        ValueError
            As `dataset` does.
        """
        return self.dataset().to_table(columns=columns)

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """Give all records as a pandas DataFrame, by part; see `RecordFiles.to_table`."""
        return self.to_table(columns).to_pandas()

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write to `path` what ``full_aum_records.csv`` has, in bounded memory, ranks numbered together."""
        write_csv(path, self.files)

    def _files_by_schema(self) -> dict[pa.Schema, list[str]]:
        found: dict[pa.Schema, list[str]] = {}
        for path in self.files:
            try:
                schema = pq.read_schema(path).remove_metadata()
            except (OSError, ValueError) as error:  # pyarrow's own are of these, and do not name the file
                raise ValueError(f"{path}: no Parquet, or damaged ({error})") from error
            found.setdefault(schema, []).append(str(path))
        return found


def _of_sample(sample_id: SampleId, dataset: Any) -> pa.Table | None:
    """The records of a sample in parts of one schema; None where these cannot have it."""
    column = ds.field("sample_id")
    is_text = dataset.schema.field("sample_id").type != pa.int64()
    if not is_text:
        if not isinstance(as_ids([sample_id]), np.ndarray):
            return None
        return dataset.to_table(columns=[*COLUMNS], filter=column == int(sample_id))
    has_ints = "id_is_int" in dataset.schema.names
    if not isinstance(sample_id, str) and not has_ints:
        return None
    text: Any = str(sample_id)
    if pa.types.is_binary(dataset.schema.field("sample_id").type):
        text = text.encode("utf-8", "surrogatepass")
    elif any("\ud800" <= letter <= "\udfff" for letter in text):  # of a file name that is not UTF-8
        return None
    chosen = column == text
    if has_ints:
        chosen &= ds.field("id_is_int") == (not isinstance(sample_id, str))
    return dataset.to_table(columns=[*COLUMNS], filter=chosen)
