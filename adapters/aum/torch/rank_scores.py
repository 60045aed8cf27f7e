"""Other scores than the AUM, and the noise posterior, of a job of several ranks: as one process would have them.

Scores are made of epochs, and an epoch is what all ranks measured together. So each rank adds up its part of the epoch
in progress; when it ends the parts go to rank 0, which adds them up by sample id and makes scores of all of them, and
tells the others what the next epoch needs. A header comes first and an answer last: what is wrong on one rank is raised
on all, and then the epoch is in progress still.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.distributed as dist

import aum_core
from aum._processes import check_headers, forms_of
from aum.torch.group import TIMEOUT, arrays_of_each, gloo_group, headers_of_all
from aum_core import EpochSums, Needs, Totals
from aum_core.growable import on_disk
from aum_core.scores.collector import EpochCollector, merge_epochs

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from aum._processes import Header

__all__ = ["RankScores"]

_MATRICES = ("softmax", "logits")


class RankScores:
    """One rank's part of the epoch in progress and, on rank 0, the scores of the epochs of all ranks.

    Parameters
    ----------
    save_dir : str or path
        Of the calculator, for what is kept on disk.
    scores, noise_posterior
        As of `aum_core.AUMCalculator`.

    Attributes
    ----------
    collector : EpochCollector
        An observer of this rank's calculator. With the noise posterior it has 8 C bytes for each sample that this
        rank has ever seen, 4 C after the first three epochs, and none once the averaging window has closed.
    all_ranks : aum_core.AUMCalculator or None
        Has the totals and the scores of the epochs that have ended, on rank 0: as large as those of one process that
        measures everything, and while an epoch is added up three times as large.
    """

    parts = ("epoch", "all_ranks")
    """What the arrays of its state begin with."""

    def __init__(self, save_dir: str | os.PathLike[str], scores: Iterable[str], noise_posterior: Any) -> None:
        self.options = {"scores": list(scores), "noise_posterior": noise_posterior}
        self._save_dir = save_dir
        of_all = aum_core.AUMCalculator(save_dir, scores=scores, noise_posterior=noise_posterior)
        self.all_ranks = None if dist.get_rank() else of_all
        self.collector = EpochCollector(of_all.needs, on_disk(save_dir) if noise_posterior == "on_disk" else np.empty)

    def end_epoch(self, totals: Totals) -> None:
        """End the epoch of all ranks, each of which must call it; `totals` are its own.

        Raises
        ------
        TimeoutError
            Where not all ranks came.
        ValueError
            On all ranks, where the parts do not go together; the epoch is in progress still.
        """
        rows, epoch = self.collector.epoch()
        arrays = _arrays_of(totals.sample_ids[rows], epoch)
        same = {"call": "end_epoch", "aum_version": aum_core.__version__, **self.options}
        header = {
            "same": {**same, "what the epoch needs": asdict(self.collector.needs)},
            "num_classes": self.collector.num_classes,
            "left_out": totals.left_out,
            "forms": forms_of(arrays),
        }
        with gloo_group(None, TIMEOUT) as gloo:
            headers = headers_of_all(header, gloo)
            check_headers(headers)
            num_classes = _same_classes(headers)
            parts = arrays_of_each(arrays, [each["forms"] for each in headers], gloo, 0)
            answer = self._fold(parts, num_classes, sum(each["left_out"] for each in headers))
            answer = headers_of_all(answer, gloo)[0]
        if "error" in answer:
            raise ValueError(answer["error"])
        self.collector.begin(_needs_of(answer["needs"]))

    def end_last_epoch(self, totals: Totals) -> None:
        """End the epoch in progress as the files are written, and warn where it is the only one but cannot be."""
        is_first = self.all_ranks is not None and not len(self.all_ranks.totals)
        self.end_epoch(totals)
        if not is_first or self.all_ranks is None:
            return
        usual = self.all_ranks.totals.measurements_per_sample().get("usual", 1)
        if usual > 1:
            warnings.warn(
                f"scores: most samples were measured {usual} times, and all of it counts as one epoch, since end_epoch "
                "was never called. Scores and the noise posterior go by epochs: want calculator.end_epoch() at the end "
                "of every epoch, on every rank",
                RuntimeWarning,
                stacklevel=4,
            )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give the state of this rank: its part of the epoch and, on rank 0, what all ranks measured before it."""
        arrays = {f"epoch.{name}": each for name, each in self.collector.to_arrays().items()}
        if self.all_ranks is not None:
            arrays |= {f"all_ranks.{name}": each for name, each in self.all_ranks._to_arrays().items()}  # noqa: SLF001 # an engine's calculator within one
        return arrays

    def from_arrays(self, arrays: Mapping[str, NDArray[Any]], num_rows: int) -> RankScores:
        """Make the scores of the rank that gave these arrays, and has totals of `num_rows`; these stay as they are.

        Raises
        ------
        ValueError
            Where the arrays contradict each other, or are of a calculator with other scores.
        """
        other = RankScores(self._save_dir, self.options["scores"], self.options["noise_posterior"])
        own, of_all = (_part(arrays, name) for name in self.parts)
        other.collector = self.collector.from_arrays(own)
        if other.collector.num_rows != num_rows:
            raise ValueError(f"it has scores of {other.collector.num_rows} samples and totals of {num_rows}")
        if other.all_ranks is not None:
            other.all_ranks._take_arrays(of_all)  # noqa: SLF001 # as above
        return other

    def _fold(self, parts: Iterator[dict[str, NDArray[Any]]], num_classes: int | None, left_out: int) -> Header:
        """Take the parts of all ranks in, on rank 0, and give the answer; elsewhere only pass on the own part."""
        answer: Header = {}
        if self.all_ranks is not None:
            try:
                ids, epoch = merge_epochs(self.collector.needs, (_part_of(each, num_classes) for each in parts))
                if len(ids):
                    self.all_ranks.add_epoch(epoch, ids)
                self.all_ranks.totals.left_out = left_out
                answer = {"needs": asdict(self.all_ranks.needs)}
            except ValueError as error:
                answer = {"error": str(error)}
        for _ in parts:
            pass  # the others are sending still
        return answer


