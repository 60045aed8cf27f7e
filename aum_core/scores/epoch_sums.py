"""What a measurement is to the scores beside the AUM: a column of numbers, added up by sample over an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from aum_core.margins import Margins
    from aum_core.scores.scores import Scores

__all__ = ["OF_SOFTMAX", "EpochSums", "column"]

OF_SOFTMAX = ("confidence", "softmax_margin", "error_norm")
"""Columns of a measurement for which its softmax is needed."""


@dataclass(frozen=True, slots=True)
class EpochSums:
    """What one epoch brought, added up by sample: on a device inside a compiled step, or by a trainer.

    Attributes
    ----------
    counts : ndarray of shape (N,), int64
        Measurements of each sample; 0 where it was not measured.
    sums : mapping of str to ndarray of shape (N,), float64
        The columns of the measurements, added up: "margin", and what `Scores.needs` names.
    labels : ndarray of shape (N,), int64
        The given labels.
    softmax, logits : ndarray of shape (N, C), optional
        The softmax and the logits, added up; wanted where `Scores.need_softmax_sums` and `Scores.need_logits_sums`.
    left_out : int
        Measurements that were left out.
    """

    counts: NDArray[np.int64]
    sums: Mapping[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    softmax: NDArray[Any] | None = None
    logits: NDArray[Any] | None = None
    left_out: int = 0

    def check(self, scores: Scores | None) -> None:
        """Make an error of what is missing for these scores, does not go together, or cannot be."""
        self._check_rows()
        shape = self.counts.shape
        for name in ("margin", *(() if scores is None else scores.needs)):
            if name not in self.sums or self.sums[name].shape != shape:
                found = "none" if name not in self.sums else f"shape {self.sums[name].shape}"
                raise ValueError(f"epoch: {found} for the column {name!r}, want {shape}, as the counts")
        if scores is not None:
            self._check_matrix("softmax", self.softmax, needed=scores.need_softmax_sums)
            self._check_matrix("logits", self.logits, needed=scores.need_logits_sums)
        if self.softmax is not None and self.logits is not None and self.softmax.shape != self.logits.shape:
            raise ValueError(f"epoch: softmax of {self.softmax.shape[1]} classes and logits of {self.logits.shape[1]}")
        self._check_labels()

    def _check_rows(self) -> None:
        for name, array in (("counts", self.counts), ("labels", self.labels)):
            if array.dtype.kind not in "iu" or array.shape != self.counts.shape[:1]:
                found = f"{array.dtype} of shape {array.shape}"
                raise ValueError(f"epoch: {name}: {found}, want integers of shape (N,), one for each row")
        negative = np.flatnonzero(self.counts < 0)
        if negative.size:
            raise ValueError(f"epoch: counts: row {negative[0]} has {self.counts[negative[0]]}, want at least 0")

    def _check_matrix(self, name: str, matrix: NDArray[Any] | None, *, needed: bool) -> None:
        size = len(self.counts)
        if matrix is None and needed:
            raise ValueError(f"epoch: no {name} for {size} rows, want ({size}, C), added up by row")
        if matrix is not None and (matrix.ndim != 2 or len(matrix) != size):
            raise ValueError(f"epoch: {name} of shape {matrix.shape}, want ({size}, C), added up by row")

    def _check_labels(self) -> None:
        """Make an error of a label of a measured row that is no class."""
        end = np.inf if self.num_classes is None else self.num_classes
        classes = "[0, C)" if self.num_classes is None else f"[0, {end})"
        wrong = np.flatnonzero((self.counts > 0) & ((self.labels < 0) | (self.labels >= end)))
        if wrong.size:
            target = self.labels[wrong[0]]
            raise ValueError(f"epoch: labels: row {wrong[0]} has target {target}, want one in {classes}")

    @property
    def num_classes(self) -> int | None:
        """C, where there is an array that tells."""
        return next((int(each.shape[1]) for each in (self.softmax, self.logits) if each is not None), None)

    def measured(self) -> tuple[NDArray[np.intp], EpochSums]:
        """The rows (M,) that were measured, and their part of the sums."""
        rows = np.flatnonzero(self.counts)
        sums = {name: column[rows] for name, column in self.sums.items()}
        softmax, logits = (None if each is None else each[rows] for each in (self.softmax, self.logits))
        return rows, EpochSums(self.counts[rows], sums, self.labels[rows], softmax, logits, self.left_out)


def column(
    name: str, margins: Margins, targets: NDArray[np.int64], probabilities: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Give a column (B,) of a batch.

    Parameters
    ----------
    name : str
        margin; correct (1 where the label has the largest logit); confidence (the softmax of the label); softmax_margin
        (that minus the largest other); error_norm (how far the softmax is from the one-hot label, as a 2-norm).
    margins : Margins of shape (B,)
        With their `other_logit`.
    targets : ndarray of shape (B,)
    probabilities : ndarray of shape (B, C), or None
        The softmax; wanted for all of `OF_SOFTMAX`.
    """
    if name == "margin":
        own: NDArray[np.float64] = margins.margin.astype(np.float64)
        return own
    if name == "correct":
        # of tied logits the lowest class is the answer
        right: NDArray[np.bool_] = (margins.margin > 0) | ((margins.margin == 0) & (targets < margins.other_logit))
        return right.astype(np.float64)
    if probabilities is None:
        raise ValueError(f"probabilities: None, want the softmax of the batch for {name}")
    places = np.arange(len(targets))
    own = probabilities[places, targets].astype(np.float64)
    if name == "softmax_margin":
        own -= probabilities[places, margins.other_logit]
    elif name == "error_norm":  # distance to the one-hot label
        squares = np.einsum("bc,bc->b", probabilities, probabilities, dtype=np.float64)
        own = np.sqrt(np.maximum(squares - own**2 + (1 - own) ** 2, 0.0))
    return own
