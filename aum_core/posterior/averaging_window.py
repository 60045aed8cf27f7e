"""What the network believes of each sample, averaged over the epochs before it learns wrong labels by heart.

That window closes by itself: after its first epochs, confident learning tells which share of the labels looks wrong;
the first epoch in which the network agrees with more labels than that leaves is the first one outside. Whether an epoch
is inside is known when it has ended, so there are two sums: of the epochs inside, and of the epoch in progress. The
first three are inside in any case; until they are over the second sum is that of the softmax, for the early signs.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aum_core.growable import GrowingArray
from aum_core.posterior.confident_learning import Beliefs
from aum_core.posterior.early_statistics import Disagreement, EarlySigns, SpreadErrors
from aum_core.posterior.estimate import estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from aum_core.growable import Allocate
    from aum_core.posterior.estimate import NoisePosterior

__all__ = ["BeliefWindow", "PosteriorModel", "add_by_row"]

PosteriorModel = Literal["judged", "classes"]

_SPREAD_EPOCHS, _FIRST_EPOCHS = 2, 3
_ARRAYS = ("inside", "counts", "second")


class BeliefWindow:
    """Sums of logits by row over a window of epochs; 8 C bytes a sample while it is open, 4 C afterwards.

    Parameters
    ----------
    num_classes : int
        C.
    model : {"judged", "classes"}
        "judged" averages logits and heeds the early signs. "classes" averages softmaxes and takes it that errors follow
        from the class.
    allocate : callable
        Makes the arrays: `numpy.empty`, or one that keeps them on disk.

    Attributes
    ----------
    epochs : int
        Number of epochs inside.
    is_open : bool
        Whether the next epoch may still be inside.
    """

    # Invariant: `inside` is what was added in the epochs inside, and in the one in progress while it is an early one.
    # `second` is the softmax of the early epochs (only "judged"), then what was added in the one in progress, and has
    # no rows once the window has closed.

    def __init__(self, num_classes: int, model: PosteriorModel, allocate: Allocate) -> None:
        self.num_classes, self.model, self._allocate = num_classes, model, allocate
        self.inside, self.counts, self.second = self._matrix(), GrowingArray(np.int64), self._matrix()
        self.epochs, self.is_open = 0, True
        self._highest_agreement = 0.0
        self._spread: SpreadErrors | None = None
        self._disagreement: Disagreement | None = None

    @property
    def is_early(self) -> bool:
        """Whether the first epochs are not over yet."""
        return self.epochs < _FIRST_EPOCHS

    @property
    def needs_softmax(self) -> bool:
        """Whether the softmax of what is added next is needed."""
        return self.is_open and (self.model == "classes" or self.is_early)

    @property
    def needs_logits(self) -> bool:
        """Whether the logits of what is added next are needed."""
        return self.is_open and self.model == "judged"

    def grow(self, num_rows: int) -> None:
        """Have rows of zeros for samples that are new."""
        for array in (self.inside, self.counts, *((self.second,) if self._has_second else ())):
            array.append_zeros(num_rows - len(array))

    def add(self, rows: Any, logits: NDArray[Any] | None, probabilities: NDArray[Any] | None) -> None:
        """Add a batch of the epoch in progress, or its sums, (B, C): those of the two that are needed."""
        if not self.is_open:
            return
        added = {"judged": logits, "classes": probabilities}[self.model]
        if added is None or (self.needs_softmax and probabilities is None):
            raise ValueError("logits, probabilities: None, want both for the noise posterior in its first epochs")
        add_by_row((self.inside if self.is_early else self.second).values, rows, added)
        if self.is_early and self.model == "judged" and probabilities is not None:
            add_by_row(self.second.values, rows, probabilities)

    def end_epoch(self, counts: NDArray[np.int64], agreement: float, labels: NDArray[np.int64]) -> None:
        """End an epoch with its measurements by row (N,), in which the network agreed with this share of the labels."""
        if not self.is_open:
            return
        if self.is_early:
            self.counts.values += counts
            self.epochs += 1
            self._end_early_epoch(agreement, labels)
        elif self._takes(agreement):
            add_by_row(self.inside.values, slice(None), self.second.values)
            self.counts.values += counts
            self.epochs += 1
            self.second.values[:] = 0
        else:
            self._close()

    def _end_early_epoch(self, agreement: float, labels: NDArray[np.int64]) -> None:
        self._highest_agreement = max(self._highest_agreement, agreement)
        if self.epochs == _SPREAD_EPOCHS and self.model == "judged":
            self._spread = SpreadErrors.of(self._early_beliefs(self.counts.values, labels))
        if self.epochs == _FIRST_EPOCHS:
            self._disagreement = Disagreement.of(self._early_beliefs(self.counts.values, labels))
            if self._takes(self._highest_agreement):
                self.second = self._matrix(len(self.inside))
            else:
                self._close()

    def posterior(self, counts: NDArray[np.int64], agreement: float, labels: NDArray[np.int64]) -> NoisePosterior:
        """Estimate as if the epoch in progress, with its measurements by row, had just ended."""
        inside, totals = self.inside.values, self.counts.values
        if self.is_open and counts.any() and (self.is_early or self._takes(agreement)):
            if not self.is_early:
                inside = inside.copy()
                add_by_row(inside, slice(None), self.second.values)
            totals = totals + counts
        if self.model == "classes":
            return estimate(Beliefs(inside, totals, labels))
        return estimate(Beliefs(inside, totals, labels, of_logits=True), self._signs(totals, labels))

    def describe(self, agreement: float | None) -> dict[str, Any]:
        """Tell its state as if the epoch in progress, if there is one, had just ended."""
        inside = self.is_open and agreement is not None and (self.is_early or self._takes(agreement))
        return {
            "epochs": self.epochs + inside,
            "closed": not (self.is_open and (inside or agreement is None)),
            "early_noise": None if self._disagreement is None else self._disagreement.noise,
        }

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been added yet."""
        return not (self.epochs or self.inside.values.any() or self.second.values.any())

    def check_goes_with(self, other: BeliefWindow) -> None:
        """Make an error of two windows of which one is in its first epochs and the other is not."""
        if not self.is_empty and not other.is_empty and self.is_early != other.is_early:
            raise ValueError(
                "noise_posterior: one shard is in its first three epochs and the other is not; want "
                "calculator.end_epoch() after every epoch in each"
            )

    def include(self, other: BeliefWindow, rows: NDArray[np.int64]) -> None:
        """Add what another has that goes with this one, and whose rows are these.

        Each has closed its window, and seen its signs, by itself.
        """
        if other.is_empty:
            return
        if self.is_empty:
            self._take_told(other.told())
        else:
            sizes = int(np.count_nonzero(self.counts.values)), int(np.count_nonzero(other.counts.values))
            self._pool_signs(other, *sizes)
            self.epochs = max(self.epochs, other.epochs)
            if self.is_open and not other.is_open:
                self._close()
        for mine, theirs in ((self.inside, other.inside), (self.counts, other.counts), (self.second, other.second)):
            if len(mine) and len(theirs):
                mine.values[rows] += theirs.values

    def told(self) -> dict[str, Any]:
        """What there is to tell of the window beside its arrays."""
        return {
            "epochs": self.epochs,
            "is_open": self.is_open,
            "highest_agreement": self._highest_agreement,
            "spread": None if self._spread is None else asdict(self._spread),
            "disagreement": None if self._disagreement is None else asdict(self._disagreement),
        }

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, 1-D."""
        return {f"window_{name}": getattr(self, name).values.reshape(-1) for name in _ARRAYS}

    def fill(self, told: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `told` and `to_arrays` gave; the rows are there already."""
        self._take_told(told)
        for name in _ARRAYS:
            getattr(self, name).fill(arrays[f"window_{name}"])

    def _take_told(self, told: Mapping[str, Any]) -> None:
        self.epochs, self.is_open = told["epochs"], told["is_open"]
        self._highest_agreement = told["highest_agreement"]
        self._spread = None if told["spread"] is None else SpreadErrors(**told["spread"])
        self._disagreement = None if told["disagreement"] is None else Disagreement(**told["disagreement"])
        self.second = self._matrix(len(self.inside) if self._has_second else 0)

    @property
    def _has_second(self) -> bool:
        return self.is_open and not (self.model == "classes" and self.is_early)

    def _matrix(self, num_rows: int = 0) -> GrowingArray:
        matrix = GrowingArray(np.float32, self.num_classes, self._allocate)
        matrix.append_zeros(num_rows)
        return matrix

    def _close(self) -> None:
        self.is_open, self.second = False, self._matrix()

    def _takes(self, agreement: float) -> bool:
        return self._disagreement is None or agreement <= 1 - self._disagreement.noise

    def _early_beliefs(self, counts: NDArray[np.int64], labels: NDArray[np.int64]) -> Beliefs:
        sums = self.second if self.model == "judged" else self.inside
        return Beliefs(sums.values, counts, labels)

    def _signs(self, counts: NDArray[np.int64], labels: NDArray[np.int64]) -> EarlySigns:
        """The early signs; of those that are still to come, what there is of them so far."""
        if self._spread is not None and self._disagreement is not None:
            return EarlySigns(self._spread, self._disagreement)
        beliefs = self._early_beliefs(counts, labels)
        return EarlySigns(self._spread or SpreadErrors.of(beliefs), self._disagreement or Disagreement.of(beliefs))

    def _pool_signs(self, other: BeliefWindow, size: int, other_size: int) -> None:
        if self._spread is not None and other._spread is not None:
            self._spread = self._spread.pooled(other._spread, size, other_size)
        if self._disagreement is not None and other._disagreement is not None:
            self._disagreement = self._disagreement.pooled(other._disagreement, size, other_size)


def add_by_row(sums: NDArray[Any], rows: NDArray[np.int64] | slice, values: NDArray[Any]) -> None:
    """Add values (B, C) to the rows of sums (N, C); a row that is there several times gets all of them.

    What is too large for the sums becomes an infinity, which `Beliefs` does not take for a measurement.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(rows, slice) or len(set(rows.tolist())) == len(rows):
            sums[rows] += values
        else:
            np.add.at(sums, rows, values)
