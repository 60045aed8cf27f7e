"""What the network believes of each sample, averaged over the epochs before it learns wrong labels by heart.

That window closes by itself: after its first epochs, confident learning tells which share of the labels looks wrong;
the first epoch in which the network agrees with more labels than that leaves is the first one outside. Whether an epoch
is inside is known when it has ended, so there are two sums: of the epochs inside, and of the epoch in progress. The
first three are inside in any case; until they are over the second sum is that of the softmax, for the early statistics.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aum_core.growable import GrowableArray, on_disk
from aum_core.posterior.confident_learning import MeanProbabilities
from aum_core.posterior.early_statistics import Disagreement, EarlyStatistics, SymmetricNoise
from aum_core.posterior.estimate import estimate
from aum_core.posterior.tables import write_posterior
from aum_core.scores.collector import add_by_row
from aum_core.scores.needs import Needs

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from aum_core.growable import Allocate
    from aum_core.posterior.estimate import NoisePosterior
    from aum_core.scores.scores import Scores
    from aum_core.totals import Totals

__all__ = ["AveragingWindow", "KeepPosterior", "make_window"]

KeepPosterior = bool | Literal["on_disk"]
"""Whether to keep what the noise posterior needs, and where."""

_SYMMETRIC_EPOCHS, _FIRST_EPOCHS = 2, 3
_ARRAYS = ("inside", "counts", "second")
_OPEN_EARLY, _OPEN, _CLOSED = Needs(softmax=True, logits=True), Needs(logits=True), Needs()


class AveragingWindow:
    """Sums of logits by row over a window of epochs; 8 C bytes a sample while it is open, 4 C afterwards.

    The `ClassSums` of a calculator's scores.

    Parameters
    ----------
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
    # `second` is the softmax of the early epochs, then what was added in the one in progress, and has no rows once the
    # window has closed. Before the first batch C is not known, and neither has columns.

    def __init__(self, allocate: Allocate = np.empty) -> None:
        self._allocate, self._num_classes = allocate, 0
        self.inside, self.counts, self.second = self._matrix(), GrowableArray(np.int64), self._matrix()
        self.epochs, self.is_open = 0, True
        self._highest_agreement = 0.0
        self._symmetric: SymmetricNoise | None = None
        self._disagreement: Disagreement | None = None

    def fresh(self) -> AveragingWindow:
        """Make another one with nothing in it, whose arrays are made in the same way."""
        return AveragingWindow(self._allocate)

    @property
    def is_early(self) -> bool:
        """Whether the first epochs are not over yet."""
        return self.epochs < _FIRST_EPOCHS

    @property
    def needs(self) -> Needs:
        """What is needed of the next epoch: the softmax in the first ones, the logits until the window has closed."""
        return _CLOSED if not self.is_open else _OPEN_EARLY if self.is_early else _OPEN

    def grow(self, num_rows: int) -> None:
        """Have `num_rows` rows: those of samples that are new are zeros."""
        for array in (self.inside, self.counts, *((self.second,) if self.is_open else ())):
            array.append_zeros(num_rows - len(array))

    def add(self, rows: Any, softmax: NDArray[Any] | None, logits: NDArray[Any] | None) -> None:
        """Add a batch of the epoch in progress, or its sums.

        Parameters
        ----------
        rows : ndarray of shape (B,), int64
        softmax, logits : ndarray of shape (B, C), floats, optional
            Those of the two that are needed.

        Raises
        ------
        ValueError
            Where one that is needed is None.
        """
        needs = self.needs
        if (needs.logits and logits is None) or (needs.softmax and softmax is None):
            raise ValueError("logits, softmax: None, want what the noise posterior needs: see needs")
        if logits is not None and needs.logits:
            self._open(logits.shape[1])
            add_by_row((self.inside if self.is_early else self.second).values, rows, logits)
        if softmax is not None and needs.softmax:
            add_by_row(self.second.values, rows, softmax)

    def end_epoch(self, counts: NDArray[np.int64], agreement: float, labels: NDArray[np.int64]) -> None:
        """End an epoch in which each row was measured `counts` (N,) times.

        The network gave the given `labels` (N,) the largest logit in a share of `agreement` of the rows.
        """
        if not self.is_open:
            return
        if self.is_early:
            self.counts.values += counts
            self.epochs += 1
            self._end_early_epoch(agreement, labels)
        elif self._takes(agreement):
            self._add_second_to(self.inside.values)
            self.counts.values += counts
            self.epochs += 1
            self.second.values[:] = 0
        else:
            self._close()

    def _end_early_epoch(self, agreement: float, labels: NDArray[np.int64]) -> None:
        self._highest_agreement = max(self._highest_agreement, agreement)
        if self.epochs == _SYMMETRIC_EPOCHS:
            self._symmetric = SymmetricNoise.of(self._early_means(self.counts.values, labels))
        if self.epochs == _FIRST_EPOCHS:
            self._disagreement = Disagreement.of(self._early_means(self.counts.values, labels))
            if self._takes(self._highest_agreement):
                self.second = self._matrix(len(self.inside))  # from here on for logits, not for the softmax
            else:
                self._close()

    def posterior(self, scores: Scores) -> NoisePosterior:
        """Estimate the chance that each label is wrong, as if the epoch in progress of `scores` had just ended.

        Raises
        ------
        ValueError
            Where nothing has been measured yet.
        """
        if not self._num_classes:
            raise ValueError("noise_posterior: nothing has been measured yet")
        counts, agreement = scores.in_progress()
        labels, inside, totals = scores.labels, self.inside.values, self.counts.values
        if self._would_take(agreement):
            if not self.is_early:
                inside = self._add_second_to(inside.copy())
            totals = totals + counts
        return estimate(
            MeanProbabilities(inside, totals, labels, of_logits=True), self._early_statistics(totals, labels)
        )

    def describe(self, agreement: float | None) -> dict[str, Any]:
        """Tell its state, as ``run.json`` has it.

        An epoch in progress, whose `agreement` is not None, counts as if it had just ended.
        """
        if not self._num_classes:
            return {}
        inside = self._would_take(agreement)
        window = {
            "epochs": self.epochs + inside,
            "closed": not (self.is_open and (inside or agreement is None)),
            "early_noise": None if self._disagreement is None else self._disagreement.noise,
        }
        return {"averaging_window": window}

    def write(self, folder: Path, totals: Totals, scores: Scores) -> dict[str, Any]:
        """Write ``noise_posterior.csv`` and ``transition.csv`` to `folder`; what ``run.json`` has of them.

        Sample ids are those of `totals`; labels and the epoch in progress are those of `scores`.
        """
        posterior = self.posterior(scores)
        write_posterior(folder, totals.sample_ids, scores.labels, posterior)
        return {"noise_posterior": posterior.describe()}

    def header(self) -> dict[str, Any]:
        """Give what there is to know beside the arrays."""
        return {
            "num_classes": self._num_classes,
            "epochs": self.epochs,
            "is_open": self.is_open,
            "highest_agreement": self._highest_agreement,
            "symmetric": None if self._symmetric is None else asdict(self._symmetric),
            "disagreement": None if self._disagreement is None else asdict(self._disagreement),
        }

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give the arrays by name, 1-D."""
        return {f"window_{name}": getattr(self, name).values.reshape(-1) for name in _ARRAYS}

    def fill(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `header` and `to_arrays` gave, now `header` and `arrays`; the rows are there already."""
        self.epochs, self.is_open = header["epochs"], header["is_open"]
        self._highest_agreement = header["highest_agreement"]
        self._symmetric = None if header["symmetric"] is None else SymmetricNoise(**header["symmetric"])
        self._disagreement = None if header["disagreement"] is None else Disagreement(**header["disagreement"])
        if not self.is_open:
            self._close()
        self._open(header["num_classes"])
        for name in _ARRAYS:
            getattr(self, name).fill(arrays[f"window_{name}"])

    def _add_second_to(self, inside: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore", invalid="ignore"):  # as in `add_by_row`
            inside += self.second.values
        return inside

    def _open(self, num_classes: int) -> None:
        """Make the arrays of N x C numbers, once C is known."""
        if self._num_classes == num_classes:
            return
        self._num_classes = num_classes
        self.inside, self.second = (self._matrix(len(each)) for each in (self.inside, self.second))

    def _matrix(self, num_rows: int = 0) -> GrowableArray:
        matrix = GrowableArray(np.float32, self._num_classes, self._allocate)
        matrix.append_zeros(num_rows)
        return matrix

    def _close(self) -> None:
        self.is_open, self.second = False, self._matrix()

    def _takes(self, agreement: float) -> bool:
        return self._disagreement is None or agreement <= 1 - self._disagreement.noise

    def _would_take(self, agreement: float | None) -> bool:
        """Whether an epoch in progress in which there is such an agreement would be inside, ended now."""
        return self.is_open and agreement is not None and (self.is_early or self._takes(agreement))

    def _early_means(self, counts: NDArray[np.int64], labels: NDArray[np.int64]) -> MeanProbabilities:
        return MeanProbabilities(self.second.values, counts, labels)

    def _early_statistics(self, counts: NDArray[np.int64], labels: NDArray[np.int64]) -> EarlyStatistics:
        """The early statistics; of those that are still to come, what there is of them so far."""
        if self._symmetric is not None and self._disagreement is not None:
            return EarlyStatistics(self._symmetric, self._disagreement)
        averages = self._early_means(counts, labels)
        return EarlyStatistics(
            self._symmetric or SymmetricNoise.of(averages), self._disagreement or Disagreement.of(averages)
        )


def make_window(keep: KeepPosterior, save_dir: str | os.PathLike[str]) -> AveragingWindow | None:
    """Make the window of a calculator that keeps the noise posterior: in memory, or in a file in its folder.

    Raises
    ------
    ValueError
        Where `keep` is neither of the three.
    """
    if keep not in (False, True, "on_disk"):
        raise ValueError(f"noise_posterior: {keep!r}, want False, True or 'on_disk'")
    if keep == "on_disk":
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        return AveragingWindow(on_disk(save_dir))
    return AveragingWindow() if keep else None
