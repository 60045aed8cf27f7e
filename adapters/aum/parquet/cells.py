"""Cells and lines of a CSV as Python writes them, and so pandas, but many at a time.

Columns of cells are bytes, as file names may be of any encoding: what Arrow holds for a text has to be UTF-8.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aum_core.files.encoding import AS_THE_SYSTEM_HAS_IT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CELL", "MAY_BE_QUOTED", "id_cells", "lines", "number_cells", "text_cells"]

CELL = pa.large_binary()
MAY_BE_QUOTED = r'[\x00-\x1f",]'  # whether csv.writer quotes it, csv.writer is asked
_TEXT = pa.large_string()
_COMMA, _END, _NOTHING, _POINT_ZERO = (pa.scalar(each, CELL) for each in (b",", b"\n", b"", b".0"))


def lines(*columns: pa.Array) -> memoryview:
    """Columns of cells (B,) as B lines of bytes."""
    joined = pc.binary_join_element_wise(pc.binary_join_element_wise(*columns, _COMMA), _END, _NOTHING)
    _, offsets, content = joined.buffers()
    return memoryview(content)[: np.frombuffer(offsets, np.int64)[len(joined)]]


def id_cells(sample_ids: NDArray[Any]) -> pa.Array:
    """Cells of ids (B,), int64 or objects."""
    return text_cells(list(map(str, sample_ids.tolist()))) if sample_ids.dtype == object else number_cells(sample_ids)


def text_cells(texts: list[str]) -> pa.Array:
    """Cells of texts (B,), in quotes where csv.writer has it so."""
    try:
        cells = pa.array(texts, _TEXT).cast(CELL)
    except UnicodeEncodeError:
        cells = pa.array([text.encode("utf-8", AS_THE_SYSTEM_HAS_IT) for text in texts], CELL)
    special = pc.match_substring_regex(cells, MAY_BE_QUOTED).to_numpy(zero_copy_only=False)
    return _replaced(cells, special, [_by_csv_writer(texts[row]) for row in np.flatnonzero(special).tolist()])


def number_cells(values: NDArray[Any]) -> pa.Array:
    """Cells of numbers (B,), floats as Python's repr prints them, and NaN as nothing."""
    cells = pc.cast(pa.array(values), _TEXT).cast(CELL)
    if values.dtype.kind != "f":
        return cells
    size = np.abs(values)
    plain = ((size >= 1e-4) & (size < 1e10)) | (size == 0)  # elsewhere Arrow and Python do not agree on exponents
    with np.errstate(invalid="ignore"):
        whole = plain & (values == np.trunc(values))
    if whole.any():
        cells = pc.if_else(pa.array(whole), pc.binary_join_element_wise(cells, _POINT_ZERO, _NOTHING), cells)
    others = [b"" if np.isnan(each) else repr(each).encode() for each in values[~plain].tolist()]
    return _replaced(cells, ~plain, others)


def _by_csv_writer(text: str) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow((text, ""))  # alone in its line, an empty text would be quoted
    return line.getvalue().removesuffix(",\n").encode("utf-8", AS_THE_SYSTEM_HAS_IT)


def _replaced(cells: pa.Array, where: NDArray[np.bool_], others: list[bytes]) -> pa.Array:
    """Cells (B,) with others at the places that a mask (B,) marks."""
    return pc.replace_with_mask(cells, pa.array(where), pa.array(others, CELL)) if others else cells