def _part(arrays: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """Give the arrays whose names begin with this one, under the rest of theirs."""
    return {each.removeprefix(f"{name}."): array for each, array in arrays.items() if each.startswith(f"{name}.")}


def _arrays_of(sample_ids: NDArray[Any], epoch: EpochSums) -> dict[str, NDArray[Any]]:
    """Give a rank's part of an epoch as 1-D arrays: totals of its margins, and what there is beside them."""
    arrays = Totals.from_rows(epoch.sums["margin"], epoch.counts, sample_ids).to_arrays()
    arrays |= {f"column.{name}": each for name, each in epoch.sums.items() if name != "margin"}
    matrices = {name: getattr(epoch, name) for name in _MATRICES}
    arrays |= {name: each.reshape(-1) for name, each in matrices.items() if each is not None}
    return {**arrays, "labels": epoch.labels}


def _part_of(arrays: dict[str, NDArray[Any]], num_classes: int | None) -> tuple[NDArray[Any], EpochSums]:
    """Give the sample ids and the part of an epoch that gave these arrays."""
    labels, matrices = arrays.pop("labels"), {name: arrays.pop(name, None) for name in _MATRICES}
    columns = _part(arrays, "column")
    totals = Totals.from_arrays({name: each for name, each in arrays.items() if "." not in name})
    softmax, logits = (None if each is None else each.reshape(-1, num_classes or 0) for each in matrices.values())
    sums = {"margin": totals.sums, **columns}
    return totals.sample_ids, EpochSums(totals.counts, sums, labels, softmax, logits)


def _same_classes(headers: list[Header]) -> int | None:
    """Give the number of classes that ranks tell, which is the same on all that have measured something."""
    found = {rank: header["num_classes"] for rank, header in enumerate(headers) if header["num_classes"] is not None}
    for rank, num_classes in found.items():
        first = next(iter(found))
        if num_classes != found[first]:
            raise ValueError(
                f"logits: {found[first]} classes on process {first} and {num_classes} on process {rank}, want the same "
                "on all"
            )
    return next(iter(found.values()), None)


def _needs_of(described: Mapping[str, Any]) -> Needs:
    return Needs(**{**described, "columns": tuple(described["columns"])})
