"""The mean softmax of each sample over the epochs before the network learns wrong labels by heart.

That window closes by itself: after its first epochs, confident learning tells which share of the labels looks wrong;
the first epoch in which the network agrees with more labels than that leaves is the first one outside. Whether an epoch
is inside is known when it has ended, so there are two sums: of the epochs inside, and of the epoch in progress.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.confident_learning import Beliefs, count_prunable
from aum_core.growing import GrowingArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from aum_core.growing import Allocate

__all__ = ["SoftmaxWindow", "add_by_row"]

_FIRST_EPOCHS = 3
_ARRAYS = ("inside", "counts", "in_progress")


class SoftmaxWindow:
    """Sums of the softmax by row over a window of epochs; 8 C bytes a sample while it is open, 4 C afterwards.

    Parameters
    ----------
    num_classes : int
        C.
    allocate : callable
        Makes the arrays: `numpy.empty`, or one that keeps them on disk.

    Attributes
    ----------
    epochs : int
        Number of epochs inside.
    is_open : bool
        Whether the next epoch may still be inside.
    early_noise : float or None
        Share of the labels that looks wrong after the first epochs; None before.
    highest_agreement : float
        The largest share of the labels that the network agreed with in one of those.
    """

    def __init__(self, num_classes: int, allocate: Allocate) -> None:
        self.num_classes = num_classes
        self.inside = GrowingArray(np.float32, num_classes, allocate)
        self.counts = GrowingArray(np.int64)
        self.in_progress = GrowingArray(np.float32, num_classes, allocate)
        self.epochs, self.is_open, self.early_noise, self.highest_agreement = 0, True, None, 0.0

    early_noise: float | None

    def grow(self, num_rows: int) -> None:
        """Have rows of zeros for samples that are new."""
        for array in (self.inside, self.counts, *((self.in_progress,) if self.is_open else ())):
            array.append_zeros(num_rows - len(array))

    def add(self, rows: NDArray[np.int64], probabilities: NDArray[Any]) -> None:
        """Add the softmax (B, C) of a batch of the epoch in progress."""
        if self.is_open:
            add_by_row(self.in_progress.values, rows, probabilities)

    def end_epoch(self, counts: NDArray[np.int64], agreement: float, labels: NDArray[np.int64]) -> None:
        """End an epoch with its measurements by row (N,), in which the network agreed with this share of the labels."""
        if not self.is_open:
            return
        self.is_open = self._takes(agreement)
        if self.is_open:
            self.inside.values += self.in_progress.values
            self.counts.values += counts
            self.epochs += 1
            self.highest_agreement = max(self.highest_agreement, agreement)
            self.in_progress.values[:] = 0
        if self.epochs == _FIRST_EPOCHS and self.early_noise is None:
            beliefs = Beliefs(self.inside.values, self.counts.values, labels)
            self.early_noise = count_prunable(beliefs) / len(beliefs.measured)
            self.is_open = self._takes(self.highest_agreement)
        if not self.is_open:
            self.in_progress = GrowingArray(np.float32, self.num_classes)

    def beliefs(self, counts: NDArray[np.int64], agreement: float, labels: NDArray[np.int64]) -> Beliefs:
        """Give the mean softmax as if the epoch in progress had just ended; the window stays as it is."""
        if not (self.is_open and counts.any() and self._takes(agreement)):
            return Beliefs(self.inside.values, self.counts.values, labels)
        return Beliefs(self.inside.values + self.in_progress.values, self.counts.values + counts, labels)

    def describe(self, agreement: float | None) -> dict[str, Any]:
        """Tell its state as if the epoch in progress, if there is one, had just ended."""
        inside = self.is_open and agreement is not None and self._takes(agreement)
        return {
            "epochs": self.epochs + inside,
            "closed": not (self.is_open and (inside or agreement is None)),
            "early_noise": self.early_noise,
        }

    def include(self, other: SoftmaxWindow, rows: NDArray[np.int64]) -> None:
        """Add what another has inside, whose rows are these; the epochs are then the most that one of them has."""
        self.inside.values[rows] += other.inside.values
        self.counts.values[rows] += other.counts.values
        self.epochs = max(self.epochs, other.epochs)

    def told(self) -> dict[str, Any]:
        """What there is to tell of the window beside its arrays."""
        names = ("epochs", "is_open", "early_noise", "highest_agreement")
        return {name: getattr(self, name) for name in names}

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, 1-D."""
        return {
            f"window_{name}": getattr(self, name).values.reshape(-1) for name in ("inside", "counts", "in_progress")
        }

    def fill(self, told: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `told` and `to_arrays` gave; the rows are there already."""
        for name in self.told():
            setattr(self, name, told[name])
        if not self.is_open:
            self.in_progress = GrowingArray(np.float32, self.num_classes)
        for name in _ARRAYS:
            getattr(self, name).fill(arrays[f"window_{name}"])

    def _takes(self, agreement: float) -> bool:
        return self.early_noise is None or agreement <= 1 - self.early_noise


def add_by_row(sums: NDArray[Any], rows: NDArray[np.int64] | slice, values: NDArray[Any]) -> None:
    """Add values (B, C) to the rows of sums (N, C); a row that is there several times gets all of them."""
    if isinstance(rows, slice) or len(set(rows.tolist())) == len(rows):
        sums[rows] += values
    else:
        np.add.at(sums, rows, values)
