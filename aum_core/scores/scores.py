"""The scores that were asked for beside the AUM, added up by row while training runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from aum_core.files.tables import ranked, write_table
from aum_core.growable import GrowableArray
from aum_core.scores.collector import EpochCollector
from aum_core.scores.kinds import SCORES, check_names
from aum_core.scores.needs import Needs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from aum_core.batch import Batch
    from aum_core.scores.epoch_sums import EpochSums
    from aum_core.scores.kinds import Epoch
    from aum_core.totals import Totals

__all__ = ["ClassSums", "Scores"]

_SEEN_BEFORE = 0.75


class ClassSums(Protocol):
    """Who takes the softmax and the logits of all classes, added up by row: the noise posterior."""

    @property
    def needs(self) -> Needs:
        """What is needed of the next batch."""
        ...

    def fresh(self) -> Self:
        """Make another one of the same kind, with nothing in it."""
        ...

    def grow(self, num_rows: int) -> None:
        """Have rows of zeros for samples that are new."""
        ...

    def add(self, rows: Any, softmax: NDArray[Any] | None, logits: NDArray[Any] | None) -> None:
        """Add a batch, or the sums of an epoch, (B, C): those of the two that are needed."""
        ...

    def end_epoch(self, counts: NDArray[np.int64], agreement: float, labels: NDArray[np.int64]) -> None:
        """End an epoch with its measurements by row (N,), in which the network agreed with this share of the labels."""
        ...

    def posterior(self, scores: Scores) -> Any:
        """Estimate from what was added up, and the epoch in progress of the scores that it belongs to."""
        ...

    def describe(self, agreement: float | None) -> dict[str, Any]:
        """Tell its state, as ``run.json`` has it, as if the epoch in progress, if there is one, had just ended."""
        ...

    def write(self, folder: Path, totals: Totals, scores: Scores) -> dict[str, Any]:
        """Write its files; what ``run.json`` has of them."""
        ...

    def header(self) -> dict[str, Any]:
        """Give what there is to know beside the arrays."""
        ...

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give the arrays by name, 1-D."""
        ...

    def fill(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take what `header` and `to_arrays` gave; the rows are there already."""
        ...


class Scores(Mapping[str, "NDArray[np.float64]"]):
    """Scores by name, each (N,) by row of the totals; an epoch in progress counts as if it had just ended.

    An observer of a calculator. What an epoch is: `end_epoch` tells where one ends. Without it, one ends where three
    quarters of a batch have been measured in it already, which is right wherever each epoch goes through the samples
    once. Where a sampler draws samples with replacement, or each of several processes sees other samples in each epoch,
    only `end_epoch` can tell.

    Parameters
    ----------
    names : iterable of str
        Of `aum_core.scores.kinds.SCORES`.
    class_sums : ClassSums, optional
        Gets what is added up of all classes, and each epoch as it ends.

    Raises
    ------
    TypeError, ValueError
        Where a name is none of those, or there twice.

    References
    ----------
    confidence, variability, correctness: Swayamdipta et al. 2020, "Dataset Cartography", arXiv 2009.10795. el2n: Paul
    et al. 2021, "Deep Learning on a Data Diet", arXiv 2107.07075. forgetting: Toneva et al. 2019, "An Empirical Study
    of Example Forgetting", arXiv 1812.05159.

    Examples
    --------
    >>> from aum_core import Batch, compute_margins
    >>> scores, logits = Scores(["correctness"]), np.array([[2.0, 0.5], [1.0, 3.0]])
    >>> batch = Batch(np.array([7, 4]), compute_margins(logits, [0, 0]))
    >>> batch.rows = np.array([0, 1])
    >>> scores.take(batch)
    >>> scores["correctness"]
    array([1., 0.])
    """

    def __init__(self, names: Iterable[str] = (), class_sums: ClassSums | None = None) -> None:
        self.names = check_names(names)
        self.class_sums = class_sums
        self._kinds = [SCORES[name] for name in self.names]
        needed = {kind.needs for kind in self._kinds} | ({"correct"} if class_sums is not None else set())
        self._columns = tuple(sorted(needed - {"margin"}))
        self._epoch = EpochCollector(Needs(self._columns))
        kept = ["epochs", *(name for kind in self._kinds for name in kind.keeps)]
        self._kept = {name: GrowableArray(np.float64) for name in kept}
        self.needs = self._needs_now()
        """What of the next measurements is added up."""

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name not in self.names:
            raise KeyError(name)
        kind = SCORES[name]
        kept = {each: self._kept[each].values.copy() for each in ("epochs", *kind.keeps)}
        epoch = self._epoch.means()
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
        return self._epoch.num_rows

    @property
    def labels(self) -> NDArray[np.int64]:
        """The given label of each row, (N,); -1 where it was not measured."""
        return self._epoch.labels

    @property
    def needs_other_logit(self) -> bool:
        """Whether the runner-up class is looked at."""
        return self.needs.uses_other_logit

    @property
    def needs_logits(self) -> bool:
        """Whether the logits of the next batch are looked at; the epoch may end with it, and the next need fewer."""
        return self.needs.uses_logits

    def check(self, batch: Batch) -> None:
        """Check that the labels and the number of classes of `batch` are those of before.

        Raises
        ------
        ValueError
            Where a sample comes with another label than before, or with two at once; where C is another.
        """
        self._epoch.check(batch)

    def check_epoch(self, ids: Any, rows: NDArray[np.int64], epoch: EpochSums) -> None:
        """Check the labels and the number of classes of `epoch`, whose samples are `ids`; for errors see `check`.

        Their `rows` (M,) in the totals are -1 where they are new.
        """
        self._epoch.check_labels(ids, rows, epoch.labels, epoch.num_classes)

    def take(self, batch: Batch) -> None:
        """Take the measurements of `batch`, which was checked."""
        rows = batch.rows
        if not len(rows):
            return
        self.grow(int(rows[rows.argmax()]) + 1)
        if self._epoch.share_seen(rows) >= _SEEN_BEFORE:
            self.end_epoch()
        self._epoch.take(batch)
        if self.class_sums is not None and self.needs.has_matrices:
            self.class_sums.add(rows, batch.softmax() if self.needs.softmax else None, batch.logits)

    def add_epoch(self, rows: NDArray[np.int64], epoch: EpochSums) -> None:
        """Take the sums of a whole epoch that were added up elsewhere, and end it.

        Parameters
        ----------
        rows : ndarray of shape (M,), int64
            All different.
        epoch : EpochSums
            Of these rows, checked; each measured at least once.
        """
        self.grow(int(rows.max(initial=-1)) + 1)
        self.end_epoch()
        self._epoch.include(rows, epoch)
        if self.class_sums is not None and self.needs.has_matrices:
            self.class_sums.add(rows, epoch.softmax, epoch.logits)
        self.end_epoch()

    def end_epoch(self) -> None:
        """Say that an epoch has ended: the next measurement is of another one."""
        epoch = self._epoch.means()
        if not len(epoch.rows):
            return
        if self.class_sums is not None:
            self.class_sums.end_epoch(self._epoch.counts, _agreement(epoch), self.labels)
        kept = {name: array.values for name, array in self._kept.items()}
        for kind in self._kinds:
            kind.take(kept, epoch)
        kept["epochs"][epoch.rows] += 1
        self._epoch.begin(self._epoch.needs)
        self.needs = self._needs_now()

    def noise_posterior(self) -> Any:
        """Estimate the chance that each label is wrong, a `NoisePosterior`; an epoch in progress counts as ended.

        Raises
        ------
        ValueError
            Where it was not asked for, or nothing has been measured.
        """
        if self.class_sums is None:
            raise ValueError("noise_posterior: not kept, want noise_posterior=True where the calculator is made")
        return self.class_sums.posterior(self)

    def in_progress(self) -> tuple[NDArray[np.int64], float | None]:
        """Measurements by row (N,) of the epoch in progress, and the share of labels agreed with, if there are any."""
        epoch = self._epoch.means()
        return self._epoch.counts, _agreement(epoch) if len(epoch.rows) else None

    def describe(self) -> dict[str, Any]:
        """Tell what is kept, as ``run.json`` has it; an epoch in progress counts."""
        epochs = self._kept["epochs"].values + (self._epoch.counts > 0)
        described = {"names": list(self.names), "epochs": int(epochs.max(initial=0))}
        return described if self.class_sums is None else described | self.class_sums.describe(self.in_progress()[1])

    def write(self, folder: Path, totals: Totals) -> dict[str, Any]:
        """Write ``scores.csv``, and the files of the noise posterior where it is kept, to `folder`.

        Sample ids and AUMs are those of `totals`. Given back is what ``run.json`` has of them.
        """
        described = self.describe()
        if self.names:
            table = {"sample_id": totals.sample_ids, "aum": totals.aums, **self}
            write_table(folder / "scores.csv", table, ranked(totals.aums))
        if self.class_sums is not None and len(totals):
            described |= self.class_sums.write(folder, totals, self)
        return described

    def grow(self, num_rows: int) -> None:
        """Have `num_rows` rows: those of samples that are new are zeros."""
        new = num_rows - self.num_rows
        if new <= 0:
            return
        for array in self._kept.values():
            array.append_zeros(new)
        self._epoch.grow(num_rows)
        if self.class_sums is not None:
            self.class_sums.grow(num_rows)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give the whole state as 1-D arrays by name."""
        header: dict[str, Any] = {"names": self.names}
        arrays = {f"epoch.{name}": each for name, each in self._epoch.to_arrays().items()}
        arrays |= {f"kept.{name}": each.values for name, each in self._kept.items()}
        if self.class_sums is not None:
            header["class_sums"] = self.class_sums.header()
            arrays |= self.class_sums.to_arrays()
        return {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays}

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Scores:
        """Make scores of this kind of `arrays`, which `to_arrays` gave, to the same bits; these stay as they are.

        Raises
        ------
        ValueError
            Where the arrays contradict each other, or are of other scores.
        """
        scores = Scores(self.names, None if self.class_sums is None else self.class_sums.fresh())
        try:
            header = json.loads(arrays["header"].tobytes())
            found, wanted = (header["names"], "class_sums" in header), (list(self.names), self.class_sums is not None)
            if found != wanted:
                raise ValueError(f"names and noise posterior are {found} and {wanted}, want the same in both")
            of_epoch = {name.removeprefix("epoch."): each for name, each in arrays.items() if name.startswith("epoch.")}
            epoch = self._epoch.from_arrays(of_epoch)
            scores.grow(epoch.num_rows)
            scores._epoch = epoch
            for name, each in scores._kept.items():
                each.fill(arrays[f"kept.{name}"])
            if scores.class_sums is not None:
                scores.class_sums.fill(header["class_sums"], arrays)
                scores.needs = scores._needs_now()
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"scores: their arrays contradict each other or what was asked for ({error})") from error
        return scores

    def reordered(self, rows: NDArray[np.int64]) -> Scores:
        """Make scores of `rows` (M,) of these, in this order and to the same bits; these stay as they are."""
        arrays, num_rows = self.to_arrays(), self.num_rows
        for name, array in arrays.items():
            if not name.endswith("header"):
                arrays[name] = array.reshape(num_rows, array.size // max(1, num_rows))[rows].reshape(-1)
        return self.from_arrays(arrays)

    def _needs_now(self) -> Needs:
        of_classes = Needs() if self.class_sums is None else self.class_sums.needs
        return Needs(self._columns, of_classes.softmax, of_classes.logits)


def _agreement(epoch: Epoch) -> float:
    """The share of the labels that the network agreed with."""
    return float(epoch.means["correct"].mean()) if "correct" in epoch.means else float("nan")
