"""Sample ids as Arrow's arrays and as sort keys: ints before strs, each in their own order, as the files have them.

The order of Python's strs is that of their UTF-8 bytes, so Arrow can sort, tell apart and look up texts without making
a Python object of each. Only where ints stand beside strs, or are beyond 64 bits, is each id looked up by hand.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from operator import methodcaller
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aum.parquet.cells import CELL, MAY_BE_QUOTED, number_cells, text_cells
from aum_core.ids import id_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from aum_core.ids import SampleId

__all__ = ["ID_COLUMNS", "IdSorter", "SampleKeys", "id_columns", "ids_of_table"]

ID_COLUMNS = ["sample_id", "id_is_int"]
_PARTS_AT_ONCE = 16


def id_columns(ids: NDArray[np.int64] | Sequence[SampleId]) -> dict[str, pa.Array]:
    """Give checked ids as the columns of a part that hold them."""
    if isinstance(ids, np.ndarray) and ids.dtype != object:
        return {"sample_id": pa.array(ids)}
    is_int = [not isinstance(each, str) for each in ids]
    texts = list(map(str, ids))
    kinds = {"id_is_int": pa.array(is_int)} if any(is_int) else {}
    try:
        return {"sample_id": pa.array(texts, pa.string()), **kinds}
    except UnicodeEncodeError:  # file names of another encoding, which Parquet's own strings cannot hold
        return {"sample_id": _encoded(texts), **kinds}


def ids_of_table(table: pa.Table) -> NDArray[Any]:
    """Sample ids of a table (K,): int64, or objects (int and str)."""
    column = table["sample_id"]
    if column.type == pa.int64():
        numbers: NDArray[Any] = column.to_numpy()
        return numbers
    texts = column.to_pylist()
    if pa.types.is_binary(column.type):
        texts = [text.decode("utf-8", "surrogatepass") for text in texts]
    if "id_is_int" in table.column_names:
        kinds = table["id_is_int"].to_pylist()
        texts = [int(text) if is_int else text for text, is_int in zip(texts, kinds, strict=True)]
    ids = np.empty(len(texts), object)
    ids[:] = texts
    return ids


class IdSorter:
    """Sorts records by the sample ids of their rows, again and again.

    The order of all texts is kept once no new ones have come for a while: that is most of the work.
    """

    def __init__(self) -> None:
        self._size = -1
        self._ranks: NDArray[np.int64] | None = None
        self._columns: dict[str, pa.Array] = {}

    def sort(self, rows: NDArray[np.int32], known: NDArray[Any]) -> tuple[NDArray[np.int64], dict[str, pa.Array]]:
        """Order (K,) that sorts records by sample id, those of one sample as they come, and the sorted id columns.

        Parameters
        ----------
        rows : ndarray of shape (K,)
            Of the records' samples in `known`.
        known : ndarray of shape (N,), int64 or object
            All sample ids.
        """
        if known.dtype != object:
            ids = known[rows]
            order = id_order(ids)
            return order, {"sample_id": pa.array(ids[order])}
        if len(known) != self._size:
            self._size, self._ranks = len(known), None
            own, which = np.unique(rows, return_inverse=True)
            ranks, columns = _ranked(known[own])
            ranks = ranks[which]
        else:
            if self._ranks is None:
                self._ranks, self._columns = _ranked(known)
            ranks, columns = self._ranks[rows], self._columns
        order = id_order(ranks)
        chosen = pa.array(ranks[order])
        return order, {name: column.take(chosen) for name, column in columns.items()}


class SampleKeys:
    """Keys (K,) int64 of sample ids, in whose order the samples stand, for some parts.

    The key of an id is the id itself where all are int64, else its place among all of them.

    Parameters
    ----------
    parts : sequence of path
    sample_ids : ndarray of shape (N,), optional
        All that there are in the parts; they are looked for in these where it is not given.
    """

    def __init__(self, parts: Sequence[Path], sample_ids: NDArray[Any] | None = None) -> None:
        schemas = [pq.read_schema(part) for part in parts]
        is_text = [schema.field("sample_id").type != pa.int64() for schema in schemas]
        self._names: pa.Array | None = None  # sorted, in bytes, where all are texts
        self._places: dict[SampleId, int] = {}  # by id in their order, where some are texts
        if all(is_text) and parts and not any("id_is_int" in schema.names for schema in schemas):
            names = _different_texts(parts) if sample_ids is None else _encoded(map(str, sample_ids.tolist()))
            self._names = names.take(pc.sort_indices(names))
        elif any(is_text):
            ids = _different_ids(parts) if sample_ids is None else sample_ids.tolist()
            self._places = {ids[row]: place for place, row in enumerate(id_order(ids).tolist())}

    def of(self, table: pa.Table) -> NDArray[np.int64]:
        """Keys of the samples of a table that is sorted by them, of which it has at least one."""
        if self._places:
            return np.array([self._places[each] for each in ids_of_table(table).tolist()])
        if self._names is None:
            numbers: NDArray[np.int64] = table["sample_id"].to_numpy()
            return numbers
        names = _bytes_in(table)
        low, high = (bisect_left(self._names, names[i].as_py(), key=methodcaller("as_py")) for i in (0, -1))
        keys: NDArray[np.int32] = pc.index_in(names, self._names[low : high + 1]).to_numpy()
        return keys.astype(np.int64) + low

    def cells(self, keys: NDArray[np.int64]) -> pa.Array:
        """What a CSV has for keys (K,)."""
        return number_cells(keys) if self._cells is None else self._cells.take(pa.array(keys))

    @cached_property
    def _cells(self) -> pa.Array | None:
        if self._names is None:
            return text_cells(list(map(str, self._places))) if self._places else None
        # bytes that are no UTF-8 stand for names of another encoding: Python knows what to make of them
        special = pc.match_substring_regex(self._names, rf"{MAY_BE_QUOTED}|[^\x00-\x7f]")
        texts = [name.decode("utf-8", "surrogatepass") for name in self._names.filter(special).to_pylist()]
        return pc.replace_with_mask(self._names.cast(CELL), special, text_cells(texts))


def _different_ids(parts: Sequence[Path]) -> list[SampleId]:
    found: set[SampleId] = set()
    for part in parts:
        found.update(ids_of_table(_read_ids(part)).tolist())
    return list(found)


def _different_texts(parts: Sequence[Path]) -> pa.Array:
    found: list[pa.Array] = []
    for part in parts:
        found.append(_bytes_in(_read_ids(part)).unique())
        if len(found) > _PARTS_AT_ONCE:
            found = [pa.concat_arrays(found).unique()]
    return pa.concat_arrays(found).unique()


def _read_ids(part: Path) -> pa.Table:
    names = [name for name in ID_COLUMNS if name in pq.read_schema(part).names]
    return pq.read_table(part, columns=names, use_threads=False)


def _bytes_in(table: pa.Table) -> pa.Array:
    return table["sample_id"].combine_chunks().cast(pa.binary())


def _encoded(texts: Iterable[str]) -> pa.Array:
    return pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.binary())


def _ranked(ids: NDArray[Any]) -> tuple[NDArray[np.int64], dict[str, pa.Array]]:
    """The place (N,) of each of some different ids in their order, and their columns in this order."""
    order = id_order(ids)
    ranks = np.empty(len(ids), np.int64)
    ranks[order] = np.arange(len(ids))
    return ranks, id_columns(ids[order].tolist())
