"""An epoch that is added up in one place and folded into scores in another: what each of several processes keeps."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.growable import GrowableArray
from aum_core.ids import as_ids
from aum_core.sample_index import SampleIndex
from aum_core.scores.epoch_sums import EpochSums
from aum_core.scores.labels import GivenLabels
from aum_core.scores.needs import Needs, columns
from aum_core.scores.running_epoch import RunningEpoch, add_by_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from aum_core.batch import Batch
    from aum_core.growable import Allocate

__all__ = ["EpochCollector", "merge_epochs"]


class EpochCollector:
    """Adds up the epoch in progress by row of the totals: an observer of a calculator, whose `epoch` goes elsewhere.

    Where an epoch ends is for others to tell.

    Parameters
    ----------
    needs : Needs
        What is added up; its columns stay the same in all epochs.
    allocate : callable
        Makes the arrays of N x C numbers: `numpy.empty`, or one that keeps them on disk.

    Examples
    --------
    >>> from aum_core import Batch, compute_margins
    >>> collector = EpochCollector(Needs(("correct",)))
    >>> batch = Batch(np.array([7, 4]), compute_margins([[2.0, 0.5], [1.0, 3.0]], [0, 0]))
    >>> batch.rows = np.array([0, 1])
    >>> collector.take(batch)
    >>> rows, epoch = collector.epoch()
    >>> epoch.sums["correct"]
    array([1., 0.])
    """

    def __init__(self, needs: Needs, allocate: Allocate = np.empty) -> None:
        self.needs = needs
        self._allocate = allocate
        self._labels = GivenLabels()
        self._epoch = RunningEpoch(("margin", *needs.columns))
        self._matrices: dict[str, GrowableArray] = {}  # once C is known

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self._labels)

    @property
    def num_classes(self) -> int | None:
        """C, once it is known."""
        return self._labels.num_classes

    @property
    def needs_other_logit(self) -> bool:
        """Whether the runner-up class is looked at."""
        return "correct" in self.needs.columns

    @property
    def needs_logits(self) -> bool:
        """Whether the logits of the next batch are looked at."""
        return self.needs.uses_softmax or self.needs.logits

    def check(self, batch: Batch) -> None:
        """Make an error of a sample with another label than before, and of another number of classes."""
        self._labels.check(batch.ids, batch.rows, batch.margins.target_logit, _num_classes(batch))

    def take(self, batch: Batch) -> None:
        """Take a batch of checked measurements."""
        rows = batch.rows
        if not len(rows):
            return
        self._grow(int(rows.max()) + 1)
        self._labels.put(rows, batch.margins.target_logit, _num_classes(batch))
        softmax = batch.softmax() if self.needs.uses_softmax else None
        measured = columns(np, self.needs.columns, batch.margins, softmax)
        self._epoch.add(rows, {"margin": batch.margins.margin, **measured})
        self._add_matrices(rows, softmax, batch.logits)

    def include(self, ids: Any, rows: NDArray[np.int64], epoch: EpochSums) -> None:
        """Add a part (M,) of the epoch that was added up elsewhere.

        Parameters
        ----------
        ids : ndarray or list of M sample ids
        rows : ndarray of shape (M,)
            All different.
        epoch : EpochSums
            Of these rows.

        Raises
        ------
        ValueError
            Where a label or the number of classes is another than before; nothing has changed then.
        """
        known = np.where(rows < self.num_rows, rows, -1)
        self._labels.check(ids, known, epoch.labels, epoch.num_classes)
        self._grow(int(rows.max(initial=-1)) + 1)
        self._labels.put(rows, epoch.labels, epoch.num_classes)
        self._epoch.include(rows, epoch.counts, epoch.sums)
        self._add_matrices(rows, epoch.softmax, epoch.logits)

    def epoch(self) -> tuple[NDArray[np.intp], EpochSums]:
        """Give the rows (M,) measured in the epoch in progress, and their sums: to be used before the next batch."""
        softmax, logits = (self._matrices.get(name) for name in ("softmax", "logits"))
        epoch = EpochSums(
            self._epoch.counts,
            self._epoch.sums,
            self._labels.values.astype(np.int64),
            None if softmax is None else softmax.values,
            None if logits is None else logits.values,
        )
        return epoch.measured()

    def begin(self, needs: Needs) -> None:
        """Begin the next epoch, which may need fewer matrices."""
        self.needs = needs
        self._epoch.clear()
        self._matrices = {name: matrix for name, matrix in self._matrices.items() if getattr(needs, name)}
        for matrix in self._matrices.values():
            matrix.values[:] = 0

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give the whole state as 1-D arrays by name."""
        header = {"needs": asdict(self.needs), "num_classes": self.num_classes, "matrices": list(self._matrices)}
        columns = {f"column{place}": each.values for place, each in enumerate(self._epoch.arrays)}
        matrices = {name: matrix.values.reshape(-1) for name, matrix in self._matrices.items()}
        encoded = np.frombuffer(json.dumps(header).encode(), np.uint8)
        return {"header": encoded, "labels": self._labels.values, **columns, **matrices}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> EpochCollector:
        """Make the collector that gave these arrays, of the same columns; this one stays as it is.

        Raises
        ------
        ValueError
            Where the arrays contradict each other, or are of other columns.
        """
        try:
            header = json.loads(arrays["header"].tobytes())
            needs = Needs(**{**header["needs"], "columns": tuple(header["needs"]["columns"])})
            if needs.columns != self.needs.columns:
                raise ValueError(f"columns {needs.columns}, want {self.needs.columns}")
            collector = EpochCollector(needs, self._allocate)
            collector._grow(len(arrays["labels"]))
            collector._labels.fill(arrays["labels"], header["num_classes"])
            for place, each in enumerate(collector._epoch.arrays):
                each.fill(arrays[f"column{place}"])
            for name in header["matrices"]:
                collector._matrix(name, header["num_classes"]).fill(arrays[name])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"epoch: its arrays contradict each other or what was asked for ({error})") from error
        return collector

    def _grow(self, num_rows: int) -> None:
        new = num_rows - self.num_rows
        if new <= 0:
            return
        self._labels.grow(num_rows)
        self._epoch.grow(new)
        for matrix in self._matrices.values():
            matrix.append_zeros(new)

    def _add_matrices(self, rows: Any, softmax: NDArray[Any] | None, logits: NDArray[Any] | None) -> None:
        for name, values in (("softmax", softmax), ("logits", logits)):
            if values is not None and getattr(self.needs, name):
                add_by_row(self._matrix(name, values.shape[1]).values, rows, values)

    def _matrix(self, name: str, num_classes: int) -> GrowableArray:
        if name not in self._matrices:
            self._matrices[name] = GrowableArray(np.float32, num_classes, self._allocate)
            self._matrices[name].append_zeros(self.num_rows)
        return self._matrices[name]


