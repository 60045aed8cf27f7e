"""Lines of a ranking, made by pyarrow and corrected where it prints otherwise than Python does."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["lines"]

_TEXT = pa.large_string()
_NOTHING, _COMMA, _END, _POINT_ZERO = (pa.scalar(text, _TEXT) for text in ("", ",", "\n", ".0"))
_MAY_BE_QUOTED = r'[\x00-\x1f",]'  # whether csv.writer quotes it, csv.writer is asked


def lines(sample_ids: NDArray[Any], aums: NDArray[np.float64]) -> bytes | memoryview:
    """Lines ``sample_id,aum`` (B of them) as csv.writer writes them, NaN as nothing.

    Parameters
    ----------
    sample_ids : ndarray of shape (B,), int64 or objects (int and str)
    aums : ndarray of shape (B,), float64
    """
    try:
        ids = _id_cells(sample_ids)
    except UnicodeEncodeError:  # file names of another encoding: bytes that are no text for pyarrow
        return _lines_of_csv(sample_ids, aums)
    joined = pc.binary_join_element_wise(ids, _COMMA, float_cells(aums), _END, _NOTHING)
    _, offsets, text = joined.buffers()
    return memoryview(text)[: np.frombuffer(offsets, np.int64)[len(joined)]]


def float_cells(values: NDArray[np.float64]) -> Any:
    """Floats (B,) as Python's repr prints them, and NaN as nothing: an array of large strings."""
    cells = pc.cast(pa.array(values), _TEXT)
    size = np.abs(values)
    plain = ((size >= 1e-4) & (size < 1e10)) | (size == 0)  # elsewhere the two do not agree on exponents
    with np.errstate(invalid="ignore"):
        whole = plain & (values == np.trunc(values))
    if whole.any():
        cells = pc.if_else(pa.array(whole), pc.binary_join_element_wise(cells, _POINT_ZERO, _NOTHING), cells)
    return cells if plain.all() else _replaced(cells, ~plain, [_float_cell(each) for each in values[~plain].tolist()])


def _float_cell(value: float) -> str:
    return "" if value != value else repr(value)  # noqa: PLR0124 # NaN alone differs from itself


def _id_cells(sample_ids: NDArray[Any]) -> Any:
    if sample_ids.dtype != object:
        return pc.cast(pa.array(sample_ids), _TEXT)
    texts = [str(each) for each in sample_ids.tolist()]
    cells = pa.array(texts, _TEXT)
    special = pc.match_substring_regex(cells, _MAY_BE_QUOTED).to_numpy(zero_copy_only=False)
    if not special.any():
        return cells
    return _replaced(cells, special, [_csv_cell(texts[row]) for row in np.flatnonzero(special).tolist()])


def _replaced(cells: Any, where: NDArray[np.bool_], texts: list[str]) -> Any:
    return pc.replace_with_mask(cells, pa.array(where), pa.array(texts, _TEXT))


def _csv_cell(text: str) -> str:
    return _csv([(text, "")]).removesuffix(",\n")


def _lines_of_csv(sample_ids: NDArray[Any], aums: NDArray[np.float64]) -> bytes:
    rows = zip(sample_ids.tolist(), map(_float_cell, aums.tolist()), strict=True)
    return _csv(rows).encode("utf-8", "surrogateescape")


def _csv(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
