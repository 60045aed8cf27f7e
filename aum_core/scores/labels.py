"""The one label that goes with each sample's scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.growable import GrowableArray
from aum_core.ids import id_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core.ids import SampleId

__all__ = ["GivenLabels"]


class GivenLabels:
    """Labels by row of the totals, and the number of classes: neither ever changes.

    Examples
    --------
    >>> labels = GivenLabels()
    >>> labels.grow(2)
    >>> labels.put(np.array([1]), np.array([3]), num_classes=5)
    >>> labels.values
    array([-1,  3], dtype=int32)
    """

    def __init__(self) -> None:
        self._labels = GrowableArray(np.int32)
        self.num_classes: int | None = None
        """C; None until something was measured that tells it."""

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def values(self) -> NDArray[Any]:
        """The label of each row, (N,) int32; -1 where it was not measured."""
        return self._labels.values

    def check(self, ids: Any, rows: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int | None) -> None:
        """Make an error of a sample with another label than before, or with two at once, and of another C.

        Parameters
        ----------
        ids : ndarray or list of B sample ids
        rows : ndarray of shape (B,)
            -1 for samples that are new.
        labels : ndarray of shape (B,)
        num_classes : int or None
            None where it is not known.

        Raises
        ------
        ValueError
        """
        if None not in (self.num_classes, num_classes) and self.num_classes != num_classes:
            raise ValueError(
                f"logits: {num_classes} classes, and {self.num_classes} before; want the same number in all batches"
            )
        if not len(rows):
            return
        some_are_new = rows[rows.argmin()] < 0
        if len(self):
            before = self.values[rows]  # of new samples that of another one, passed over
            changed = (before != labels) & (rows >= 0) if some_are_new else before != labels
            place = int(changed.argmax())
            if changed[place]:
                raise _other_label(id_list(ids)[place], labels[place], before[place])
        if some_are_new:
            _check_new(id_list(ids), labels)

    def grow(self, num_rows: int) -> None:
        """Have rows for samples that are new."""
        self._labels.append(np.full(max(0, num_rows - len(self)), -1, np.int32))

    def put(self, rows: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int | None) -> None:
        """Take the checked labels (B,) of some rows."""
        self.values[rows] = labels
        self.num_classes = num_classes or self.num_classes

    def fill(self, labels: NDArray[Any], num_classes: int | None) -> None:
        """Take what `values` and `num_classes` gave; the rows are there already."""
        self._labels.fill(labels)
        self.num_classes = num_classes


def _check_new(ids: list[SampleId], labels: NDArray[np.int64]) -> None:
    """Make an error of a new sample that is in a batch twice, with two labels."""
    if len(set(ids)) == len(ids):
        return
    first: dict[SampleId, int] = {}
    for sample_id, label in zip(ids, labels.tolist(), strict=True):
        if first.setdefault(sample_id, label) != label:
            raise _other_label(sample_id, label, first[sample_id])


def _other_label(sample_id: SampleId, label: int, before: int) -> ValueError:
    return ValueError(
        f"targets: sample {sample_id!r} has target {label}, and {before} before; scores go with one label"
    )
