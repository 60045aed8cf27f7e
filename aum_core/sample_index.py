"""Sample ids to row numbers, in first-seen order.

The ids are the state; the table that finds them is derived and can be rebuilt at any time. Ints that fill
their range densely (the usual: positions in a data set) are found by a direct table, scattered ints by open
addressing, both in NumPy and at about 30 bytes a sample; strings, and ints beyond 64 bits, by a dict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.growable import GrowableArray, read_only
from aum_core.ids import as_ids, id_list, id_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aum_core.ids import Ids, SampleId

__all__ = ["SampleIndex", "row_names"]

_MAX_ROWS = 2**31 - 1
_ALWAYS_DIRECT = 2**20
_DIRECT_SLOTS_PER_SAMPLE = 4
# 2**64 over the golden ratio: the upper bits of a product with it are far apart even of ids in a row (Knuth 6.4)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class SampleIndex:
    """Sample ids and their rows.

    The row of an id is its place in first-seen order, and never changes.

    Examples
    --------
    >>> index = SampleIndex()
    >>> index.insert(as_ids([30, 10, 30]))
    array([0, 1, 0])
    >>> index.find(as_ids([10, 99]))
    array([ 1, -1])
    >>> index.sample_ids
    array([30, 10])
    """

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: _IntRows | _DictRows = _IntRows()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def sample_ids(self) -> NDArray[Any]:
        """All ids in first-seen order: (N,) int64, or (N,) objects where some are not 64-bit ints."""
        return self._rows.sample_ids

    def sorted_rows(self) -> NDArray[np.int64]:
        """Rows (N,) in the order of their ids: ints before strs, each in their own order."""
        return self._rows.sorted_rows()

    def insert(self, ids: Ids) -> NDArray[np.int64]:
        """Rows (B,) of `ids` (in the form of `as_ids`); ids not seen before get the next rows."""
        if isinstance(self._rows, _IntRows):
            if isinstance(ids, np.ndarray):
                return self._rows.insert(ids)
            self._rows = _DictRows(id_list(self._rows.sample_ids))
        return self._rows.insert(id_list(ids))

    def find(self, ids: Ids) -> NDArray[np.int64]:
        """Rows (B,) of `ids`, and -1 for ids not seen before."""
        if isinstance(self._rows, _DictRows):
            return self._rows.find(id_list(ids))
        if isinstance(ids, np.ndarray):
            return self._rows.find(ids)
        return np.array([self._rows.find_one(each) for each in ids], dtype=np.int64)


def row_names(sample_ids: Sequence[SampleId] | NDArray[Any] | None, num_rows: int) -> Ids:
    """Give the names of all rows of a data set in the form of `as_ids`; row numbers where there are none.

    Raises
    ------
    ValueError
        Where they are not one for each row, or not different.
    """
    if sample_ids is None:
        return np.arange(num_rows)
    ids = as_ids(sample_ids)
    if len(ids) != num_rows:
        raise ValueError(f"sample_ids: {len(ids)} names for {num_rows} rows, want one for each")
    rows = SampleIndex().insert(ids)
    twice = np.flatnonzero(rows != np.arange(num_rows))
    if twice.size:
        row = int(twice[0])
        raise ValueError(
            f"sample_ids: {id_list(ids)[row]!r} stands for rows {rows[row]} and {row}, want different names"
        )
    return ids


class _DictRows:
    """Rows of arbitrary ids. A dict keeps its order, so it is the list of ids as well."""

    __slots__ = ("_row",)

    def __init__(self, ids: list[SampleId]) -> None:
        self._row: dict[SampleId, int] = dict(zip(ids, range(len(ids)), strict=True))

    def __len__(self) -> int:
        return len(self._row)

    @property
    def sample_ids(self) -> NDArray[Any]:
        ids = np.empty(len(self._row), dtype=object)
        ids[:] = list(self._row)
        return ids

    def sorted_rows(self) -> NDArray[np.int64]:
        return id_order(list(self._row))

    def insert(self, ids: list[SampleId]) -> NDArray[np.int64]:
        row = self._row
        try:
            return np.fromiter(map(row.__getitem__, ids), np.int64, len(ids))
        except KeyError:
            return np.array([row.setdefault(each, len(row)) for each in ids], dtype=np.int64)

    def find(self, ids: list[SampleId]) -> NDArray[np.int64]:
        return np.array([self._row.get(each, -1) for each in ids], dtype=np.int64)


class _IntRows:
    """Rows of 64-bit ints: a direct table while the ids are dense, else open addressing with linear probing.

    Invariant: ``_table[s]`` is -1 or a row; row r is found at ``s = ids[r]`` (direct), or at the first slot from
    the hash of ``ids[r]`` on (open addressing) whose row has that id; at most half of the slots are taken.
    """

    __slots__ = ("_direct", "_ids", "_lowest", "_shift", "_table", "_top")

    def __init__(self) -> None:
        self._ids = GrowableArray(np.int64)
        self._lowest, self._top = 0, 0
        self._direct, self._shift = True, np.uint64(0)
        self._table: NDArray[np.int32] = np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def sample_ids(self) -> NDArray[np.int64]:
        return read_only(self._ids.values)

    def sorted_rows(self) -> NDArray[np.int64]:
        if self._direct:  # the table stands in the order of the ids
            return self._table[self._table >= 0].astype(np.int64)
        return id_order(self._ids.values)

    def insert(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = self.find(ids)
        if not len(rows) or rows[rows.argmin()] >= 0:  # of a batch four times as fast as rows.min()
            return rows
        self._add(_in_first_seen_order(ids[rows < 0]))
        return self.find(ids)

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(ids):
            return np.empty(0, np.int64)
        if not self._direct:
            return self._probe(ids).astype(np.int64)
        unsigned = ids.view(np.uint64)  # negative ones become huge: one comparison for both ends
        if unsigned[unsigned.argmax()] < len(self._table):
            return self._table[ids].astype(np.int64)
        rows = np.full(len(ids), -1, np.int64)
        inside = unsigned < len(self._table)
        rows[inside] = self._table[ids[inside]]
        return rows

    def find_one(self, sample_id: SampleId) -> int:
        ids = as_ids([sample_id])
        return int(self.find(ids)[0]) if isinstance(ids, np.ndarray) else -1

    def _add(self, new: NDArray[np.int64]) -> None:
        old_size, size = len(self), len(self) + len(new)
        if size > _MAX_ROWS:
            raise ValueError(
                f"sample_ids: more than {_MAX_ROWS} different samples in one process; use one per shard and merge"
            )
        self._ids.append(new)
        self._lowest = min(self._lowest, int(new.min()))
        self._top = max(self._top, int(new.max()))
        if self._direct and self._top < len(self._table) and self._lowest >= 0:
            self._table[new] = np.arange(old_size, size, dtype=np.int32)
        elif self._direct or 2 * size > len(self._table):
            self._rebuild()
        else:
            self._insert(new, np.arange(old_size, size, dtype=np.int32))

    def _rebuild(self) -> None:
        size = len(self)
        rows = np.arange(size, dtype=np.int32)
        self._direct = self._lowest >= 0 and self._top < max(_ALWAYS_DIRECT, _DIRECT_SLOTS_PER_SAMPLE * size)
        if self._direct:
            self._table = np.full(max(64, (self._top + 1) * 5 // 4), -1, np.int32)
            self._table[self._ids.values] = rows
            return
        bits = max(10, (2 * size - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._table = np.full(2**bits, -1, np.int32)
        self._insert(self._ids.values, rows)

    def _hash(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        return ((ids.view(np.uint64) * _GOLDEN) >> self._shift).view(np.int64)

    def _probe(self, ids: NDArray[np.int64]) -> NDArray[np.int32]:
        table, known, mask = self._table, self._ids.values, len(self._table) - 1
        slots = self._hash(ids)
        rows = table[slots]
        astray = np.flatnonzero((rows >= 0) & (known[rows] != ids))
        while astray.size:
            slots[astray] = (slots[astray] + 1) & mask
            rows[astray] = found = table[slots[astray]]
            astray = astray[(found >= 0) & (known[found] != ids[astray])]
        return rows

    def _insert(self, new: NDArray[np.int64], rows: NDArray[np.int32]) -> None:
        table, mask = self._table, len(self._table) - 1
        slots, waiting = self._hash(new), np.arange(len(new))
        while waiting.size:
            waiting_slots = slots[waiting]
            free = waiting[table[waiting_slots] < 0]
            table[slots[free]] = rows[free]  # of several for one slot the last wins; the others walk on
            waiting = waiting[table[waiting_slots] != rows[waiting]]
            slots[waiting] = (slots[waiting] + 1) & mask


def _in_first_seen_order(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    lowest = int(ids.min())
    if int(ids.max()) - lowest < _DIRECT_SLOTS_PER_SAMPLE * len(ids):  # dense: a table is several times a sort's speed
        places, numbers = ids - lowest, np.arange(len(ids))
        first_number = np.empty(int(places.max()) + 1, np.int64)
        first_number[places[::-1]] = numbers[::-1]  # of several for one place the last wins: the first of `ids`
        seen_first: NDArray[np.bool_] = first_number[places] == numbers
        return ids[seen_first]
    first = np.unique(ids, return_index=True)[1]
    first.sort()
    return ids[first]
