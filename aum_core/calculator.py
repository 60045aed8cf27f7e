"""From batches to totals and records: what a training loop calls."""

from __future__ import annotations

import json
import math
import os
import warnings
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np

from aum_core._version import __version__
from aum_core.backend import NumpyBackend
from aum_core.files.arrays import load_arrays, save_arrays
from aum_core.files.tables import write_aum_values
from aum_core.files.whole import write_json
from aum_core.ids import as_ids, id_list
from aum_core.margins import Margins, TargetError, check_targets
from aum_core.records import RECORD_FIELDS, AUMRecord, Columns, RecordsInMemory, records_to_df
from aum_core.scores.epoch_sums import EpochSums
from aum_core.scores.scores import make_scores
from aum_core.scores.tables import write_scores
from aum_core.totals import ByID, Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from aum_core.backend import Backend
    from aum_core.ids import SampleId
    from aum_core.posterior.averaging_window import PosteriorModel
    from aum_core.posterior.estimate import NoisePosterior
    from aum_core.records import RecordLog, SampleIds
    from aum_core.scores.scores import KeepPosterior, Scores

__all__ = ["AUMCalculator", "NonFinite", "Observer"]

_KIND = "aum calculator, version 1"
_ALWAYS_SAVED = ("save_dir", "compressed", "nonfinite")
_SAVED_OF_SCORES = {"scores", "noise_posterior", "posterior_model"}
_HOST_SEQUENCES = (list, tuple, str, bytes)
NonFinite = Literal["leave_out", "raise", "propagate"]


class Observer(Protocol):
    """Sees every checked batch before it is counted; what it raises leaves the totals as they were."""

    def see(self, ids: NDArray[np.int64] | list[SampleId], margins: Margins) -> None:
        """Take note of a batch of (B,) ids and margins."""
        ...


@dataclass(slots=True)
class _Batch:
    """A checked batch. `kept` tells which of its rows count; None where all do."""

    ids: NDArray[np.int64] | list[SampleId]
    margins: Margins
    kept: NDArray[np.bool_] | None
    logits: NDArray[Any] | None

    def kept_part(self) -> tuple[NDArray[np.int64] | list[SampleId], Margins]:
        if self.kept is None:
            return self.ids, self.margins
        if isinstance(self.ids, np.ndarray):
            return self.ids[self.kept], self.margins[self.kept]
        chosen = [each for each, kept in zip(self.ids, self.kept.tolist(), strict=True) if kept]
        return chosen, self.margins[self.kept]


def _in_memory(sample_ids: SampleIds, save_dir: str | os.PathLike[str]) -> RecordLog:  # noqa: ARG001 # others need it
    return RecordsInMemory(sample_ids)


