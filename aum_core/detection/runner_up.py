"""Which classes beat a sample's label, and how often: the label that the network would rather give it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aum_core.ids import check_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aum_core.batch import Batch

__all__ = ["RunnerUpCounts", "suggest"]

_PENDING = 2**20


class RunnerUpCounts:
    """Counts, for each row of the data set, the classes whose logit beat that of its target.

    An observer of an `AUMCalculator` whose sample ids are row numbers. Only pairs (row, class) that occur are kept,
    so memory grows with the samples that are ever misclassified, not with N x C.

    Parameters
    ----------
    num_samples, num_classes : int
        N of the data set, C of the logits.

    Examples
    --------
    >>> import tempfile
    >>> from aum_core import AUMCalculator
    >>> counts, calculator = RunnerUpCounts(num_samples=9, num_classes=3), AUMCalculator(tempfile.mkdtemp())
    >>> calculator.observe(counts)
    >>> calculator.accumulate([[0.0, 5.0, 1.0], [4.0, 0.0, 0.0]], targets=[0, 0], sample_ids=[7, 8])
    >>> counts.tally()
    (array([7]), array([1]), array([1]))
    """

    needs_other_logit, needs_logits = True, False

    def __init__(self, num_samples: int, num_classes: int) -> None:
        self._num_samples, self._num_classes = num_samples, num_classes
        self.measurements = 0
        """Number of measurements seen."""
        self._pairs = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        self._pending: list[NDArray[np.int64]] = []
        self._num_pending = 0

    def check(self, batch: Batch) -> None:
        """Check that each id of `batch` is a row of the data set.

        Raises
        ------
        ValueError
            Where one is not.
        """
        check_rows(batch.ids, self._num_samples)

    def take(self, batch: Batch) -> None:
        """Count the runners-up of `batch`."""
        ids, margins = np.asarray(batch.ids), batch.margins
        self.measurements += len(ids)
        beaten = margins.margin < 0
        pairs = ids[beaten] * self._num_classes + margins.other_logit[beaten]
        self._pending.append(pairs)
        self._num_pending += len(pairs)
        if self._num_pending > _PENDING:
            self._settle()

    def _settle(self) -> None:
        counts = np.concatenate([self._counts, np.ones(self._num_pending, np.int64)])
        self._pairs, self._counts = _added_up(np.concatenate([self._pairs, *self._pending]), counts)
        self._pending, self._num_pending = [], 0

    def tally(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Give what was counted.

        Returns
        -------
        rows : ndarray of shape (P,), int64
        classes : ndarray of shape (P,), int64
        counts : ndarray of shape (P,), int64
            Of the P pairs that occurred, sorted by row and class.
        """
        self._settle()
        return self._pairs // self._num_classes, self._pairs % self._num_classes, self._counts


def suggest(
    targets: NDArray[np.int64], num_classes: int, runs: Sequence[RunnerUpCounts | None], regular: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Suggest for each row the class that most often beat its label, over the runs in which the row kept that label.

    Parameters
    ----------
    targets : ndarray of shape (N,), int64
        The given labels.
    num_classes : int
        C; the classes from C on are made up, and are never suggested.
    runs : sequence of RunnerUpCounts
        None for a run whose measurements were not all seen.
    regular : ndarray of shape (runs, N), bool
        True where a row kept its label in a run.

    Returns
    -------
    ndarray of shape (N,), int64
        The lowest of several classes, the given label where none ever beat it; -1 for all where a run was not seen.
    """
    suggested = targets.copy()
    pairs, counts = [], []
    for each, is_regular in zip(runs, regular, strict=True):
        if each is None:
            suggested[:] = -1
            return suggested
        rows, classes, tally = each.tally()
        real = is_regular[rows] & (classes < num_classes)
        pairs.append(rows[real] * num_classes + classes[real])
        counts.append(tally[real])
    pair, total = _added_up(np.concatenate(pairs), np.concatenate(counts))
    rows, classes = pair // num_classes, pair % num_classes
    by_total = np.lexsort((-classes, total, rows))  # of each row, the most frequent and then lowest class comes last
    suggested[rows[by_total]] = classes[by_total]
    return suggested


def _added_up(pairs: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different pairs, ascending, with the sum of the counts of each."""
    different, place = np.unique(pairs, return_inverse=True)
    total = np.zeros(len(different), np.int64)
    np.add.at(total, place, counts)
    return different, total
