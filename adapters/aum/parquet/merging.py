"""The records of sorted parts, brought together in the order of the full CSV, in bounded memory.

A merge of sorted files: of each part one group of rows is in memory, and what lies below the end of all groups goes
out. Samples are told by an int64 key, in whose order they stand: the id itself, or its place among all ids where some
are texts.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aum.parquet.names import ID_COLUMNS
from aum.parquet.parts import COLUMNS, rank_of
from aum_core.files.whole import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from aum.parquet.names import SampleKeys

__all__ = ["merged", "number_over_ranks"]

_FAN_IN = 128
_ARRIVAL = ("step", "rank", "place")


def merged(paths: Sequence[Path], keys: SampleKeys, target: Path) -> Iterator[dict[str, NDArray[Any]]]:
    """Give the records of all parts by key, then in the order they were made, in pieces of whole samples.

    Parameters
    ----------
    paths : sequence of path
        The parts, each rank's in the order they were written.
    keys : SampleKeys
        Of these parts.
    target : path
        What is made of them. Where there are very many parts, they are merged into larger ones first, in a folder
        beside it.

    Yields
    ------
    dict of str to ndarray of shape (K,)
        ``key`` and the columns of a part.
    """
    ranks = {rank_of(path) for path in paths}
    columns = [*COLUMNS] if len(ranks) > 1 else [name for name in COLUMNS if name not in _ARRIVAL]
    streams = [_Stream(path, [*ID_COLUMNS, *columns], keys) for path in paths]
    with ExitStack() as stack:
        if len(streams) > _FAN_IN:
            folder = stack.enter_context(scratch_folder(target))
        number = 0
        while len(streams) > _FAN_IN:
            larger = []
            for start in range(0, len(streams), _FAN_IN):
                path = folder / f"{number}.parquet"
                _write(path, _merge(streams[start : start + _FAN_IN]))
                larger.append(_Stream(path, ["sample_id", *columns], None))
                number += 1
            streams = larger
        yield from _merge(streams)


def number_over_ranks(keys: NDArray[np.int64], margins: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Give the num_measurements and aum of all ranks together, where each record has those of its own.

    As one process would have: the margins of a sample are added one after the other, in the order given.

    Parameters
    ----------
    keys : ndarray of shape (K,), int64
        Of the samples, those of one sample next to each other.
    margins : ndarray of shape (K,), float64
    """
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(keys)])
    counts = np.diff(np.r_[starts, len(keys)])
    aums, sums = np.empty(len(keys)), np.zeros(len(starts))
    for done in range(int(counts.max(initial=0))):
        more = counts > done
        sums[more] += margins[starts[more] + done]
        aums[starts[more] + done] = sums[more] / (done + 1)
    return {"num_measurements": (np.arange(len(keys)) - np.repeat(starts, counts) + 1).astype(np.int32), "aum": aums}


class _Stream:
    """A sorted part, of which some rows are in memory."""

    def __init__(self, path: Path, columns: Sequence[str], keys: SampleKeys | None) -> None:
        self._path, self._keys = path, keys
        self._names = [name for name in columns if name in pq.read_schema(path).names]
        self.rows: dict[str, NDArray[Any]] = {}
        self.exhausted = False

    def open(self, stack: ExitStack) -> None:
        self._file = stack.enter_context(pq.ParquetFile(self._path))
        self._next = 0
        self.load()

    def load(self) -> None:
        """Take in one more group."""
        table = self._file.read_row_group(self._next, self._names, use_threads=False)
        self._next += 1
        self.exhausted = self._next == self._file.num_row_groups
        keys = table["sample_id"].to_numpy() if self._keys is None else self._keys.of(table)
        loaded = {"key": keys, **{name: table[name].to_numpy() for name in self._names if name in COLUMNS}}
        left = {name: self.rows[name] for name in loaded if len(self.rows.get(name, ()))}
        self.rows = {name: np.concatenate([left[name], loaded[name]]) if left else loaded[name] for name in loaded}

    @property
    def last(self) -> int:
        return int(self.rows["key"][-1])

    def take_below(self, key: int | None) -> dict[str, NDArray[Any]]:
        """Give rows of samples below `key`, all where it is None, and keep the others."""
        end = len(self.rows["key"]) if key is None else int(np.searchsorted(self.rows["key"], key))
        taken = {name: column[:end] for name, column in self.rows.items()}
        self.rows = {name: column[end:] for name, column in self.rows.items()}
        return taken


def _merge(streams: Sequence[_Stream]) -> Iterator[dict[str, NDArray[Any]]]:
    with ExitStack() as stack:
        for stream in streams:
            stream.open(stack)
        while streams:
            # of a sample at the very end of a group the next group may have more
            ends = [stream.last for stream in streams if not stream.exhausted]
            bound = min(ends) if ends else None
            yield from _sorted([stream.take_below(bound) for stream in streams])
            streams = [stream for stream in streams if len(stream.rows["key"])]
            for stream in streams:
                if not stream.exhausted and stream.last == bound:
                    stream.load()


def _sorted(pieces: Sequence[dict[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
    piece = {name: np.concatenate([each[name] for each in pieces]) for name in pieces[0]}
    if not len(piece["key"]):
        return
    # those of one rank come as they were made, part after part
    arrival = [piece[name] for name in reversed(_ARRIVAL)] if "step" in piece else []
    order = np.lexsort((*arrival, piece["key"])) if arrival else np.argsort(piece["key"], kind="stable")
    yield {name: column[order] for name, column in piece.items()}


def _write(path: Path, pieces: Iterable[dict[str, NDArray[Any]]]) -> None:
    with ExitStack() as stack:
        writer = None
        for piece in pieces:
            table = pa.table({"sample_id": piece.pop("key"), **piece})
            writer = writer or stack.enter_context(pq.ParquetWriter(path, table.schema, compression="zstd"))
            writer.write_table(table, row_group_size=16_384)
