"""The records of a run on disk, as Parquet: written while it trains, read by whatever reads Parquet.

A run's records outgrow the memory long before its totals do. So they go to part files of about a million, each of which
is there whole or not at all, and memory is bounded by one part whatever the length of the run. The calculators of the
frameworks do this by themselves where ``compressed=False``; `read_records` is for afterwards.

What comes in are the records of a batch as columns (B,), with the rows of their samples in the totals. What goes out
are part files sorted by sample id, in ``records/`` of the run's folder; from them one sample's records, tables, and the
bytes of ``full_aum_records.csv``.

It never has more than one part in memory, never overwrites or removes a part (what is not of the run is set aside),
and computes no margin and no AUM: but where several processes measured, their records are numbered together.
"""

from __future__ import annotations

try:
    import pyarrow as pa  # noqa: F401 # to see whether it is there
except ModuleNotFoundError as error:
    if error.name != "pyarrow":
        raise
    raise ModuleNotFoundError(
        "records on disk (compressed=False) need pyarrow: pip install pyarrow", name="pyarrow"
    ) from error

from aum.parquet.log import RecordsOnDisk
from aum.parquet.reading import RecordFiles, read_records

__all__ = ["RecordFiles", "RecordsOnDisk", "read_records"]
