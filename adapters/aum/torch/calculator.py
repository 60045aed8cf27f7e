"""The engine's calculator with tensors: in a compiled step, in a checkpoint, on one of several ranks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import aum_core
from aum._ranking import write_ranking
from aum.torch.backend import TorchBackend
from aum.torch.group import several_ranks
from aum.torch.rank_files import finalize_ranks
from aum.torch.rank_scores import RankScores
from aum_core.detection import with_calculator
from aum_core.scores.kinds import check_names

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from aum_core import AUMRecord, EpochSums, Needs, NoisePosterior, Scores, Totals
    from aum_core.ids import SampleId
    from aum_core.posterior.averaging_window import KeepPosterior
    from aum_core.records import RecordLog, SampleIds
    from aum_core.state import Arrays

__all__ = ["AUMCalculator", "find_by_posterior", "find_mislabeled"]


def _log_on_disk(sample_ids: SampleIds, save_dir: str | os.PathLike[str]) -> RecordLog:
    from aum.parquet import RecordsOnDisk  # noqa: PLC0415 # pyarrow is for those who keep records

    group = torch.distributed
    if group.is_available() and group.is_initialized():
        return RecordsOnDisk(sample_ids, save_dir=save_dir, rank=group.get_rank(), num_ranks=group.get_world_size())
    return RecordsOnDisk(sample_ids, save_dir=save_dir)


class AUMCalculator(aum_core.AUMCalculator):
    """Keeps the Area Under the Margin of every sample while a PyTorch model trains.

    The same as the reference's, to the bit. For the parameters that are not here see `aum_core.AUMCalculator`.

    Where `torch.distributed` runs several ranks each measures its own batches, and `finalize`, called on every rank,
    writes what all of them measured. Scores and the noise posterior are made of epochs, and an epoch of what all ranks
    measured in it: `end_epoch`, called on every rank at the end of every epoch, sends each rank's part to rank 0, whose
    `all_ranks` has them. They are then those that one process would have, to rounding.

    Parameters
    ----------
    save_dir : str or path
        Folder of the files that `finalize` writes; the same on every rank.
    compressed : bool, default True
        False keeps a record of every measurement too.
    merge : bool, default True
        False for a calculator that only one of several ranks has, or that has what all of them measured already: it
        goes its own way, as if there were no others.
    scores : iterable of str, default ()
        Other scores to keep.
    noise_posterior : bool or "on_disk", default False
        Whether to keep what the noise posterior needs. Over several ranks, in bytes for each class of C: 8 for each
        sample that a rank has ever seen, 4 after three epochs, none once the averaging window has closed. Beside that
        rank 0 has as much as one process that measures everything, and three times that while an epoch is added up.
    **options
        `backend`, `nonfinite` and `log`.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), compressed=True)
    >>> logits = torch.tensor([[2.0, 0.5], [1.0, 3.0]], requires_grad=True)
    >>> records = calculator.update(logits, torch.tensor([0, 0]), sample_ids=["cat.png", "dog.png"])
    >>> records["dog.png"].margin
    -2.0
    """

    _make_backend = TorchBackend
    _make_log = staticmethod(_log_on_disk)
    _write_ranking = staticmethod(write_ranking)

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        compressed: bool = True,
        *,
        merge: bool = True,
        scores: Iterable[str] = (),
        noise_posterior: KeepPosterior = False,
        **options: Any,
    ) -> None:
        names, self._merge = check_names(scores), merge
        self._rank_scores: RankScores | None = None
        if merge and several_ranks() and (names or noise_posterior):
            self._rank_scores = RankScores(save_dir, names, noise_posterior)
            super().__init__(save_dir, compressed, **options)
            self.observe(self._rank_scores.collector)
        else:
            super().__init__(save_dir, compressed, scores=names, noise_posterior=noise_posterior, **options)

    @property
    def all_ranks(self) -> aum_core.AUMCalculator:
        """What all ranks measured in the epochs that have ended: their `totals`, `scores` and `noise_posterior`.

        It is for looking at: feed this one.

        Raises
        ------
        AttributeError
            But on rank 0, where several ranks keep scores or the noise posterior.
        """
        if self._rank_scores is None or self._rank_scores.all_ranks is None:
            raise AttributeError(
                "all_ranks is kept only on rank 0, where torch.distributed runs several ranks and the calculator was "
                'made with scores=["confidence"], say, or noise_posterior=True'
            )
        return self._rank_scores.all_ranks

    @property
    def scores(self) -> Scores:
        """The other scores, aligned to `totals`; see `aum_core.AUMCalculator.scores`.

        Raises
        ------
        AttributeError
            Where none are kept, or by several ranks: then they are `all_ranks.scores`.
        """
        if self._rank_scores is not None:
            raise AttributeError("scores: those of several ranks are calculator.all_ranks.scores, on rank 0")
        return super().scores

    @property
    def needs(self) -> Needs:
        """What of an epoch is added up beside the margins; see `aum_core.AUMCalculator.needs`."""
        return super().needs if self._rank_scores is None else self._rank_scores.collector.needs

    def end_epoch(self) -> None:
        """Say that an epoch has ended; where several ranks keep scores, every rank must, at the end of every epoch.

        Raises
        ------
        TimeoutError
            Where not all ranks called it within ten minutes.
        ValueError
            On all ranks, where what they measured does not go together: other options, another number of classes, a
            sample with two labels. The epoch is in progress still.
        """
        if self._rank_scores is None:
            super().end_epoch()
        else:
            self._rank_scores.end_epoch(self.totals)

    def noise_posterior(self) -> NoisePosterior:
        """Estimate how likely each label is wrong; see `aum_core.AUMCalculator.noise_posterior`.

        Raises
        ------
        ValueError
            Where it is not kept, nothing has been measured yet, or several ranks keep it: then it is
            `all_ranks.noise_posterior`, on rank 0.
        """
        if self._rank_scores is not None:
            raise ValueError(
                "noise_posterior: that of several ranks is calculator.all_ranks.noise_posterior(), on rank 0; a "
                "calculator that goes its own way is made with merge=False"
            )
        return super().noise_posterior()

    def add_totals(self, totals: Totals) -> None:
        """Take in what was measured elsewhere; see `aum_core.AUMCalculator.add_totals`."""
        if self._rank_scores is not None:
            raise ValueError("totals: they have no other scores, want a calculator without scores")
        super().add_totals(totals)

    def add_epoch(self, epoch: EpochSums, sample_ids: Any = None) -> None:
        """Take in a whole epoch that was measured elsewhere; see `aum_core.AUMCalculator.add_epoch`."""
        if self._rank_scores is not None:
            raise ValueError("epoch: several ranks add theirs up by themselves, want accumulate and end_epoch")
        super().add_epoch(epoch, sample_ids)

    def update(self, logits: Any, targets: Any, sample_ids: Any) -> dict[SampleId, AUMRecord]:
        """Measure a batch and give its records; see `aum_core.AUMCalculator.update`."""
        if torch.compiler.is_compiling():
            records: dict[SampleId, AUMRecord] = _outside_the_graph(super().update)(logits, targets, sample_ids)
            return records
        return super().update(logits, targets, sample_ids)

    def accumulate(self, logits: Any, targets: Any, sample_ids: Any) -> None:
        """Measure a batch without making records of it; for its parameters see `aum_core.AUMCalculator.update`."""
        if torch.compiler.is_compiling():
            _outside_the_graph(super().accumulate)(logits, targets, sample_ids)
            return
        super().accumulate(logits, targets, sample_ids)

    def finalize(
        self, save_dir: str | os.PathLike[str] | None = None, *, full_csv: bool = True, merge: bool = True
    ) -> None:
        """Write the files of the run; see `aum_core.AUMCalculator.finalize`.

        Where `torch.distributed` runs several ranks, every rank must call it. Each writes its own
        ``totals_rank0.npz`` and so on, and rank 0 the files of all of them together. An epoch in progress is ended.

        Parameters
        ----------
        save_dir : str or path, optional
            Another folder than the calculator's own.
        full_csv : bool, default True
            False leaves ``full_aum_records.csv`` out.
        merge : bool, default True
            False writes the files of this rank alone, as if there were no others: totals, ranking and records. Scores
            and the noise posterior are of all ranks or none: they are not among them, unless the calculator itself was
            made with ``merge=False``.

        Raises
        ------
        TimeoutError, ValueError
            Where not all ranks called it within ten minutes, or they do not go together. What each measured is in its
            own file then, and `aum merge` makes one of them.
        """
        if merge and self._merge and several_ranks():
            finalize_ranks(self, self._rank_scores, Path(save_dir or self.save_dir), full_csv=full_csv)
        elif merge and self._rank_scores is not None:
            raise ValueError(
                "finalize: the job of several ranks has ended, and the scores with it; want it called before "
                "torch.distributed.destroy_process_group, or merge=False for this rank's totals"
            )
        else:
            super().finalize(save_dir, full_csv=full_csv)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state in tensors, for `torch.save` beside those of model and optimiser.

        Of a log on disk it names the parts that belong to it; what was still in memory becomes one first. Under
        `torch.distributed` it is that of this rank: each saves and loads its own.

        Examples
        --------
        >>> import tempfile
        >>> calculator = AUMCalculator(tempfile.mkdtemp())
        >>> calculator.accumulate(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), ["cat.png"])
        >>> resumed = AUMCalculator(tempfile.mkdtemp())
        >>> resumed.load_state_dict(calculator.state_dict())
        >>> resumed.counts["cat.png"]
        1
        """
        return {name: torch.from_numpy(array.copy()) for name, array in self._to_arrays().items()}

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state_dict`, to the same bits; parts of a log on disk that were written after it are set aside.

        Raises
        ------
        ValueError
            Where it contradicts itself or the parts on disk, or is of another rank or of a calculator with another
            `compressed`; this one is as before.
        """
        self._take_arrays({name: tensor.numpy(force=True) for name, tensor in state_dict.items()})

    def _options(self) -> dict[str, Any]:
        return super()._options() if self._rank_scores is None else {**super()._options(), **self._rank_scores.options}

    def _to_arrays(self) -> Arrays:
        arrays = super()._to_arrays()
        if self._rank_scores is not None:
            arrays |= self._rank_scores.to_arrays()
        return {**arrays, "rank": np.array([torch.distributed.get_rank()])} if several_ranks() else arrays

    def _take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        # one that tells no rank was saved alone: on all ranks it would count as often as there are ranks
        saved = int(arrays["rank"][0]) if len(arrays.get("rank", ())) else 0
        if several_ranks() and saved != torch.distributed.get_rank():
            raise ValueError(
                f"state: of rank {saved}, and this is rank {torch.distributed.get_rank()}: want each rank to save and "
                "load its own, or what was measured would count several times"
            )
        if self._rank_scores is None:
            super()._take_arrays(arrays)
            return
        of_ranks = {name: each for name, each in arrays.items() if name.partition(".")[0] in RankScores.parts}
        scores = self._rank_scores.from_arrays(of_ranks, len(arrays.get("totals.counts", ())))
        super()._take_arrays({name: each for name, each in arrays.items() if name not in of_ranks})
        old, measured = self._rank_scores.collector, self._measured
        measured.observers = [scores.collector if each is old else each for each in measured.observers]
        self._rank_scores = scores


def _outside_the_graph(function: Any) -> Any:
    # torch.compile would trace the engine's NumPy code into torch operators, which round and order differently
    return torch.compiler.disable(function)


# in a job of several ranks it is for the training function to bring what all of them measured into a search
_of_a_search = partial(AUMCalculator, merge=False)

find_by_posterior = with_calculator(aum_core.find_by_posterior, _of_a_search, "aum.torch")
find_mislabeled = with_calculator(aum_core.find_mislabeled, _of_a_search, "aum.torch")
