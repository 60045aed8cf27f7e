"""Lines of a ranking, made by pyarrow and corrected where it prints otherwise than Python does."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aum.parquet.cells import TEXT, float_cell, float_cells, id_cell, replaced
from aum_core.files.encoding import AS_THE_SYSTEM_HAS_IT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["lines"]

_NOTHING, _COMMA, _END = (pa.scalar(text, TEXT) for text in ("", ",", "\n"))
_MAY_BE_QUOTED = r'[\x00-\x1f",]'  # whether csv.writer quotes it, csv.writer is asked


def lines(sample_ids: NDArray[Any], aums: NDArray[np.float64]) -> bytes | memoryview:
    r"""Lines ``sample_id,aum`` (B of them) as csv.writer writes them, NaN as nothing.

    Parameters
    ----------
    sample_ids : ndarray of shape (B,), int64 or objects (int and str)
    aums : ndarray of shape (B,), float64

    Returns
    -------
    bytes or memoryview
        Of UTF-8; names of another encoding are the bytes that they were.

    Examples
    --------
    >>> bytes(lines(np.array([7, 3]), np.array([0.5, np.nan])))
    b'7,0.5\n3,\n'
    """
    try:
        ids = _id_cells(sample_ids)
    except UnicodeEncodeError:  # file names of another encoding: bytes that are no text for pyarrow
        return _lines_of_csv(sample_ids, aums)
    joined = pc.binary_join_element_wise(ids, _COMMA, float_cells(aums), _END, _NOTHING)
    _, offsets, text = joined.buffers()
    return memoryview(text)[: np.frombuffer(offsets, np.int64)[len(joined)]]


def _id_cells(sample_ids: NDArray[Any]) -> Any:
    if sample_ids.dtype != object:
        return pc.cast(pa.array(sample_ids), TEXT)
    texts = [str(each) for each in sample_ids.tolist()]
    cells = pa.array(texts, TEXT)
    special = pc.match_substring_regex(cells, _MAY_BE_QUOTED).to_numpy(zero_copy_only=False)
    if not special.any():
        return cells
    return replaced(cells, special, [id_cell(texts[row]) for row in np.flatnonzero(special).tolist()])


def _lines_of_csv(sample_ids: NDArray[Any], aums: NDArray[np.float64]) -> bytes:
    text = io.StringIO(newline="")
    rows = zip(sample_ids.tolist(), map(float_cell, aums.tolist()), strict=True)
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", AS_THE_SYSTEM_HAS_IT)
