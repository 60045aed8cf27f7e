"""Totals as Parquet: what DuckDB, Dask, Spark and the like add up where no machine holds all samples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # noqa: TID251 # what this module is about
import pyarrow.parquet  # noqa: TID251 # as above

from aum.command.errors import InputError, reading
from aum_core import Totals
from aum_core.files.whole import write_whole
from aum_core.ids import as_ids

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

__all__ = ["read_totals", "write_totals"]


def write_totals(path: str | os.PathLike[str], totals: Totals, source: object) -> None:
    """Write the columns ``sample_id`` (int64 or string), ``sum`` (double) and ``count`` (int64), by id.

    What was left out is in the metadata of the schema, as ``aum``. `source` is the file that errors name.
    """
    totals = totals.sorted()
    columns = {"sample_id": _id_column(totals.sample_ids, source), "sum": totals.sums, "count": totals.counts}
    table = pa.table(columns).replace_schema_metadata({"aum": json.dumps({"left_out": totals.left_out})})
    with write_whole(path, "wb") as file:
        pa.parquet.write_table(table, file, compression="zstd")


def _id_column(ids: NDArray[Any], source: object) -> Any:
    if ids.dtype != object:
        return pa.array(ids)
    if not all(isinstance(each, str) for each in ids.tolist()):
        raise InputError(
            f"{source}: sample ids are strs and ints, or ints beyond 64 bits: a column of Parquet has one type"
        )
    try:
        return pa.array(ids.tolist(), pa.string())
    except UnicodeEncodeError as error:
        raise InputError(f"{source}: sample id {error.object!r}: not text, as a column of Parquet wants") from None


def read_totals(path: str | os.PathLike[str]) -> Totals:
    """Read what `write_totals` wrote, or what an engine made of several such files."""
    with reading(path, "not totals as Parquet, or damaged", pa.ArrowException, OSError, KeyError):
        with pa.parquet.ParquetFile(path) as file:
            table = file.read()
        columns = {name: table[name] for name in ("sample_id", "sum", "count")}
    for name, column in columns.items():
        if column.null_count:
            raise InputError(f"{path}: {column.null_count} values of {name} are missing")
    ids, sums, counts = (column.to_numpy() for column in columns.values())
    try:
        counts = counts.astype(np.int64)
        totals = Totals.from_rows(sums, counts, as_ids(ids), _left_out(table))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None
    if (counts < 1).any():
        raise InputError(f"{path}: {np.count_nonzero(counts < 1)} rows with a count below 1, want them left out")
    return totals


def _left_out(table: Any) -> int:
    metadata = json.loads((table.schema.metadata or {}).get(b"aum", b"{}"))
    if not isinstance(metadata, dict):
        raise TypeError(f"its metadata of aum are {metadata}, want those that aum export writes")
    return int(metadata.get("left_out", 0))
