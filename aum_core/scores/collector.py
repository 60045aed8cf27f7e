"""The epoch in progress, added up by row: what scores fold when it ends, and what each of several processes keeps."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.growable import GrowableArray
from aum_core.ids import as_ids, id_list
from aum_core.sample_index import SampleIndex
from aum_core.scores.epoch_sums import EpochSums
from aum_core.scores.kinds import Epoch
from aum_core.scores.needs import Needs, columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from aum_core.batch import Batch
    from aum_core.growable import Allocate
    from aum_core.ids import Ids, SampleId

__all__ = ["EpochCollector", "add_by_row", "merge_epochs"]

_NARROW = 24


class EpochCollector:
    """Adds up the epoch in progress by row of the totals, and holds each sample to one label.

    An observer of a calculator. Where an epoch ends is for others to tell.

    Parameters
    ----------
    needs : Needs
        What is added up beside the margins; its columns stay the same in all epochs.
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
        self.num_classes: int | None = None
        """C; None until something was measured that tells it."""
        self._allocate = allocate
        self._labels, self._counts = GrowableArray(np.int32), GrowableArray(np.int64)
        self._sums = {name: GrowableArray(np.float64) for name in ("margin", *needs.columns)}
        self._matrices: dict[str, GrowableArray] = {}  # once C is known

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self._labels)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The given label of each row, (N,); -1 where it was not measured."""
        return self._labels.values.astype(np.int64)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Measurements of each sample in this epoch, (N,)."""
        return self._counts.values

    @property
    def needs_other_logit(self) -> bool:
        """Whether the runner-up class is looked at."""
        return self.needs.uses_other_logit

    @property
    def needs_logits(self) -> bool:
        """Whether the logits of the next batch are looked at."""
        return self.needs.uses_logits

    def check(self, batch: Batch) -> None:
        """Make an error of a sample with another label than before, and of another number of classes."""
        self.check_labels(batch.ids, batch.rows, batch.margins.target_logit, _num_classes(batch))

    def check_labels(
        self, ids: Ids, rows: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int | None
    ) -> None:
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
        if self.num_rows:
            before = self._labels.values[rows]  # of new samples that of another one, passed over
            changed = (before != labels) & (rows >= 0) if some_are_new else before != labels
            place = int(changed.argmax())
            if changed[place]:
                raise _other_label(id_list(ids)[place], labels[place], before[place])
        if some_are_new:
            _check_new(id_list(ids), labels)

    def take(self, batch: Batch) -> None:
        """Take a batch of checked measurements; a sample may be there several times."""
        rows = batch.rows
        if not len(rows):
            return
        self.grow(int(rows[rows.argmax()]) + 1)
        self._labels.values[rows] = batch.margins.target_logit
        self.num_classes = _num_classes(batch) or self.num_classes
        softmax = batch.softmax() if self.needs.uses_softmax else None
        measured = columns(np, self.needs.columns, batch.margins, softmax)
        np.add.at(self.counts, rows, 1)  # += would count a repeated row once
        for name, values in (("margin", batch.margins.margin), *measured.items()):
            np.add.at(self._sums[name].values, rows, values.astype(np.float64, copy=False))
        self._add_matrices(rows, softmax, batch.logits)

    def include(self, rows: NDArray[np.int64], epoch: EpochSums) -> None:
        """Add a part (M,) of the epoch that was added up elsewhere and is checked; rows are all different."""
        self.grow(int(rows.max(initial=-1)) + 1)
        self._labels.values[rows] = epoch.labels
        self.num_classes = epoch.num_classes or self.num_classes
        self.counts[rows] += epoch.counts
        for name, own in self._sums.items():
            own.values[rows] += epoch.sums[name]
        self._add_matrices(rows, epoch.softmax, epoch.logits)

    def share_seen(self, rows: NDArray[np.int64]) -> float:
        """Tell which share of some rows (B,) has been measured in this epoch; 0 where there are none."""
        return np.count_nonzero(self.counts[rows]) / max(len(rows), 1)

    def means(self) -> Epoch:
        """The rows measured so far, and the mean of each column over their measurements."""
        rows = np.flatnonzero(self.counts)
        return Epoch(rows, {name: sums.values[rows] / self.counts[rows] for name, sums in self._sums.items()})

    def epoch(self) -> tuple[NDArray[np.intp], EpochSums]:
        """Give the rows (M,) measured in the epoch in progress, and their sums: to be used before the next batch."""
        sums = {name: each.values for name, each in self._sums.items()}
        softmax, logits = (self._matrices.get(name) for name in ("softmax", "logits"))
        return EpochSums(
            self.counts,
            sums,
            self.labels,
            None if softmax is None else softmax.values,
            None if logits is None else logits.values,
        ).measured()

    def begin(self, needs: Needs) -> None:
        """Begin the next epoch, which may need fewer matrices."""
        self.needs = needs
        self._matrices = {name: matrix for name, matrix in self._matrices.items() if getattr(needs, name)}
        for array in (self._counts, *self._sums.values(), *self._matrices.values()):
            array.values[:] = 0

    def grow(self, num_rows: int) -> None:
        """Have rows of zeros for samples that are new."""
        new = num_rows - self.num_rows
        if new <= 0:
            return
        for array in (self._counts, *self._sums.values(), *self._matrices.values()):
            array.append_zeros(new)
        self._labels.append(np.full(new, -1, np.int32))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give the whole state as 1-D arrays by name."""
        header = {"needs": asdict(self.needs), "num_classes": self.num_classes, "matrices": list(self._matrices)}
        arrays = {name: array.values.reshape(-1) for name, array in self._arrays().items()}
        return {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays}

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
            collector.num_classes = header["num_classes"]
            collector.grow(len(arrays["labels"]))
            for name in header["matrices"]:
                collector._matrix(name, header["num_classes"])
            for name, array in collector._arrays().items():
                array.fill(arrays[name])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"epoch: its arrays contradict each other or what was asked for ({error})") from error
        return collector

    def _arrays(self) -> dict[str, GrowableArray]:
        sums = {f"sums_{name}": each for name, each in self._sums.items()}
        return {"labels": self._labels, "counts": self._counts, **sums, **self._matrices}

    def _add_matrices(self, rows: Any, softmax: NDArray[Any] | None, logits: NDArray[Any] | None) -> None:
        for name, values in (("softmax", softmax), ("logits", logits)):
            if values is not None and getattr(self.needs, name):
                add_by_row(self._matrix(name, values.shape[1]).values, rows, values)

    def _matrix(self, name: str, num_classes: int) -> GrowableArray:
        if name not in self._matrices:
            self._matrices[name] = GrowableArray(np.float32, num_classes, self._allocate)
            self._matrices[name].append_zeros(self.num_rows)
        return self._matrices[name]


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
        rows = index.insert(ids)
        merged.check_labels(ids, np.where(rows < merged.num_rows, rows, -1), part.labels, part.num_classes)
        merged.include(rows, part)
    order = index.sorted_rows()
    return index.sample_ids[order], merged.epoch()[1].at(order)


def add_by_row(sums: NDArray[Any], rows: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Add values (B, C) to the rows of sums (N, C); a row that is there several times gets all of them.

    What is too large for the sums becomes an infinity, which the noise posterior does not take for a measurement.
    """
    num_classes = sums.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        if num_classes < _NARROW:  # numpy.add.at is fast along one axis only
            places = (rows[:, None] * num_classes + np.arange(num_classes)).reshape(-1)
            np.add.at(sums.reshape(-1), places, values.astype(sums.dtype, copy=False).reshape(-1))
        elif len(set(rows.tolist())) == len(rows):
            sums[rows] += values
        else:
            np.add.at(sums, rows, values)


def _num_classes(batch: Batch) -> int | None:
    return None if batch.logits is None else int(batch.logits.shape[1])


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
