"""The epoch in progress: what each sample's measurements have added up to so far, on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.growable import GrowableArray
from aum_core.scores.kinds import Epoch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["RunningEpoch", "add_by_row"]

_NARROW = 24


class RunningEpoch:
    """Counts (N,) and sums of columns (N,) by row of the totals.

    Parameters
    ----------
    columns : iterable of str

    Examples
    --------
    >>> epoch = RunningEpoch(["margin"])
    >>> epoch.grow(3)
    >>> epoch.add(np.array([2, 0, 2]), {"margin": np.array([1.0, -1.0, 2.0])})
    >>> epoch.means().rows, epoch.means().means["margin"]
    (array([0, 2]), array([-1. ,  1.5]))
    """

    def __init__(self, columns: Iterable[str]) -> None:
        self._counts = GrowableArray(np.int64)
        self._sums = {name: GrowableArray(np.float64) for name in columns}

    @property
    def counts(self) -> NDArray[np.int64]:
        """Measurements of each sample in this epoch, (N,)."""
        return self._counts.values

    @property
    def sums(self) -> dict[str, NDArray[np.float64]]:
        """The columns of the measurements of this epoch, added up, (N,) each."""
        return {name: array.values for name, array in self._sums.items()}

    @property
    def arrays(self) -> list[GrowableArray]:
        """The counts and all sums, in a fixed order."""
        return [self._counts, *self._sums.values()]

    def grow(self, count: int) -> None:
        """Have `count` more rows, of zeros."""
        for array in self.arrays:
            array.append_zeros(count)

    def add(self, rows: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> None:
        """Add a batch of measurements (B,); a row may be there several times."""
        np.add.at(self._counts.values, rows, 1)  # += would count a repeated row once
        for name, sums in self._sums.items():
            np.add.at(sums.values, rows, columns[name].astype(np.float64, copy=False))

    def include(
        self, rows: NDArray[np.int64], counts: NDArray[np.int64], sums: Mapping[str, NDArray[np.float64]]
    ) -> None:
        """Add counts and sums (M,) that were added up elsewhere; rows are all different."""
        self._counts.values[rows] += counts
        for name, own in self._sums.items():
            own.values[rows] += sums[name]

    def share_seen(self, rows: NDArray[np.int64]) -> float:
        """Tell which share of some rows (B,) has been measured in this epoch; 0 where there are none."""
        return np.count_nonzero(self._counts.values[rows]) / max(len(rows), 1)

    def means(self) -> Epoch:
        """The rows measured so far, and the mean of each column over their measurements."""
        counts = self._counts.values
        rows = np.flatnonzero(counts)
        return Epoch(rows, {name: sums.values[rows] / counts[rows] for name, sums in self._sums.items()})

    def clear(self) -> None:
        """Begin the next epoch."""
        for array in self.arrays:
            array.values[:] = 0


def add_by_row(sums: NDArray[Any], rows: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Add values (B, C) to the rows of sums (N, C); a row that is there several times gets all of them.

    What is too large for the sums becomes an infinity, which the noise posterior does not take for a measurement.
    """
    num_classes = sums.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        if num_classes < _NARROW:  # numpy.add.at is fast along one axis only
            places = (rows[:, None] * num_classes + np.arange(num_classes)).reshape(-1)
            np.add.at(sums.reshape(-1), places, values.astype(sums.dtype, copy=False).reshape(-1))
        elif len(set(rows.tolist())) == len(rows):
            sums[rows] += values
        else:
            np.add.at(sums, rows, values)
