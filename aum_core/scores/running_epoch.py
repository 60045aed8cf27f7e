"""The epoch in progress: what each sample's measurements have added up to so far, on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.growable import GrowableArray
from aum_core.scores.kinds import Epoch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["RunningEpoch"]


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
    def arrays(self) -> list[GrowableArray]:
        """The counts and all sums, in a fixed order."""
        return [self._counts, *self._sums.values()]

    def grow(self, count: int) -> None:
        """Have `count` more rows, of zeros."""
        for array in self.arrays:
            array.append_zeros(count)

    def add(self, rows: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]) -> None:
        """Add a batch of measurements (B,); a row may be there several times."""
        np.add.at(self._counts.values, rows, 1)
        for name, sums in self._sums.items():
            np.add.at(sums.values, rows, columns[name].astype(np.float64, copy=False))

    def put(self, rows: NDArray[np.int64], counts: NDArray[np.int64], sums: Mapping[str, NDArray[np.float64]]) -> None:
        """Take the sums (M,) of a whole epoch that were added up elsewhere; rows are all different."""
        self._counts.values[rows] = counts
        for name, own in self._sums.items():
            own.values[rows] = sums[name]

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