class AUMCalculator:
    """Keeps the Area Under the Margin of every sample while a classifier trains.

    The AUM of a sample is the mean of its margins over training (Pleiss et al. 2020, arXiv 2001.10528, equation 2).
    A low one means that the network learnt the sample against its other evidence: its label may be wrong.

    Parameters
    ----------
    save_dir : str or path
        Folder of the files that `finalize` writes.
    compressed : bool, default True
        False keeps a record of every measurement too, see `records`.
    backend : Backend, optional
        The framework of the arrays; NumPy by default. The adapters choose their own.
    nonfinite : {"leave_out", "raise", "propagate"}, default "leave_out"
        What becomes of a margin that is NaN or infinite: it is left out, counted and warned of once; an error;
        or added all the same.
    scores : iterable of str, default ()
        Other scores to keep from the same forward passes: "bounded_aum", "confidence", "variability", "correctness",
        "el2n", "forgetting", "softmax_margin", "margin_of_mean_softmax". They are in `scores`.
    noise_posterior : bool or "on_disk", default False
        Whether to keep what `noise_posterior` needs: 8 bytes for each sample and class, in memory or in a file in
        `save_dir` that has no name and is gone with the calculator.
    posterior_model : {"judged", "classes"}, default "judged"
        Of the noise posterior: whether the first epochs judge what kind of errors there are, or they are taken to
        follow from the class. See ``docs/scores.md``.
    log : callable, optional
        Makes the `RecordLog` of a calculator that is not compressed, given a function that gives the sample ids by
        row. By default records stay in memory; the adapters write them to disk.

    Examples
    --------
    >>> import tempfile
    >>> calculator = AUMCalculator(tempfile.mkdtemp())
    >>> records = calculator.update([[2.0, 0.5], [1.0, 3.0]], targets=[0, 0], sample_ids=["cat.png", "dog.png"])
    >>> records["dog.png"].margin
    -2.0
    >>> calculator.totals.aums
    array([ 1.5, -2. ])
    """

    # What the adapters replace: theirs know a framework, keep records on disk, and write faster where pyarrow is.
    _make_backend: ClassVar[type[Backend]] = NumpyBackend
    _make_log: ClassVar[Callable[..., RecordLog]] = staticmethod(_in_memory)
    _write_ranking = staticmethod(write_aum_values)

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        compressed: bool = True,
        *,
        backend: Backend | None = None,
        nonfinite: NonFinite = "leave_out",
        scores: Iterable[str] = (),
        noise_posterior: KeepPosterior = False,
        posterior_model: PosteriorModel = "judged",
        log: Callable[[SampleIds], RecordLog] | None = None,
    ) -> None:
        if nonfinite not in ("leave_out", "raise", "propagate"):
            raise ValueError(f"nonfinite: {nonfinite!r}, want 'leave_out', 'raise' or 'propagate'")
        self.save_dir = save_dir
        self.compressed = compressed
        self._backend: Backend = backend or self._make_backend()
        self._nonfinite = nonfinite
        self._totals = Totals()
        self._log = None if compressed else (log or partial(self._make_log, save_dir=save_dir))(self._sample_ids)
        self._observers: list[Observer] = []
        self._keep_posterior, self._posterior_model = noise_posterior, posterior_model
        self._scores = make_scores(scores, noise_posterior, posterior_model, save_dir)

    @property
    def totals(self) -> Totals:
        """The totals, alive: they grow with each batch."""
        return self._totals

    @property
    def counts(self) -> Mapping[SampleId, int]:
        """Number of measurements by sample id."""
        return ByID(self._totals, lambda totals: totals.counts)

    @property
    def sums(self) -> Mapping[SampleId, float]:
        """Sum of the margins by sample id."""
        return ByID(self._totals, lambda totals: totals.sums)

    @property
    def records(self) -> RecordLog:
        """All records in the order they were made; only where `compressed` is False."""
        if self._log is None:
            raise AttributeError("records are kept only by AUMCalculator(save_dir, compressed=False)")
        return self._log

    @property
    def scores(self) -> Scores:
        """The other scores that were asked for, by name: (N,) each, aligned to `totals`; see `Scores`."""
        if self._scores is None:
            raise AttributeError('scores are kept only by AUMCalculator(save_dir, scores=["confidence"]), say')
        self._scores.grow(len(self._totals))
        return self._scores

    def end_epoch(self) -> None:
        """Say that an epoch has ended; only other scores than the AUM care, and mostly see it themselves: `Scores`."""
        if self._scores is not None:
            self._scores.end_epoch()

    def noise_posterior(self) -> NoisePosterior:
        """Estimate how likely each label is wrong, by row of the totals; see `aum_core.noise_posterior`.

        An epoch in progress counts as if it had just ended.

        Raises
        ------
        ValueError
            Where the calculator was made without ``noise_posterior=True``, or nothing has been measured yet.
        """
        if self._scores is None:
            raise ValueError("noise_posterior: not kept, want AUMCalculator(save_dir, noise_posterior=True)")
        return self.scores.noise_posterior()

    def observe(self, observer: Observer) -> None:
        """Let `observer` see every batch from now on."""
        self._observers.append(observer)

    def update(self, logits: Any, targets: Any, sample_ids: Any) -> dict[SampleId, AUMRecord]:
        """Measure a batch and give its records.

        Parameters
        ----------
        logits : array of shape (B, C), float16, bfloat16, float32 or float64
            Raw outputs of the training forward pass, before any softmax; C >= 2.
        targets : array of shape (B,) or (B, 1), any integer dtype
            The assigned classes, in [0, C).
        sample_ids : list, array or tensor of shape (B,)
            Ints or strs. A repeated id counts as that many updates in turn.

        Returns
        -------
        dict of sample id to AUMRecord
            In the order of `sample_ids`; a repeated id has its last record. A measurement that is left out has a
            record with its non-finite margin and the count and AUM as they were.

        Raises
        ------
        TypeError, ValueError
            Where the input does not fit; the calculator is as before the call.
        """
        measure = partial(self._backend.measure, logits, targets)
        on_host = partial(self._backend.logits, logits)
        return self._update(self._checked(measure, sample_ids, targets, on_host), targets)

    def accumulate(self, logits: Any, targets: Any, sample_ids: Any) -> None:
        """Measure a batch without making records of it: the same bookkeeping as `update`, many times faster.

        Parameters are those of `update`. Where `compressed` is False the records are logged all the same.
        """
        needs_other = self._log is not None or self._scores is not None or bool(self._observers)
        measure = partial(self._backend.measure, logits, targets, other_logit=needs_other)
        self._accumulate(self._checked(measure, sample_ids, targets, partial(self._backend.logits, logits)), targets)

    def accumulate_measured(self, margins: Margins, targets: Any, sample_ids: Any, *, logits: Any = None) -> None:
        """Take a batch whose margins were measured elsewhere: on a device, in a compiled step.

        Parameters
        ----------
        margins : Margins
            What that step measured; columns (B,) of the backend's framework or NumPy's.
        targets : array of shape (B,) or (B, 1), any integer dtype
            The assigned classes that they were measured for.
        sample_ids
            As in `update`.
        logits : array of shape (B, C), optional
            What they were measured on; wanted where scores or the noise posterior need them.

        Raises
        ------
        TypeError, ValueError
            Where columns, targets and ids do not go together; the calculator is as before the call.

        Examples
        --------
        >>> import tempfile
        >>> from aum_core import compute_margins
        >>> calculator = AUMCalculator(tempfile.mkdtemp(), compressed=False)
        >>> calculator.accumulate_measured(compute_margins([[2.0, 0.5]], [1]), [1], ["cat.png"])
        >>> calculator.records[0].margin
        -1.5
        """
        measure = partial(self._brought_home, margins, targets)
        on_host = partial(self._logits_brought_home, logits)
        self._accumulate(self._checked(measure, sample_ids, targets, on_host), targets)

    def add_totals(self, totals: Totals) -> None:
        """Take in what was measured elsewhere: on a device inside a compiled step, or by another process.

        Parameters
        ----------
        totals : Totals
            Left as it is. Taken in twice it counts twice.

        Raises
        ------
        ValueError
            Where `compressed` is False: totals have no records.

        Examples
        --------
        >>> import tempfile
        >>> totals = Totals()
        >>> totals.add(["cat.png"], [1.5])
        >>> calculator = AUMCalculator(tempfile.mkdtemp())
        >>> calculator.add_totals(totals)
        >>> calculator.counts["cat.png"]
        1
        """
        if not isinstance(totals, Totals):
            raise TypeError(f"totals: {type(totals).__name__}, want aum_core.Totals")
        if self._log is not None:
            raise ValueError("totals: they have no records, want AUMCalculator(save_dir, compressed=True)")
        if self._scores is not None:
            raise ValueError("totals: they have no other scores; want add_epoch, or a calculator without scores")
        self._totals.include(totals)

    def add_epoch(self, epoch: EpochSums, sample_ids: Any = None) -> None:
        """Take in a whole epoch that was measured elsewhere, with what the other scores need, and end it.

        Parameters
        ----------
        epoch : EpochSums
            By row of the data set.
        sample_ids : sequence of N int or str, optional
            The names of the rows; row numbers by default.

        Raises
        ------
        TypeError, ValueError
            Where `compressed` is False, or a column is missing or does not fit; the calculator is as before the call.

        Examples
        --------
        >>> import tempfile
        >>> from aum_core import EpochSums
        >>> calculator = AUMCalculator(tempfile.mkdtemp(), scores=["correctness"])
        >>> sums = {"margin": np.array([2.0, -1.0]), "correct": np.array([1.0, 0.0])}
        >>> calculator.add_epoch(EpochSums(np.array([1, 1]), sums, labels=np.array([0, 1])))
        >>> calculator.totals.aums, calculator.scores["correctness"]
        (array([ 2., -1.]), array([1., 0.]))
        """
        if not isinstance(epoch, EpochSums):
            raise TypeError(f"epoch: {type(epoch).__name__}, want aum_core.EpochSums")
        if self._log is not None:
            raise ValueError("epoch: it has no records, want AUMCalculator(save_dir, compressed=True)")
        epoch.check(self._scores)
        totals = Totals.from_rows(epoch.sums["margin"], epoch.counts, sample_ids, epoch.left_out)
        ids, measured = as_ids(totals.sample_ids), epoch.measured()[1]
        if self._scores is not None:
            self._check_labels(ids, measured.labels, measured.num_classes)
        self._totals.include(totals)
        if self._scores is not None:
            self._scores.add_epoch(self._totals.find(ids), measured)

    def finalize(self, save_dir: str | os.PathLike[str] | None = None, *, full_csv: bool = True) -> None:
        """Write the files of the run: each appears whole or not at all.

        ``totals.npz`` (the state), ``aum_values.csv`` (the ranking, best first), ``full_aum_records.csv`` (only
        where `compressed` is False) and ``run.json`` (what was measured and how). With other scores ``scores.csv`` (the
        ranking with them beside it), with the noise posterior ``noise_posterior.csv`` (most suspicious first) and
        ``transition.csv``.

        Parameters
        ----------
        save_dir : str or path, optional
            Another folder than the calculator's own. Parts of a log on disk stay in their own.
        full_csv : bool, default True
            False leaves ``full_aum_records.csv`` out.
        """
        folder = Path(save_dir or self.save_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._totals.save(folder / "totals.npz")
        self._write_ranking(folder / "aum_values.csv", self._totals.sample_ids, self._totals.aums)
        if self._log is not None:
            self._log.flush()
            if full_csv:
                self._log.write_csv(folder / "full_aum_records.csv")
        told = self.describe()
        if self._scores is not None:
            told["scores"] = write_scores(folder, self._totals, self.scores)
        write_json(folder / "run.json", told)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the state to an ``.npz`` file, without pickle, whole or not at all.

        Of a log on disk the file names the parts that belong to it; what was still in memory becomes one first.

        Examples
        --------
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> calculator = AUMCalculator(folder)
        >>> calculator.accumulate([[2.0, 0.5]], [0], ["cat.png"])
        >>> calculator.save(folder + "/aum.npz")
        >>> AUMCalculator.load(folder + "/aum.npz").counts["cat.png"]
        1
        """
        save_arrays(path, _KIND, self._to_arrays())

    @classmethod
    def load(cls, path: str | os.PathLike[str], save_dir: str | os.PathLike[str] | None = None, **options: Any) -> Self:
        """Load what `save` saved: a calculator that goes on to the same bits.

        Parts of a log on disk that were written after `save` are not of this calculator: they are set aside.

        Parameters
        ----------
        path : str or path
        save_dir : str or path, optional
            Folder of the files, where it has another name by now.
        **options
            Those that a file does not hold, such as `backend`.

        Raises
        ------
        ValueError
            Where the file is truncated, foreign, or contradicts itself or the parts on disk.
        """
        arrays = load_arrays(path, _KIND)
        try:
            saved = _options_from(arrays) | options
            saved["save_dir"] = save_dir or saved["save_dir"]
            calculator = cls(**saved)
            calculator._take_arrays(arrays)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: cannot be taken up: {error}") from error
        return calculator

    def _to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state in one-dimensional arrays, the name of each led by that of the part it is of."""
        options = {"save_dir": os.fspath(self.save_dir), **self._options()}
        parts = {"totals": self._totals.to_arrays()}
        if self._log is not None:
            parts["records"] = self._log.to_arrays()
        if self._scores is not None:
            parts["scores"] = self.scores.to_arrays()
        arrays = {f"{part}.{name}": array for part, each in parts.items() for name, array in each.items()}
        return {"options": np.frombuffer(json.dumps(options).encode(), np.uint8), **arrays}

    def _take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become the calculator that gave these arrays; a ValueError changes nothing."""
        parts: dict[str, dict[str, NDArray[Any]]] = {}
        for name, array in arrays.items():
            part, _, own = name.partition(".")
            parts.setdefault(part, {})[own] = array
        parts.pop("rank", None)  # of a job of several: its adapter has looked at it
        kept = {"records": self._log, "scores": self._scores}
        wanted = {"options", "totals", *(name for name, part in kept.items() if part is not None)}
        if set(parts) != wanted:
            raise ValueError(f"it has {sorted(parts)}, want {sorted(wanted)}: the options are {self._options()}")
        totals = Totals.from_arrays(parts["totals"])
        scores = self._scores
        if scores is not None:
            scores = scores.taken_from(parts["scores"])
            if scores.num_rows != len(totals):
                raise ValueError(f"it has scores of {scores.num_rows} samples and totals of {len(totals)}")
        if self._log is not None:
            self._log.take_arrays(parts["records"], len(totals))
        self._totals, self._scores = totals, scores

    def describe(self) -> dict[str, Any]:
        """Tell what was measured and how, as ``run.json`` has it."""
        return {
            "aum_version": __version__,
            "framework": self._backend.name,
            "samples": len(self._totals),
            "measurements": self._totals.measurements,
            "measurements_per_sample": self._totals.measurements_per_sample(),
            "left_out": self._totals.left_out,
            "options": self._options(),
        }

    def _options(self) -> dict[str, Any]:
        options = {"compressed": self.compressed, "nonfinite": self._nonfinite}
        if self._scores is None:
            return options
        posterior = {"noise_posterior": self._keep_posterior, "posterior_model": self._posterior_model}
        return {**options, "scores": list(self._scores.names), **posterior}

    @staticmethod
    def records_to_df(records: Iterable[AUMRecord]) -> Any:
        """Give records as a pandas DataFrame, sorted by sample id and num_measurements.

        The index tells each record's place in `records`. Needs pandas.
        """
        return records_to_df(records)

    def _update(self, batch: _Batch, targets: Any) -> dict[SampleId, AUMRecord]:
        if not len(batch.ids):
            if self._log is not None:
                self._log.pass_batch()
            return {}
        target_logit = self._backend.to_numpy(targets).reshape(-1)
        kept_ids, kept_margins = batch.kept_part()
        rows = self._totals.rows(kept_ids)
        running = self._add_in_turn(rows, kept_margins.margin.astype(np.float64))
        self._score(batch, target_logit)
        if self._log is not None:
            chosen = target_logit if batch.kept is None else target_logit[batch.kept]
            self._log.append(rows, _columns(kept_margins, chosen, *running))
        if batch.kept is not None:
            running = self._with_left_out(batch, *running)
        names = id_list(batch.ids)
        columns = _columns(batch.margins, target_logit, *running)
        values = [columns[name].tolist() for name in RECORD_FIELDS[1:]]
        return dict(zip(names, map(AUMRecord, names, *values), strict=True))

    def _accumulate(self, batch: _Batch, targets: Any) -> None:
        if self._log is not None:
            self._update(batch, targets)
            return
        ids, margins = batch.kept_part()
        self._totals.add_later(ids, margins.margin)
        self._score(batch, targets)

    def _brought_home(self, margins: Margins, targets: Any) -> Margins:
        """Margins of another device as NumPy's, checked against their targets."""
        targets = self._backend.to_numpy(targets)
        check_targets(targets, (targets.size, 0))
        columns = {each.name: self._backend.to_numpy(getattr(margins, each.name)) for each in fields(Margins)}
        wrong = {name: column.shape for name, column in columns.items() if column.shape != (targets.size,)}
        if wrong:
            raise ValueError(f"margins: columns of shapes {wrong}, want ({targets.size},) to go with the targets")
        columns["other_logit"] = columns["other_logit"].astype(np.int64, copy=False)  # devices count in 32 bits
        return Margins(**columns)

    def _sample_ids(self) -> NDArray[Any]:
        return self._totals.sample_ids

    def _checked(
        self, measure: Callable[[], Margins], sample_ids: Any, targets: Any, on_host: Callable[[], NDArray[Any]]
    ) -> _Batch:
        """Check and measure a batch. Whatever can be wrong with it is found here, before any state changes."""
        if not isinstance(sample_ids, _HOST_SEQUENCES):
            sample_ids = self._backend.to_numpy(sample_ids)
        ids = as_ids(sample_ids)
        try:
            margins = measure()
        except TargetError as error:
            if error.row >= len(ids):
                raise
            named = id_list(ids)[error.row]
            raise TargetError(error.row, error.target, error.num_classes, named) from None
        if len(margins) != len(ids):
            raise ValueError(f"sample_ids: {len(ids)} ids for {len(margins)} rows of logits, want one id per row")
        logits = self._logits_to_score(ids, targets, on_host) if self._scores is not None else None
        batch = _Batch(ids, margins, self._kept(ids, margins.margin), logits)
        for observer in self._observers:
            observer.see(*batch.kept_part())
        if batch.kept is not None:
            self._totals.left_out += len(ids) - int(np.count_nonzero(batch.kept))
        return batch

    def _logits_to_score(
        self, ids: NDArray[np.int64] | list[SampleId], targets: Any, on_host: Callable[[], NDArray[Any]]
    ) -> NDArray[Any] | None:
        """The logits of a checked batch where the scores need them, seen to go with what they have."""
        scores = self.scores
        logits = on_host() if scores.need_softmax or scores.need_logits_sums else None
        labels = self._backend.to_numpy(targets).reshape(-1)
        self._check_labels(ids, labels, None if logits is None else logits.shape[1])
        return logits

    def _check_labels(
        self, ids: NDArray[np.int64] | list[SampleId], labels: NDArray[np.int64], num_classes: int | None
    ) -> None:
        """Make an error of a sample that comes with another label than before, or of another number of classes."""
        rows, names = self._totals.find(ids), id_list(ids)
        changed = self.scores.check(rows, labels, num_classes)
        if changed is not None:
            before = self.scores.labels[rows[changed]]
        elif (within := _other_label(names, labels)) is not None:
            changed, before = within
        else:
            return
        raise ValueError(
            f"targets: sample {names[changed]!r} has target {labels[changed]}, and {before} before; scores go with one "
            "label"
        )

    def _logits_brought_home(self, logits: Any) -> NDArray[Any]:
        if logits is None:
            raise ValueError("logits: None, but the scores need them; want what the margins were measured on, (B, C)")
        return self._backend.logits(logits)

    def _score(self, batch: _Batch, targets: Any) -> None:
        """Hand a batch to the scores that were asked for."""
        if self._scores is None or not len(batch.ids):
            return
        ids, margins = batch.kept_part()
        labels, logits = self._backend.to_numpy(targets).reshape(-1), batch.logits
        if batch.kept is not None:
            labels = labels[batch.kept]
            logits = None if logits is None else logits[batch.kept]
        self._scores.measure(self._totals.find(ids), margins, labels, logits)

    def _kept(self, ids: NDArray[np.int64] | list[SampleId], margin: NDArray[Any]) -> NDArray[np.bool_] | None:
        if self._nonfinite == "propagate" or _all_finite(margin):
            return None
        kept: NDArray[np.bool_] = np.isfinite(margin)
        first = int(kept.argmin())
        message = (
            f"logits: {len(margin) - int(kept.sum())} of {len(margin)} margins are not finite, the first for sample "
            f"{id_list(ids)[first]!r} ({margin[first]})"
        )
        if self._nonfinite == "raise":
            raise ValueError(f"{message}; nonfinite='leave_out' would leave them out and count them")
        if not self._totals.left_out:
            warnings.warn(
                f"{message}. They are left out and counted (totals.left_out); further ones without a warning. "
                "nonfinite='raise' makes them an error.",
                RuntimeWarning,
                stacklevel=4,
            )
        return kept

    def _add_in_turn(
        self, rows: NDArray[np.int64], margin: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Add margins one after the other; the count and AUM of each sample right after its own, each (B,)."""
        counts, sums = self._totals.counts[rows], self._totals.sums[rows]
        if len(set(rows.tolist())) == len(rows):
            counts += 1
            sums += margin
            self._totals.set_at(rows, sums, counts)
            return counts, sums / counts
        latest: dict[int, tuple[int, float]] = {}
        for i, (row, value) in enumerate(zip(rows.tolist(), margin.tolist(), strict=True)):
            count, total = latest.get(row, (int(counts[i]), float(sums[i])))
            latest[row] = counts[i], sums[i] = count + 1, total + value
        self._totals.set_at(rows, sums, counts)  # of a repeated row the last stands
        return counts, sums / counts

    def _with_left_out(
        self, batch: _Batch, counts: NDArray[np.int64], aums: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Widen the counts and AUMs of the kept rows to all rows of the batch."""
        rows = self._totals.find(batch.ids)
        seen = rows >= 0
        all_counts = np.zeros(len(rows), np.int64)
        all_aums = np.full(len(rows), np.nan)
        all_counts[seen] = self._totals.counts[rows[seen]]
        all_aums[seen] = self._totals.sums[rows[seen]] / all_counts[seen]
        all_counts[batch.kept], all_aums[batch.kept] = counts, aums
        return all_counts, all_aums


def _options_from(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    options = json.loads(arrays.get("options", np.empty(0)).tobytes())
    if not isinstance(options, dict) or set(options) - _SAVED_OF_SCORES != {*_ALWAYS_SAVED}:
        raise ValueError(f"options are {options}")
    return options


def _other_label(ids: list[SampleId], labels: NDArray[np.int64]) -> tuple[int, int] | None:
    """The place of a sample that is in a batch twice with two labels, and the other label."""
    if len(set(ids)) == len(ids):
        return None
    first: dict[SampleId, int] = {}
    for place, (sample_id, label) in enumerate(zip(ids, labels.tolist(), strict=True)):
        if first.setdefault(sample_id, label) != label:
            return place, first[sample_id]
    return None


def _all_finite(values: NDArray[Any]) -> bool:
    # argmax and argmin stop at the first NaN: the two extremes tell all, at half the cost of isfinite
    return not len(values) or (math.isfinite(values[values.argmax()]) and math.isfinite(values[values.argmin()]))


def _columns(
    margins: Margins, target_logit: NDArray[Any], counts: NDArray[np.int64], aums: NDArray[np.float64]
) -> Columns:
    return {
        "num_measurements": counts,
        "target_logit": target_logit,
        "target_val": margins.target_val,
        "other_logit": margins.other_logit,
        "other_val": margins.other_val,
        "margin": margins.margin,
        "aum": aums,
    }
