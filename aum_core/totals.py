"""The running sum and count of each sample's margins: all the state that a ranking needs.

Sums, never averages: float64 adds margins of float32 logits without rounding (as long as those of one sample span
less than eight orders of magnitude), so that shards merge to the same bits in any order, and a mean of means would not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.files.arrays import check_arrays, load_arrays, save_arrays
from aum_core.growable import GrowableArray, read_only
from aum_core.ids import as_ids, ids_from_arrays, ids_to_arrays
from aum_core.sample_index import SampleIndex, row_names

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from aum_core.ids import Ids, SampleId

__all__ = ["ByID", "Totals"]

_KIND = "aum totals, version 1"
_SCHEMA = {"ids": "int64", "text": "uint8", "kinds": "uint8", "sums": "float64", "counts": "int64", "left_out": "int64"}
_ROOM = 4096


class Totals:
    """Sum and count of the margins of each sample, in first-seen order.

    Examples
    --------
    >>> totals = Totals()
    >>> totals.add([7, 3, 7], [1.0, -2.0, 4.0])
    >>> totals.sample_ids, totals.sums, totals.counts, totals.aums
    (array([7, 3]), array([ 5., -2.]), array([2, 1]), array([ 2.5, -2. ]))
    """

    # Invariant: what the properties tell is sums and counts by row, plus the first `_num_pending` ids and margins,
    # which wait in arrival order to be added all at once: looking up a handful of ids costs as much as hundreds.
    __slots__ = ("_counts", "_index", "_num_pending", "_pending_ids", "_pending_margins", "_sums", "left_out")

    def __init__(self) -> None:
        self._index = SampleIndex()
        self._sums = GrowableArray(np.float64)
        self._counts = GrowableArray(np.int64)
        self._pending_ids = np.empty(_ROOM, np.int64)
        self._pending_margins = np.empty(_ROOM, np.float64)
        self._num_pending = 0
        self.left_out = 0
        """Measurements that were left out: margin not finite or, on a device, id or target out of range."""

    @classmethod
    def from_rows(cls, sums: Any, counts: Any, sample_ids: Any = None, left_out: int = 0) -> Totals:
        """Totals of sums and counts by row of the data set, as devices keep them.

        Parameters
        ----------
        sums, counts : array_like of shape (N,)
            Taken as float64 and int64. Rows whose count is 0 were not measured, and do not become samples.
        sample_ids : sequence of N int or str, optional
            The names of the rows, all different; row numbers by default.
        left_out : int
            Measurements that were left out.

        Raises
        ------
        ValueError
            Where the names are not one for each row, or not different.

        Examples
        --------
        >>> Totals.from_rows([4.0, 0.0, -1.0], [2, 0, 1], ["a", "b", "c"]).sample_ids.tolist()
        ['a', 'c']
        """
        counted = np.asarray(counts, dtype=np.int64)
        ids = row_names(sample_ids, len(counted))
        measured = np.flatnonzero(counted)
        totals = cls()
        chosen = ids[measured] if isinstance(ids, np.ndarray) else [ids[row] for row in measured.tolist()]
        totals.set_at(totals.insert(chosen), np.asarray(sums, dtype=np.float64)[measured], counted[measured])
        totals.left_out = left_out
        return totals

    def __len__(self) -> int:
        self._add_pending()
        return len(self._index)

    def __repr__(self) -> str:
        return f"Totals({len(self)} samples, {self.measurements} measurements, {self.left_out} left out)"

    @property
    def sample_ids(self) -> NDArray[Any]:
        """Ids (N,) in first-seen order: int64, or objects (int and str) where some are not 64-bit ints."""
        self._add_pending()
        return self._index.sample_ids

    @property
    def sums(self) -> NDArray[np.float64]:
        """Sum of the margins of each sample, (N,), in the unit of the logits, as of now; read-only."""
        self._add_pending()
        return read_only(self._sums.values)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of measurements of each sample, (N,), as of now; read-only."""
        self._add_pending()
        return read_only(self._counts.values)

    @property
    def aums(self) -> NDArray[np.float64]:
        """Area under the margin of each sample, (N,): sum / count, in the unit of the logits."""
        aums: NDArray[np.float64] = self.sums / self.counts
        return aums

    @property
    def measurements(self) -> int:
        """Number of measurements of all samples."""
        return int(self.counts.sum())

    def measurements_per_sample(self) -> dict[str, int]:
        """Tell how often samples were measured; ``run.json`` has it.

        Returns
        -------
        dict
            ``min`` and ``max``; ``usual``, the count of most samples (of several the lowest); ``unusual_samples``, how
            many have another one. Empty where there are no samples.

        Examples
        --------
        A sampler that pads the shards of an epoch with repeats leaves its trace:

        >>> totals = Totals()
        >>> totals.add([0, 1, 2, 0], [1.0, -2.0, 4.0, 1.0])
        >>> totals.measurements_per_sample()
        {'min': 1, 'max': 2, 'usual': 1, 'unusual_samples': 1}
        """
        times, samples = np.unique(self.counts, return_counts=True)
        if not len(times):
            return {}
        usual = int(samples.argmax())
        unusual = len(self) - int(samples[usual])
        return {"min": int(times[0]), "max": int(times[-1]), "usual": int(times[usual]), "unusual_samples": unusual}

    def describe(self) -> dict[str, Any]:
        """Tell what was measured, as ``run.json`` has it."""
        return {
            "samples": len(self),
            "measurements": self.measurements,
            "measurements_per_sample": self.measurements_per_sample(),
            "left_out": self.left_out,
        }

    def add(self, sample_ids: Any, margins: Any) -> None:
        """Add one margin for each id; a repeated id counts as often as it is there, in the order given.

        Parameters
        ----------
        sample_ids : array_like of shape (B,), ints or strs
        margins : array_like of shape (B,), floats
            Taken as float64.

        Raises
        ------
        TypeError, ValueError
            Where ids are of another kind, or not as many as margins.
        """
        ids = as_ids(sample_ids)
        values = np.asarray(margins, dtype=np.float64)
        if values.shape != (len(ids),):
            raise ValueError(f"margins: shape {values.shape}, want ({len(ids)},): one for each of the sample_ids")
        self.add_later(ids, values)

    def insert(self, ids: Ids) -> NDArray[np.int64]:
        """Rows (B,) of checked `ids`; ids not seen before get rows of zeros, to be added to at once."""
        self._add_pending()
        return self._insert(ids)

    def add_later(self, ids: Ids, margins: NDArray[Any]) -> None:
        """Add `margins` (B,), one for each of the checked `ids` (B,), by when the totals are next looked at."""
        start, end = self._num_pending, self._num_pending + len(margins)
        if end > _ROOM or not isinstance(ids, np.ndarray):
            self._add_pending()
            start, end = 0, len(margins)
            if end > _ROOM or not isinstance(ids, np.ndarray):
                self._add(ids, margins.astype(np.float64))
                return
        self._pending_ids[start:end] = ids
        self._pending_margins[start:end] = margins
        self._num_pending = end

    def _add_pending(self) -> None:
        if self._num_pending:
            pending, self._num_pending = self._num_pending, 0
            self._add(self._pending_ids[:pending], self._pending_margins[:pending])

    def _add(self, ids: Ids, margins: NDArray[np.float64]) -> None:
        self.add_at(self._insert(ids), margins)

    def _insert(self, ids: Ids) -> NDArray[np.int64]:
        rows = self._index.insert(ids)
        new = len(self._index) - len(self._sums)
        if new:
            self._sums.append_zeros(new)
            self._counts.append_zeros(new)
        return rows

    def add_at(self, rows: NDArray[np.int64], margins: NDArray[Any]) -> None:
        """Add `margins` (B,), one for each of `rows` (B,), of which some may be there several times."""
        with np.errstate(over="ignore", invalid="ignore"):  # sums of non-finite margins, where they propagate
            np.add.at(self._sums.values, rows, margins.astype(np.float64, copy=False))
        np.add.at(self._counts.values, rows, 1)

    def add_in_turn(
        self, rows: NDArray[np.int64], margins: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Add `margins` (B,) to `rows` in turn; give the count and the AUM (B,) of each right after its own margin."""
        counts, sums = self.counts[rows], self.sums[rows]
        if len(set(rows.tolist())) == len(rows):
            counts += 1
            sums += margins
        else:
            latest: dict[int, tuple[int, float]] = {}
            for i, (row, margin) in enumerate(zip(rows.tolist(), margins.tolist(), strict=True)):
                count, total = latest.get(row, (int(counts[i]), float(sums[i])))
                latest[row] = counts[i], sums[i] = count + 1, total + margin
        self.set_at(rows, sums, counts)  # of a repeated row the last stands
        return counts, sums / counts

    def latest(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Give the count and the AUM (B,) of each of the checked `ids`; 0 and NaN for those not seen."""
        rows = self.find(ids)
        seen = rows >= 0
        counts, aums = np.zeros(len(rows), np.int64), np.full(len(rows), np.nan)
        counts[seen] = self.counts[rows[seen]]
        aums[seen] = self.sums[rows[seen]] / counts[seen]
        return counts, aums

    def set_at(self, rows: NDArray[np.int64], sums: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        """Replace the `sums` and `counts` of `rows`, each (B,)."""
        self._sums.values[rows] = sums
        self._counts.values[rows] = counts

    def find(self, ids: Ids) -> NDArray[np.int64]:
        """Rows (B,) of checked `ids`, and -1 for those not seen."""
        self._add_pending()
        return self._index.find(ids)

    def sorted(self) -> Totals:
        """Give the same totals in the order of the ids, ints before strs.

        Several processes share no first-seen order; this one does not depend on how many there were.

        Examples
        --------
        >>> totals = Totals()
        >>> totals.add(["b", 10, "a", 9], [1.0, 2.0, 3.0, 4.0])
        >>> totals.sorted().sample_ids.tolist()
        [9, 10, 'a', 'b']
        """
        ids, order = self.sample_ids, self._index.sorted_rows()
        totals = Totals()
        totals.set_at(totals.insert(as_ids(ids[order])), self.sums[order], self.counts[order])
        totals.left_out = self.left_out
        return totals

    def merge(self, other: Totals) -> Totals:
        """Give the totals of both, as a new object; samples that only `other` has come last.

        Examples
        --------
        >>> left, right = Totals(), Totals()
        >>> left.add(["a"], [1.0]); right.add(["b", "a"], [2.0, 3.0])
        >>> both = left.merge(right)
        >>> both.sample_ids.tolist(), both.sums.tolist(), both.counts.tolist()
        (['a', 'b'], [4.0, 2.0], [2, 1])
        """
        merged = Totals()
        merged.include(self)
        merged.include(other)
        return merged

    def include(self, other: Totals) -> None:
        """Add the sums and counts of `other` to these; samples that only `other` has come last."""
        rows = self.insert(as_ids(other.sample_ids))
        self._sums.values[rows] += other.sums
        self._counts.values[rows] += other.counts
        self.left_out += other.left_out

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as 1-D arrays of numbers, for a file or a framework's checkpoint."""
        tallies = {"sums": self.sums, "counts": self.counts, "left_out": np.array([self.left_out])}
        return {**ids_to_arrays(self.sample_ids), **tallies}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Totals:
        """Make the totals whose `to_arrays` gave `arrays`.

        Raises
        ------
        ValueError
            Where the arrays contradict each other.

        Examples
        --------
        >>> Totals.from_arrays(Totals.from_rows([4.0], [2], ["a"]).to_arrays())
        Totals(1 samples, 2 measurements, 0 left out)
        """
        check_arrays(arrays, _SCHEMA)
        totals = cls()
        ids = ids_from_arrays(arrays)
        totals.insert(ids)
        sums, counts, left_out = arrays["sums"], arrays["counts"], arrays["left_out"]
        if not len(totals) == len(ids) == len(sums) == len(counts):
            raise ValueError("sample ids, sums and counts do not go together")
        if len(left_out) != 1 or left_out[0] < 0 or (counts < 1).any():
            raise ValueError("a count is out of range")
        totals.set_at(np.arange(len(ids)), sums, counts)
        totals.left_out = int(left_out[0])
        return totals

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to `path`, an ``.npz`` file without pickle, whole or not at all."""
        save_arrays(path, _KIND, self.to_arrays())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Totals:
        """Load what `save` saved to `path`, to the same bits.

        Raises
        ------
        ValueError
            Where the file is truncated, foreign, or contradicts itself.
        """
        arrays = load_arrays(path, _KIND, {name: (dtype, 1) for name, dtype in _SCHEMA.items()})
        try:
            return cls.from_arrays(arrays)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: not a file of {_KIND}, or damaged ({error})") from error


class ByID(Mapping["SampleId", Any]):
    """One column of the totals as a read-only mapping by sample id, alive as the totals are."""

    def __init__(self, totals: Totals, column: Callable[[Totals], NDArray[Any]]) -> None:
        self._totals, self._column = totals, column

    def __getitem__(self, sample_id: SampleId) -> Any:
        row = int(self._totals.find(as_ids([sample_id]))[0])
        if row < 0:
            raise KeyError(sample_id)
        return self._column(self._totals)[row].item()

    def __iter__(self) -> Iterator[SampleId]:
        return iter(self._totals.sample_ids.tolist())

    def __len__(self) -> int:
        return len(self._totals)

    def __repr__(self) -> str:
        return repr(dict(zip(self, self._column(self._totals).tolist(), strict=True)))
