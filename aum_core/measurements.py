"""What has been measured: the totals, the log of records, and the observers of a calculator, which belong together.

A batch comes in two steps. `check` finds everything that can be wrong and changes nothing; `add` changes everything,
and nothing can go wrong any more.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aum_core.batch import Batch
from aum_core.ids import as_ids, id_list, where_ids
from aum_core.margins import MARGIN_FIELDS
from aum_core.records import RECORD_FIELDS, AUMRecord
from aum_core.scores.epoch_sums import EpochSums
from aum_core.scores.needs import Needs
from aum_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from aum_core.batch import Observer
    from aum_core.ids import Ids, SampleId
    from aum_core.margins import Margins
    from aum_core.records import Columns, RecordLog, SampleIds
    from aum_core.scores.scores import Scores

__all__ = ["Measurements", "NonFinite", "Running"]

NonFinite = Literal["leave_out", "raise", "propagate"]
"""What becomes of a margin that is no finite number."""

Running = tuple["NDArray[np.int64]", "NDArray[np.float64]"]
"""The count and the AUM of each sample (B,) right after its measurement; both empty where nobody asked."""

_NOTHING: Running = np.empty(0, np.int64), np.empty(0)


class Measurements:
    """Totals by sample, a log of records where one is kept, and observers, the scores among them.

    Parameters
    ----------
    nonfinite : {"leave_out", "raise", "propagate"}
    make_log : callable, optional
        Makes the `RecordLog`, given a function that gives the sample ids by row.
    scores : Scores, optional
    """

    # Invariant: every sample of the totals has a row in the scores, and every counted measurement a record in the log.

    def __init__(
        self, nonfinite: NonFinite, make_log: Callable[[SampleIds], RecordLog] | None, scores: Scores | None
    ) -> None:
        if nonfinite not in ("leave_out", "raise", "propagate"):
            raise ValueError(f"nonfinite: {nonfinite!r}, want 'leave_out', 'raise' or 'propagate'")
        self.nonfinite = nonfinite
        self.totals = Totals()
        self.log = None if make_log is None else make_log(self._sample_ids)
        self.scores = scores
        self.observers: list[Observer] = [] if scores is None else [scores]

    @property
    def needs(self) -> Needs:
        """What of an epoch is to be added up beside the margins."""
        return Needs() if self.scores is None else self.scores.needs

    @property
    def needs_other_logit(self) -> bool:
        """Whether somebody looks at `Margins.other_logit`."""
        return self.log is not None or (bool(self.observers) and any(each.needs_other_logit for each in self.observers))

    def check(
        self, ids: Ids, margins: Margins, logits: Any, to_host: Callable[[Any], NDArray[Any]]
    ) -> tuple[Batch, NDArray[np.bool_] | None]:
        """The part of a batch that counts, and which that is (None: all). What can be wrong is found here.

        The logits are brought to the host by `to_host` where an observer looks at them.
        """
        if len(margins) != len(ids):
            raise ValueError(f"sample_ids: {len(ids)} ids for {len(margins)} rows of logits, want one id per row")
        counted = self._counted(ids, margins.margin)
        batch = Batch(ids, margins) if counted is None else Batch(where_ids(ids, counted), margins[counted])
        if self.observers:
            if any(each.needs_logits for each in self.observers):
                batch.logits = _logits_of(margins, logits, to_host)
                if counted is not None:
                    batch.logits = batch.logits[counted]
            batch.rows = self.totals.find(batch.ids)
            for observer in self.observers:
                observer.check(batch)
        return batch, counted

    def add(self, batch: Batch, size: int, *, in_turn: bool = False) -> Running:
        """Add a checked batch of a given size, left out rows among them; running counts and AUMs where `in_turn`."""
        totals, margins, running = self.totals, batch.margins, _NOTHING
        totals.left_out += size - len(batch)
        if self.log is None and not self.observers and not in_turn:  # nobody asks for rows: they are looked up later
            totals.add_later(batch.ids, margins.margin)
            return running
        if not len(batch.rows) or batch.rows[batch.rows.argmin()] < 0:  # not looked up so far, or some are new
            batch.rows = totals.insert(batch.ids)
        if in_turn or self.log is not None:
            running = totals.add_in_turn(batch.rows, margins.margin)
        else:
            totals.add_at(batch.rows, margins.margin)
        for observer in self.observers:
            observer.take(batch)
        if self.log is not None:  # last: where a disk is full, the scores have what the totals have
            self.log.append(batch.rows, _columns(margins, *running))
        return running

    def records(
        self, ids: Ids, margins: Margins, counted: NDArray[np.bool_] | None, running: Running
    ) -> dict[SampleId, AUMRecord]:
        """Make the records of a batch that was added, those of rows that were left out among them."""
        if counted is not None:
            counts, aums = self.totals.latest(ids)
            counts[counted], aums[counted] = running
            running = counts, aums
        names, columns = id_list(ids), _columns(margins, *running)
        values = [columns[name].tolist() for name in RECORD_FIELDS[1:]]
        return dict(zip(names, map(AUMRecord, names, *values), strict=True))

    def add_totals(self, totals: Totals) -> None:
        """Add totals of another place; see `AUMCalculator.add_totals`."""
        if not isinstance(totals, Totals):
            raise TypeError(f"totals: {type(totals).__name__}, want aum_core.Totals")
        if self.log is not None:
            raise ValueError("totals: they have no records, want AUMCalculator(save_dir, compressed=True)")
        if self.scores is not None:
            raise ValueError("totals: they have no other scores; want add_epoch, or a calculator without scores")
        self.totals.include(totals)

    def add_epoch(self, epoch: EpochSums, sample_ids: Any) -> None:
        """Add an epoch of another place; see `AUMCalculator.add_epoch`."""
        if not isinstance(epoch, EpochSums):
            raise TypeError(f"epoch: {type(epoch).__name__}, want aum_core.EpochSums")
        if self.log is not None:
            raise ValueError("epoch: it has no records, want AUMCalculator(save_dir, compressed=True)")
        epoch.check(self.needs)
        totals = Totals.from_rows(epoch.sums["margin"], epoch.counts, sample_ids, epoch.left_out)
        ids, measured = as_ids(totals.sample_ids), epoch.measured()[1]
        if self.scores is not None:
            self.scores.check_epoch(ids, self.totals.find(ids), measured)
        self.totals.include(totals)
        if self.scores is not None:
            self.scores.add_epoch(self.totals.find(ids), measured)

    @property
    def parts(self) -> dict[str, Any]:
        """What has a state, by the name that this has in a file."""
        parts = {"totals": self.totals, "records": self.log, "scores": self.scores}
        return {name: part for name, part in parts.items() if part is not None}

    def to_arrays(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The state of each part, in arrays of numbers."""
        return {name: part.to_arrays() for name, part in self.parts.items()}

    def take_arrays(self, parts: Mapping[str, dict[str, NDArray[Any]]]) -> None:
        """Become the measurements that gave these arrays, of the same parts; a ValueError changes nothing."""
        totals = Totals.from_arrays(parts["totals"])
        scores = None if self.scores is None else self.scores.from_arrays(parts["scores"])
        if scores is not None and scores.num_rows != len(totals):
            raise ValueError(f"it has scores of {scores.num_rows} samples and totals of {len(totals)}")
        if self.log is not None:  # last of what may refuse, since one on disk sets parts aside
            self.log.take_arrays(parts["records"], len(totals))
        self.observers = [scores if each is self.scores and scores is not None else each for each in self.observers]
        self.totals, self.scores = totals, scores

    def _sample_ids(self) -> NDArray[Any]:
        return self.totals.sample_ids

    def _counted(self, ids: Ids, margin: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Which measurements count, (B,); None where all do."""
        if self.nonfinite == "propagate" or _all_finite(margin):
            return None
        counted: NDArray[np.bool_] = np.isfinite(margin)
        first = int(counted.argmin())
        message = (
            f"logits: {len(margin) - int(counted.sum())} of {len(margin)} margins are not finite, the first for sample "
            f"{id_list(ids)[first]!r} ({margin[first]})"
        )
        if self.nonfinite == "raise":
            raise ValueError(f"{message}; nonfinite='leave_out' would leave them out and count them")
        if not self.totals.left_out:
            warnings.warn(
                f"{message}. They are left out and counted (totals.left_out); further ones without a warning. "
                "nonfinite='raise' makes them an error.",
                RuntimeWarning,
                stacklevel=4,
            )
        return counted


def _logits_of(margins: Margins, logits: Any, to_host: Callable[[Any], NDArray[Any]]) -> NDArray[Any]:
    if logits is None:
        raise ValueError("logits: None, but the scores need them; want what the margins were measured on, (B, C)")
    on_host = to_host(logits)
    if len(on_host) != len(margins):
        raise ValueError(f"logits: {len(on_host)} rows for {len(margins)} margins, want what they were measured on")
    return on_host


def _all_finite(values: NDArray[Any]) -> bool:
    # argmax and argmin stop at the first NaN: the two extremes tell all, at half the cost of isfinite
    return not len(values) or (math.isfinite(values[values.argmax()]) and math.isfinite(values[values.argmin()]))


def _columns(margins: Margins, counts: NDArray[np.int64], aums: NDArray[np.float64]) -> Columns:
    """Columns of the records of a batch, but for the sample ids."""
    measured = {name: getattr(margins, name) for name in MARGIN_FIELDS}
    return {"num_measurements": counts, **measured, "aum": aums}
