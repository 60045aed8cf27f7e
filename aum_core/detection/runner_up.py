"""Which classes beat a sample's label, and how often: the label that the network would rather give it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aum_core.ids import check_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core.batch import Batch

__all__ = ["RunnerUpCounts"]

_PENDING = 2**20


class RunnerUpCounts:
    """Counts, for each row of the data set, the classes whose logit beat that of its target.

    An observer of an `AUMCalculator` whose sample ids are row numbers. Only pairs (row, class) that occur are kept,
    so memory grows with the samples that are ever misclassified, not with N x C.

    Parameters
    ----------
    num_samples, num_classes : int
        N of the data set, C of the logits.
    """

    def __init__(self, num_samples: int, num_classes: int) -> None:
        self._num_samples, self._num_classes = num_samples, num_classes
        self.measurements = 0
        """Number of measurements seen."""
        self._pairs = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        self._pending: list[NDArray[np.int64]] = []
        self._num_pending = 0

    needs_other_logit, needs_logits = True, False

    def check(self, batch: Batch) -> None:
        """Make an error of an id that is no row of the data set."""
        check_rows(batch.ids, self._num_samples)

    def take(self, batch: Batch) -> None:
        """Count the runners-up of a batch."""
        ids, margins = np.asarray(batch.ids), batch.margins
        self.measurements += len(ids)
        beaten = margins.margin < 0
        pairs = ids[beaten] * self._num_classes + margins.other_logit[beaten]
        self._pending.append(pairs)
        self._num_pending += len(pairs)
        if self._num_pending > _PENDING:
            self._settle()

    def _settle(self) -> None:
        pairs = np.concatenate([self._pairs, *self._pending])
        counts = np.concatenate([self._counts, np.ones(self._num_pending, np.int64)])
        self._pairs, place = np.unique(pairs, return_inverse=True)
        self._counts = np.zeros(len(self._pairs), np.int64)
        np.add.at(self._counts, place, counts)
        self._pending, self._num_pending = [], 0

    def tally(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Rows, classes and counts of all pairs that occurred, each (P,), sorted by row and class."""
        self._settle()
        return self._pairs // self._num_classes, self._pairs % self._num_classes, self._counts
