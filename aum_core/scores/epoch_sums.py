"""What one epoch brought, added up by sample: what devices hand to the calculator, and the calculator to the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from aum_core.scores.needs import Needs

__all__ = ["EpochSums"]


@dataclass(frozen=True, slots=True)
class EpochSums:
    """What one epoch brought, added up by sample: on a device inside a compiled step, or by a trainer.

    Attributes
    ----------
    counts : ndarray of shape (N,), int64
        Measurements of each sample; 0 where it was not measured.
    sums : mapping of str to ndarray of shape (N,), float64
        The columns of the measurements, added up: "margin", and those of `Needs.columns`.
    labels : ndarray of shape (N,), int64
        The given labels.
    softmax, logits : ndarray of shape (N, C), floats, optional
        The softmax and the logits, added up; wanted where `Needs` says so, passed over where it does not.
    left_out : int
        Measurements that were left out.
    """

    counts: NDArray[np.int64]
    sums: Mapping[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    softmax: NDArray[Any] | None = None
    logits: NDArray[Any] | None = None
    left_out: int = 0

    def check(self, needs: Needs) -> None:
        """Check that what `needs` asks for is there.

        Raises
        ------
        ValueError
            Where something is missing, does not go together, or cannot be.
        """
        self._check_rows()
        shape = self.counts.shape
        for name in ("margin", *needs.columns):
            if name not in self.sums or self.sums[name].shape != shape:
                found = "none" if name not in self.sums else f"shape {self.sums[name].shape}"
                raise ValueError(f"epoch: {found} for the column {name!r}, want {shape}, as the counts")
        self._check_matrix("softmax", self.softmax, needed=needs.softmax)
        self._check_matrix("logits", self.logits, needed=needs.logits)
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
        return rows, self if len(rows) == len(self.counts) else self.at(rows)

    def at(self, rows: NDArray[np.integer[Any]]) -> EpochSums:
        """Give the sums of `rows` (M,), in this order."""
        sums = {name: column[rows] for name, column in self.sums.items()}
        softmax, logits = (None if each is None else each[rows] for each in (self.softmax, self.logits))
        return EpochSums(self.counts[rows], sums, self.labels[rows], softmax, logits, self.left_out)
