"""The scores that were asked for beside the AUM, added up by row while training runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aum_core.growable import GrowingArray, on_disk
from aum_core.margins import compute_margins
from aum_core.posterior.averaging_window import BeliefWindow, add_by_row
from aum_core.scores.epoch_sums import OF_SOFTMAX, column
from aum_core.scores.kinds import MARGIN_OF_MEAN, SCORES, Epoch, check_names
from aum_core.scores.softmax import softmax

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from aum_core.growable import Allocate
    from aum_core.margins import Margins
    from aum_core.posterior.averaging_window import PosteriorModel
    from aum_core.posterior.estimate import NoisePosterior
    from aum_core.scores.epoch_sums import EpochSums

__all__ = ["KeepPosterior", "Scores", "make_scores"]

KeepPosterior = bool | Literal["on_disk"]
"""Whether to keep what the noise posterior needs, and where."""

_SEEN_BEFORE = 0.75
_ROWS = 4096


class Scores(Mapping[str, "NDArray[np.float64]"]):
    """Scores by name, each (N,) by row of the totals; an epoch in progress counts as if it had just ended.

    What an epoch is: `end_epoch` tells where one ends. Without it, one ends where three quarters of a batch have been
    measured in it already, which is right wherever each epoch goes through the samples once. Where a sampler draws
    samples with replacement, or each of several processes sees other samples in each epoch, only `end_epoch` can tell.

    Parameters
    ----------
    names : iterable of str
        Of `kinds.SCORES`, or "margin_of_mean_softmax".
    noise_posterior : {"judged", "classes"}, optional
        The model of the noise posterior, where what `noise_posterior` needs is to be kept: see `BeliefWindow`.
    allocate : callable
        Makes arrays of N x C numbers: `numpy.empty`, or one that keeps them on disk.

    Examples
    --------
    >>> from aum_core import compute_margins
    >>> scores, logits = Scores(["correctness"]), np.array([[2.0, 0.5], [1.0, 3.0]])
    >>> scores.measure(np.array([0, 1]), compute_margins(logits, [0, 0]), np.array([0, 0]), logits)
    >>> scores["correctness"]
    array([1., 0.])
    """

    def __init__(
        self, names: Iterable[str] = (), *, noise_posterior: PosteriorModel | None = None, allocate: Allocate = np.empty
    ) -> None:
        self.names = check_names(names)
        self._model, self._allocate = noise_posterior, allocate
        self._kinds = [SCORES[name] for name in self.names if name in SCORES]
        needs = {kind.needs for kind in self._kinds} | ({"correct"} if self.keeps_posterior else set())
        self._epoch_counts = GrowingArray(np.int64)
        self._epoch_sums = {name: GrowingArray(np.float64) for name in sorted(needs)}
        kept = ["epochs", *(name for kind in self._kinds for name in kind.keeps)]
        self._kept = {name: GrowingArray(np.float64) for name in kept}
        self._labels = GrowingArray(np.int32)
        self._softmax: GrowingArray | None = None
        self._window: BeliefWindow | None = None
        self._num_classes: int | None = None

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name not in self.names:
            raise KeyError(name)
        if name == MARGIN_OF_MEAN:
            return self._margin_of_mean()
        kind = SCORES[name]
        kept = {each: self._kept[each].values.copy() for each in ("epochs", *kind.keeps)}
        epoch = self._epoch_in_progress()
        if len(epoch.rows):
            kind.take(kept, epoch)
            kept["epochs"][epoch.rows] += 1
        return kind.values(kept)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self._labels)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The given label of each row, (N,); -1 where it was not measured."""
        return self._labels.values.astype(np.int64)

    @property
    def posterior_model(self) -> PosteriorModel | None:
        """The model of the noise posterior; None where it is not kept."""
        return self._model

    @property
    def keeps_posterior(self) -> bool:
        """Whether `noise_posterior` can be asked for."""
        return self._model is not None

    @property
    def need_softmax(self) -> bool:
        """Whether the softmax of the next batch is needed; for the noise posterior in its first epochs only."""
        return self.need_softmax_sums or any(name in OF_SOFTMAX for name in self._epoch_sums)

    @property
    def need_softmax_sums(self) -> bool:
        """Whether all C probabilities of the next epoch are needed, added up by row."""
        if MARGIN_OF_MEAN in self.names:
            return True
        return self.keeps_posterior and (self._window is None or self._window.needs_softmax)

    @property
    def need_logits_sums(self) -> bool:
        """Whether all C logits of the next epoch are needed, added up by row, until the window has closed."""
        if self._window is None:
            return self._model == "judged"
        return self._window.needs_logits

    def check(self, rows: NDArray[np.int64], targets: NDArray[np.int64], num_classes: int | None) -> int | None:
        """Find what does not fit, before anything is changed: the place in the batch of a sample with a new label.

        Parameters
        ----------
        rows : ndarray of shape (B,)
            -1 for samples that are new.
        targets : ndarray of shape (B,)
        num_classes : int, optional

        Raises
        ------
        ValueError
            Where the number of classes has changed.
        """
        if None not in (self._num_classes, num_classes) and self._num_classes != num_classes:
            raise ValueError(
                f"logits: {num_classes} classes, and {self._num_classes} before; want the same number in all batches"
            )
        before, known = np.full(len(rows), -1), rows >= 0
        before[known] = self._labels.values[rows[known]]
        changed = np.flatnonzero((before >= 0) & (before != targets))
        return int(changed[0]) if changed.size else None

    def measure(
        self,
        rows: NDArray[np.int64],
        margins: Margins,
        targets: NDArray[np.int64],
        logits: NDArray[Any] | None,
    ) -> None:
        """Take a batch of checked measurements, (B,) each; logits (B, C) where they or their softmax are needed."""
        self.grow(int(rows.max(initial=-1)) + 1)
        if self._is_new_epoch(rows):
            self.end_epoch()
        probabilities = softmax(logits) if logits is not None and self.need_softmax else None
        self._labels.values[rows] = targets
        np.add.at(self._epoch_counts.values, rows, 1)
        for name, sums in self._epoch_sums.items():
            np.add.at(sums.values, rows, column(name, margins, targets, probabilities))
        if logits is not None:
            self._add_matrices(rows, logits, probabilities)

    def add_epoch(self, rows: NDArray[np.int64], epoch: EpochSums) -> None:
        """Take the sums of a whole epoch that were added up elsewhere, and end it.

        Parameters
        ----------
        rows : ndarray of shape (M,)
            All different.
        epoch : EpochSums
            Of these rows, checked; each measured at least once.
        """
        self.grow(int(rows.max(initial=-1)) + 1)
        self.end_epoch()
        self._labels.values[rows] = epoch.labels
        self._epoch_counts.values[rows] = epoch.counts
        for name, sums in self._epoch_sums.items():
            sums.values[rows] = epoch.sums[name]
        if epoch.softmax is not None or epoch.logits is not None:
            self._add_matrices(rows, epoch.logits, epoch.softmax)
        self.end_epoch()

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of a measurement that are added up."""
        return tuple(self._epoch_sums)

    def end_epoch(self) -> None:
        """Say that an epoch has ended: the next measurement is of another one."""
        epoch = self._epoch_in_progress()
        if not len(epoch.rows):
            return
        if self._window is not None:
            self._window.end_epoch(self._epoch_counts.values, _agreement(epoch), self._labels.values)
        kept = {name: array.values for name, array in self._kept.items()}
        for kind in self._kinds:
            kind.take(kept, epoch)
        kept["epochs"][epoch.rows] += 1
        for sums in (self._epoch_counts, *self._epoch_sums.values()):
            sums.values[:] = 0

    def noise_posterior(self) -> NoisePosterior:
        """Estimate the chance that each label is wrong; see `aum_core.noise_posterior`.

        Raises
        ------
        ValueError
            Where it was not asked for, or nothing has been measured.
        """
        if not self.keeps_posterior:
            raise ValueError("noise_posterior: not kept, want noise_posterior=True where the calculator is made")
        if self._window is None:
            raise ValueError("noise_posterior: nothing has been measured yet")
        epoch = self._epoch_in_progress()
        agreement = _agreement(epoch) if len(epoch.rows) else 0.0
        return self._window.posterior(self._epoch_counts.values, agreement, self._labels.values)

    def describe(self) -> dict[str, Any]:
        """Tell what is kept, as ``run.json`` has it; an epoch in progress counts."""
        epoch = self._epoch_in_progress()
        epochs = self._kept["epochs"].values.copy()
        epochs[epoch.rows] += 1
        told: dict[str, Any] = {"names": list(self.names), "epochs": int(epochs.max(initial=0))}
        if self._window is not None:
            told["belief_window"] = self._window.describe(_agreement(epoch) if len(epoch.rows) else None)
        return told

    def grow(self, num_rows: int) -> None:
        """Have rows of zeros for samples that are new."""
        new = num_rows - self.num_rows
        if new <= 0:
            return
        for each in self._columns():
            each.append_zeros(new)
        self._labels.append(np.full(new, -1, np.int32))
        if self._softmax is not None:
            self._softmax.append_zeros(new)
        if self._window is not None:
            self._window.grow(num_rows)

    def include(self, other: Scores, rows: NDArray[np.int64]) -> None:
        """Add what another has measured, whose rows are these; it stays as it is.

        Epochs in progress become one. What was measured of a sample in both adds up; which of two epochs came first
        is not known, so forgetting from one to the other is not seen. Of the noise posterior each has closed its window
        by itself.

        Parameters
        ----------
        other : Scores
            With the same scores.
        rows : ndarray of shape (N of other,)
            All different.

        Raises
        ------
        ValueError
            Where the two do not go together; these are then as before.
        """
        self._check_same_kind(other)
        self.grow(int(rows.max(initial=-1)) + 1)
        mine, theirs = self._labels.values[rows], other._labels.values
        changed = np.flatnonzero((mine >= 0) & (theirs >= 0) & (mine != theirs))
        if changed.size:
            raise ValueError(f"scores: row {rows[changed[0]]} has different labels in the two, want the same data set")
        if self._window is not None and other._window is not None:
            self._window.check_goes_with(other._window)
        for sums, added in zip(self._columns(), other._columns(), strict=True):
            sums.values[rows] += added.values
        self._labels.values[rows] = np.maximum(mine, theirs)
        if other._num_classes is not None:
            self._open(other._num_classes)
        if self._softmax is not None and other._softmax is not None:
            self._softmax.values[rows] += other._softmax.values
        if self._window is not None and other._window is not None:
            self._window.include(other._window, rows)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give the whole state as 1-D arrays by name."""
        window = self._window
        told = {
            "names": self.names,
            "noise_posterior": self._model,
            "num_classes": self._num_classes,
            "window": None if window is None else window.told(),
        }
        arrays = {"told": np.frombuffer(json.dumps(told).encode(), np.uint8), "labels": self._labels.values}
        arrays |= {f"column{place}": each.values for place, each in enumerate(self._columns())}
        if self._softmax is not None:
            arrays["softmax"] = self._softmax.values.reshape(-1)
        return arrays if window is None else arrays | window.to_arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], allocate: Allocate = np.empty) -> Scores:
        """Make scores of what `to_arrays` gave, to the same bits.

        Raises
        ------
        ValueError
            Where the arrays contradict each other.
        """
        try:
            told = json.loads(arrays["told"].tobytes())
            scores = cls(told["names"], noise_posterior=told["noise_posterior"], allocate=allocate)
            scores.grow(len(arrays["labels"]))
            scores._labels.fill(arrays["labels"])
            for place, each in enumerate(scores._columns()):
                each.fill(arrays[f"column{place}"])
            if told["num_classes"] is not None:
                scores._open(told["num_classes"])
            if scores._softmax is not None:
                scores._softmax.fill(arrays["softmax"])
            if scores._window is not None:
                scores._window.fill(told["window"], arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"scores: their arrays contradict each other ({error})") from error
        return scores

    def taken_from(self, arrays: Mapping[str, NDArray[Any]]) -> Scores:
        """Scores of the same kind as these, with the state in `arrays`; these stay as they are."""
        taken = Scores.from_arrays(arrays, self._allocate)
        self._check_same_kind(taken)
        return taken

    def _columns(self) -> list[GrowingArray]:
        """All columns (N,) that add up, in a fixed order."""
        return [self._epoch_counts, *self._epoch_sums.values(), *self._kept.values()]

    def _check_same_kind(self, other: Scores) -> None:
        for what, mine, theirs in (
            ("names", self.names, other.names),
            ("noise_posterior", self._model, other._model),
            ("classes", self._num_classes or other._num_classes, other._num_classes or self._num_classes),
        ):
            if mine != theirs:
                raise ValueError(f"scores: {what} {mine} and {theirs}, want the same in both")

    def _open(self, num_classes: int) -> None:
        """Make the arrays of N x C numbers, once C is known."""
        if self._num_classes is not None:
            return
        self._num_classes = num_classes
        if MARGIN_OF_MEAN in self.names:
            self._softmax = GrowingArray(np.float32, num_classes, self._allocate)
            self._softmax.append_zeros(self.num_rows)
        if self._model is not None:
            self._window = BeliefWindow(num_classes, self._model, self._allocate)
            self._window.grow(self.num_rows)

    def _add_matrices(self, rows: Any, logits: NDArray[Any] | None, probabilities: NDArray[Any] | None) -> None:
        self._open((logits if probabilities is None else probabilities).shape[1])  # type: ignore[union-attr] # one is there
        if self._softmax is not None and probabilities is not None:
            add_by_row(self._softmax.values, rows, probabilities)
        if self._window is not None:
            self._window.add(rows, logits, probabilities)

    def _is_new_epoch(self, rows: NDArray[np.int64]) -> bool:
        seen = int(np.count_nonzero(self._epoch_counts.values[rows]))
        return seen > 0 and seen >= _SEEN_BEFORE * len(rows)

    def _epoch_in_progress(self) -> Epoch:
        counts = self._epoch_counts.values
        rows = np.flatnonzero(counts)
        return Epoch(rows, {name: sums.values[rows] / counts[rows] for name, sums in self._epoch_sums.items()})

    def _margin_of_mean(self) -> NDArray[np.float64]:
        margins = np.full(self.num_rows, np.nan)
        if self._softmax is None:
            return margins
        sums, labels = self._softmax.values, self._labels.values
        for start in range(0, self.num_rows, _ROWS):
            rows = start + np.flatnonzero(labels[start : start + _ROWS] >= 0)
            block = sums[rows].astype(np.float64)
            block /= block.sum(axis=1, keepdims=True)  # each softmax has added 1
            margins[rows] = compute_margins(block, labels[rows]).margin
        return margins


def make_scores(
    names: Iterable[str], keep: KeepPosterior, model: PosteriorModel, save_dir: str | os.PathLike[str]
) -> Scores | None:
    """Make what a calculator was asked to keep beside the AUM; None where that is nothing."""
    if keep not in (False, True, "on_disk"):
        raise ValueError(f"noise_posterior: {keep!r}, want False, True or 'on_disk'")
    if model not in ("judged", "classes"):
        raise ValueError(f"posterior_model: {model!r}, want 'judged' or 'classes'")
    if keep == "on_disk":
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        return Scores(names, noise_posterior=model, allocate=on_disk(save_dir))
    scores = Scores(names, noise_posterior=model if keep else None)
    return scores if scores or keep else None


def _agreement(epoch: Epoch) -> float:
    """The share of the labels that the network agreed with."""
    return float(epoch.means["correct"].mean())
