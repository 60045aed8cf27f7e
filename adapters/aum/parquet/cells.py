"""Cells of a CSV as Python writes them, and so pandas: floats by their repr, ids quoted where they must be."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core.ids import SampleId

__all__ = ["TEXT", "float_cell", "float_cells", "id_cell", "replaced"]

TEXT = pa.large_string()
_NOTHING, _POINT_ZERO = pa.scalar("", TEXT), pa.scalar(".0", TEXT)


def float_cells(values: NDArray[np.float64]) -> Any:
    """Floats (B,) as Python's repr prints them, and NaN as nothing: an array of large strings."""
    cells = pc.cast(pa.array(values), TEXT)
    size = np.abs(values)
    plain = ((size >= 1e-4) & (size < 1e10)) | (size == 0)  # elsewhere the two do not agree on exponents
    with np.errstate(invalid="ignore"):
        whole = plain & (values == np.trunc(values))
    if whole.any():
        cells = pc.if_else(pa.array(whole), pc.binary_join_element_wise(cells, _POINT_ZERO, _NOTHING), cells)
    return cells if plain.all() else replaced(cells, ~plain, list(map(float_cell, values[~plain].tolist())))


def float_cell(value: float) -> str:
    """One float as Python's repr prints it, and NaN as nothing."""
    return "" if value != value else repr(value)  # noqa: PLR0124 # NaN alone differs from itself


def id_cell(sample_id: SampleId) -> str:
    """One id as csv.writer writes it, in front of another cell: an empty text alone in its line would be quoted."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow((sample_id, ""))
    return line.getvalue().removesuffix(",\n")


def replaced(cells: Any, where: NDArray[np.bool_], texts: list[str]) -> Any:
    """Cells (B,), large strings, with `texts` at the places that `where` (B,) marks."""
    return pc.replace_with_mask(cells, pa.array(where), pa.array(texts, TEXT))