def _num_classes(batch: Batch) -> int | None:
    return None if batch.logits is None else int(batch.logits.shape[1])


def merge_epochs(needs: Needs, parts: Iterable[tuple[Any, EpochSums]]) -> tuple[NDArray[Any], EpochSums]:
    """Add up what several processes measured in the same epoch, by sample id.

    Parameters
    ----------
    needs : Needs
        What they were to add up.
    parts : iterable of (sample ids, EpochSums)
        Of M different samples each; looked at one after the other, so that an iterator need not have two at once.

    Returns
    -------
    sample_ids : ndarray of shape (N,)
        Those that were measured, ints before strs, in order.
    epoch : EpochSums
        Of these samples. Counts and margins of float32 logits have the bits that one process would have; what is
        rounded when it is added up, such as a softmax, may differ in its last digits.

    Raises
    ------
    ValueError
        Where a sample has different labels in two parts, or parts have different numbers of classes.

    Examples
    --------
    >>> def part(margin, label):
    ...     return EpochSums(np.array([1]), {"margin": np.array([margin])}, np.array([label]))
    >>> ids, epoch = merge_epochs(Needs(), [([7], part(2.0, 1)), ([3], part(0.5, 0)), ([7], part(1.0, 1))])
    >>> ids, epoch.counts, epoch.sums["margin"]
    (array([3, 7]), array([1, 2]), array([0.5, 3. ]))
    """
    index, merged = SampleIndex(), EpochCollector(needs)
    for sample_ids, part in parts:
        ids = as_ids(sample_ids)
        merged.include(ids, index.insert(ids), part)
    order = index.sorted_rows()
    return index.sample_ids[order], merged.epoch()[1].at(order)
