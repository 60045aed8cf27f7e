"""From batches to totals and records: what a training loop calls.

The path of a batch: the backend measures its margins; everything about it is checked; then the totals, the log of
records and the observers take it in, and nothing can go wrong any more.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aum_core._version import RUN_FORMAT, __version__
from aum_core.backend import NumpyBackend
from aum_core.files.tables import write_aum_values
from aum_core.files.whole import write_json
from aum_core.ids import as_ids, id_list
from aum_core.margins import Margins, TargetError
from aum_core.measurements import Measurements, NonFinite
from aum_core.posterior.averaging_window import make_window
from aum_core.records import AUMRecord, RecordsInMemory, records_to_df
from aum_core.scores.kinds import check_names
from aum_core.scores.scores import Scores
from aum_core.state import Checkpointed
from aum_core.totals import ByID, Totals

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from aum_core.backend import Backend
    from aum_core.batch import Observer
    from aum_core.ids import Ids, SampleId
    from aum_core.posterior.averaging_window import KeepPosterior
    from aum_core.posterior.estimate import NoisePosterior
    from aum_core.records import RecordLog, SampleIds
    from aum_core.scores.epoch_sums import EpochSums
    from aum_core.scores.needs import Needs

__all__ = ["AUMCalculator"]

_HOST_SEQUENCES = (list, tuple, str, bytes)


def _in_memory(sample_ids: SampleIds, save_dir: str | os.PathLike[str]) -> RecordLog:  # noqa: ARG001 # others need it
    return RecordsInMemory(sample_ids)


class AUMCalculator(Checkpointed):
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
        "el2n", "forgetting". They are in `scores`.
    noise_posterior : bool or "on_disk", default False
        Whether to keep what `noise_posterior` needs: 8 bytes for each sample and class, in memory or in a file in
        `save_dir` that has no name and is gone with the calculator.
    log : callable, optional
        Makes the `RecordLog` of a calculator that is not compressed, given a function that gives the sample ids by
        row. By default records stay in memory; the adapters write them to disk.

    Raises
    ------
    TypeError, ValueError
        Where an option is none of those.

    Examples
    --------
    >>> calculator = AUMCalculator("aum_run")
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
        log: Callable[[SampleIds], RecordLog] | None = None,
    ) -> None:
        self.save_dir = save_dir
        self.compressed = compressed
        self._backend: Backend = backend or self._make_backend()
        self._noise_posterior = noise_posterior
        names, window = check_names(scores), make_window(noise_posterior, save_dir)
        make_log = None if compressed else log or partial(self._make_log, save_dir=save_dir)
        self._measured = Measurements(nonfinite, make_log, Scores(names, window) if names or window else None)

    @property
    def totals(self) -> Totals:
        """The totals, alive: they grow with each batch."""
        return self._measured.totals

    @property
    def counts(self) -> Mapping[SampleId, int]:
        """Number of measurements by sample id."""
        return ByID(self._measured.totals, lambda totals: totals.counts)

    @property
    def sums(self) -> Mapping[SampleId, float]:
        """Sum of the margins by sample id."""
        return ByID(self._measured.totals, lambda totals: totals.sums)

    @property
    def records(self) -> RecordLog:
        """All records in the order they were made.

        Raises
        ------
        AttributeError
            Where `compressed` is True: none are kept.
        """
        if self._measured.log is None:
            raise AttributeError("records are kept only by AUMCalculator(save_dir, compressed=False)")
        return self._measured.log

    @property
    def scores(self) -> Scores:
        """The other scores that were asked for, by name: (N,) each, aligned to `totals`; see `Scores`.

        Raises
        ------
        AttributeError
            Where none were asked for.
        """
        if self._measured.scores is None:
            raise AttributeError('scores are kept only by AUMCalculator(save_dir, scores=["confidence"]), say')
        return self._measured.scores

    @property
    def needs(self) -> Needs:
        """What a device is to add up of an epoch beside the margins, for `add_epoch`; it may shrink as epochs end."""
        return self._measured.needs

    def end_epoch(self) -> None:
        """Say that an epoch has ended; only other scores than the AUM care, and mostly see it themselves: `Scores`."""
        if self._measured.scores is not None:
            self._measured.scores.end_epoch()

    def noise_posterior(self) -> NoisePosterior:
        """Estimate how likely each label is wrong, by row of the totals.

        An epoch in progress counts as if it had just ended.

        Raises
        ------
        ValueError
            Where the calculator was made without ``noise_posterior=True``, or nothing has been measured yet.
        """
        if self._measured.scores is None:
            raise ValueError("noise_posterior: not kept, want AUMCalculator(save_dir, noise_posterior=True)")
        posterior: NoisePosterior = self._measured.scores.noise_posterior()
        return posterior

    def observe(self, observer: Observer) -> None:
        """Let `observer` check and take every batch from now on."""
        self._measured.observers.append(observer)

    def update(self, logits: Any, targets: Any, sample_ids: Any) -> dict[SampleId, AUMRecord]:
        """Measure a batch and give its records.

        Parameters
        ----------
        logits : array of shape (B, C), float16, bfloat16, float32 or float64
            Raw outputs of the training forward pass, before any softmax; C >= 2.
        targets : array of shape (B,) or (B, 1), any integer dtype
            The assigned classes, in [0, C).
        sample_ids : list, array or tensor of shape (B,), ints or strs
            A repeated id counts as that many updates in turn.

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
        ids, margins = self._measure(logits, targets, sample_ids, other_logit=True)
        batch, counted = self._measured.check(ids, margins, logits, self._backend.logits)
        running = self._measured.add(batch, len(ids), in_turn=True)
        return self._measured.records(ids, margins, counted, running)

    def accumulate(self, logits: Any, targets: Any, sample_ids: Any) -> None:
        """Measure a batch without making records of it: the same bookkeeping, many times faster.

        For parameters and errors see `update`. Where `compressed` is False the records are logged all the same.
        """
        ids, margins = self._measure(logits, targets, sample_ids, other_logit=self._measured.needs_other_logit)
        batch, _ = self._measured.check(ids, margins, logits, self._backend.logits)
        self._measured.add(batch, len(ids))

    def accumulate_measured(self, margins: Margins, sample_ids: Any, *, logits: Any = None) -> None:
        """Take a batch whose margins were measured elsewhere: on a device, in a compiled step.

        Parameters
        ----------
        margins : Margins
            Columns of shape (B,) of the backend's framework or NumPy's.
        sample_ids : list, array or tensor of shape (B,), ints or strs
        logits : array of shape (B, C), floats, optional
            What they were measured on; wanted where scores or the noise posterior need them.

        Raises
        ------
        TypeError, ValueError
            Where columns, logits and ids do not go together; the calculator is as before the call.

        Examples
        --------
        >>> from aum_core import compute_margins
        >>> calculator = AUMCalculator("aum_run", compressed=False)
        >>> calculator.accumulate_measured(compute_margins([[2.0, 0.5]], [1]), ["cat.png"])
        >>> calculator.records[0].margin
        -1.5
        """
        ids, measured = self._ids(sample_ids), margins.brought_home(self._backend.to_numpy)
        batch, _ = self._measured.check(ids, measured, logits, self._backend.logits)
        self._measured.add(batch, len(ids))

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
        >>> totals = Totals()
        >>> totals.add(["cat.png"], [1.5])
        >>> calculator = AUMCalculator("aum_run")
        >>> calculator.add_totals(totals)
        >>> calculator.counts["cat.png"]
        1
        """
        self._measured.add_totals(totals)

    def add_epoch(self, epoch: EpochSums, sample_ids: Any = None) -> None:
        """Take in a whole epoch that was measured elsewhere, with what the other scores need, and end it.

        Parameters
        ----------
        epoch : EpochSums
            By row of the data set; with what `needs` says.
        sample_ids : sequence of N int or str, optional
            The names of the rows; row numbers by default.

        Raises
        ------
        TypeError, ValueError
            Where `compressed` is False, or a column is missing or does not fit; the calculator is as before the call.

        Examples
        --------
        >>> import numpy as np
        >>> from aum_core import EpochSums
        >>> calculator = AUMCalculator("aum_run", scores=["correctness"])
        >>> sums = {"margin": np.array([2.0, -1.0]), "correct": np.array([1.0, 0.0])}
        >>> calculator.add_epoch(EpochSums(np.array([1, 1]), sums, labels=np.array([0, 1])))
        >>> calculator.totals.aums, calculator.scores["correctness"]
        (array([ 2., -1.]), array([1., 0.]))
        """
        self._measured.add_epoch(epoch, sample_ids)

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
        log = self._measured.log
        if log is not None:
            log.flush()
        write_records = log.write_csv if log is not None and full_csv else None
        self._write(folder, self._measured.totals, self._measured.scores, self.describe(), write_records)

    def _write(
        self,
        folder: Path,
        totals: Totals,
        scores: Scores | None,
        described: dict[str, Any],
        write_records: Callable[[Path], None] | None = None,
    ) -> None:
        """Write the calculator's own files, or those of all ranks; ``run.json`` last, to say that all is there."""
        totals.save(folder / "totals.npz")
        self._write_ranking(folder / "aum_values.csv", totals.sample_ids, totals.aums)
        if write_records is not None:
            write_records(folder / "full_aum_records.csv")
        if scores is not None:
            described["scores"] = scores.write(folder, totals)
        write_json(folder / "run.json", described)

    def describe(self) -> dict[str, Any]:
        """Tell what was measured and how, as ``run.json`` has it."""
        return {
            "format": RUN_FORMAT,
            "aum_version": __version__,
            "framework": self._backend.name,
            **self._measured.totals.describe(),
            "options": self._options(),
        }

    @staticmethod
    def records_to_df(records: Iterable[AUMRecord]) -> Any:
        """Give records as a pandas DataFrame, sorted by sample id and num_measurements.

        The index tells each record's place in `records`. Needs pandas.
        """
        return records_to_df(records)

    def _ids(self, sample_ids: Any) -> Ids:
        return as_ids(sample_ids if isinstance(sample_ids, _HOST_SEQUENCES) else self._backend.to_numpy(sample_ids))

    def _measure(self, logits: Any, targets: Any, sample_ids: Any, *, other_logit: bool) -> tuple[Ids, Margins]:
        """Checked ids and measured margins of a batch; a target that is no class is told with its sample's id."""
        ids = self._ids(sample_ids)
        try:
            return ids, self._backend.measure(logits, targets, other_logit=other_logit)
        except TargetError as error:
            if error.row >= len(ids):
                raise
            named = id_list(ids)[error.row]
            raise TargetError(error.row, error.target, error.num_classes, named) from None
