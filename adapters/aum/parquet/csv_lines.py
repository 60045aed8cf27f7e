"""Records as the lines of ``full_aum_records.csv``: the bytes that pandas writes, many at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aum.parquet.cells import float_cells
from aum.parquet.merging import merged, number_over_ranks
from aum.parquet.names import SampleKeys
from aum.parquet.parts import rank_of
from aum_core.files.whole import write_whole
from aum_core.records import RECORD_FIELDS

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["write_csv"]

_LINES = 65_536
_CELL = pa.large_binary()


def write_csv(
    path: str | os.PathLike[str],
    parts: Sequence[Path],
    sample_ids: NDArray[Any] | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> None:
    """Write the records of parts, by sample id (ints before strs) and then by num_measurements; whole or not at all.

    Parameters
    ----------
    path : str or path
        Its folder must exist.
    parts : sequence of path
        Of one rank, or of several, whose records are numbered together.
    sample_ids : ndarray of shape (N,), optional
        All that there are in the parts, where they are known.
    on_progress : callable ``on_progress(done, total)``, optional
        Called now and then with the number of records that are written, and of all.
    """
    keys = SampleKeys(parts, sample_ids)
    names = keys.cells()
    names = None if names is None else names.cast(_CELL)
    several = len({rank_of(part) for part in parts}) > 1
    done, total = 0, sum(pq.read_metadata(part).num_rows for part in parts)
    with write_whole(path, "wb") as file:
        file.write(",".join(RECORD_FIELDS).encode() + b"\n")
        for piece in merged(parts, keys, Path(path)):
            numbered = number_over_ranks(piece["key"], piece["margin"]) if several else {}
            for block in _blocks({**piece, **numbered}):
                file.write(_lines(block, names))
                done += len(block["key"])
                if on_progress is not None:
                    on_progress(done, total)


def _blocks(piece: dict[str, NDArray[Any]]) -> Iterator[dict[str, NDArray[Any]]]:
    for start in range(0, len(piece["key"]), _LINES):
        yield {name: column[start : start + _LINES] for name, column in piece.items()}


def _lines(piece: dict[str, NDArray[Any]], names: pa.Array | None) -> memoryview:
    keys = piece["key"]
    cells = [_cells(keys) if names is None else names.take(pa.array(keys))]
    cells += [_cells(piece[name]) for name in RECORD_FIELDS[1:]]
    lines = pc.binary_join_element_wise(*cells, pa.scalar(b",", _CELL))
    lines = pc.binary_join_element_wise(lines, pa.scalar(b"", _CELL), pa.scalar(b"\n", _CELL))
    _, offsets, content = lines.buffers()
    return memoryview(content)[: np.frombuffer(offsets, np.int64)[len(lines)]]


def _cells(column: NDArray[Any]) -> pa.Array:
    texts = float_cells(column) if column.dtype.kind == "f" else pc.cast(pa.array(column), pa.large_string())
    return texts.cast(_CELL)  # names may be of another encoding than Arrow's strings
