"""Records as ``full_aum_records.csv``: the bytes that pandas writes, many lines at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aum.parquet.cells import lines, number_cells
from aum.parquet.merging import merged, number_over_ranks
from aum.parquet.names import SampleKeys
from aum.parquet.parts import rank_of
from aum_core.files.whole import write_whole
from aum_core.records import RECORD_FIELDS

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["write_csv"]

_LINES = 65_536


def write_csv(path: str | os.PathLike[str], parts: Sequence[Path], sample_ids: NDArray[Any] | None = None) -> None:
    """Write the records of parts, by sample id (ints before strs) and then by num_measurements; whole or not at all.

    Parameters
    ----------
    path : str or path
        Its folder must exist.
    parts : sequence of path
        Of one rank, or of several, whose records are numbered together.
    sample_ids : ndarray of shape (N,), optional
        All that there are in the parts, where they are known.
    """
    keys = SampleKeys(parts, sample_ids)
    several = len({rank_of(part) for part in parts}) > 1
    with write_whole(path, "wb") as file:
        file.write(",".join(RECORD_FIELDS).encode() + b"\n")
        for piece in merged(parts, keys, Path(path)):
            records = piece | number_over_ranks(piece["key"], piece["margin"]) if several else piece
            for start in range(0, len(piece["key"]), _LINES):
                key, *columns = (records[name][start : start + _LINES] for name in ("key", *RECORD_FIELDS[1:]))
                file.write(lines(keys.cells(key), *map(number_cells, columns)))
