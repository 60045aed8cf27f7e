"""The files of a run of several ranks: each writes its own totals, and rank 0 what all of them measured."""

from __future__ import annotations

import os
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.distributed as dist

from aum._processes import own_totals
from aum.torch.group import TIMEOUT
from aum.torch.ranks import merge_totals
from aum_core.ids import as_ids

if TYPE_CHECKING:
    from pathlib import Path

    import aum_core
    from aum._processes import Header
    from aum.torch.rank_scores import RankScores
    from aum_core import Scores, Totals

__all__ = ["finalize_ranks"]


def finalize_ranks(
    calculator: aum_core.AUMCalculator, scores: RankScores | None, folder: Path, *, full_csv: bool
) -> None:
    """Write the files of a run of several ranks, on every rank: see `aum.torch.AUMCalculator.finalize`."""
    own = folder / f"totals_rank{dist.get_rank()}.npz"
    try:
        totals, headers = merge_totals(partial(_save_own, calculator, scores, own), "finalize", 0, None, TIMEOUT)
        if scores is not None:
            scores.end_last_epoch(calculator.totals)
    except (TimeoutError, ValueError) as error:
        remedy = f"what ranks measured is in files such as {own}, of which `aum merge` makes one"
        raise type(error)(f"finalize: {error}; {remedy}") from error
    if totals is None:
        return
    _remove_files_of_more_ranks(folder, len(headers))
    write_records = None
    if full_csv and not calculator.compressed:
        write_records = partial(_write_full_records, calculator.save_dir, totals.measurements)
    of_all = None if scores is None or scores.all_ranks is None else _aligned_scores(scores.all_ranks, totals)
    calculator._write(folder, totals, of_all, _describe(calculator, totals, headers), write_records)  # noqa: SLF001 # its base's


def _save_own(
    calculator: aum_core.AUMCalculator, scores: RankScores | None, path: Path
) -> tuple[Totals, dict[str, Any]]:
    """Save what this rank has measured, before anything can go wrong between ranks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    calculator.totals.save(path)
    if not calculator.compressed:
        calculator.records.flush()
    totals, options = own_totals(calculator)
    if scores is None and "scores" in options:
        raise ValueError(
            "scores: they are of this rank alone, since the calculator was made before the job had several ranks; "
            "want it made after torch.distributed.init_process_group, or finalize(merge=False)"
        )
    return totals, options


def _aligned_scores(all_ranks: aum_core.AUMCalculator, totals: Totals) -> Scores:
    """Give the scores of all ranks by row of their merged totals."""
    rows = all_ranks.totals.find(as_ids(totals.sample_ids))
    in_order = bool((rows == np.arange(len(rows))).all())
    return all_ranks.scores if in_order else all_ranks.scores.reordered(rows)


def _write_full_records(save_dir: str | os.PathLike[str], num_records: int, path: Path) -> None:
    """Write the records of all ranks, if all are on the disk of this one."""
    from aum.parquet import RecordFiles  # noqa: PLC0415 # pyarrow is for those who keep records

    records = RecordFiles.of_run(save_dir)
    found = len(records)
    if found == num_records:
        records.write_csv(path)
        return
    warnings.warn(
        f"{path} is not written: {os.fspath(save_dir)} has {found} of {num_records} records, others are on other disks "
        "or it has some of an earlier run. Where all parts are in one folder, "
        "aum.parquet.read_records(folder).write_csv(path) writes it",
        RuntimeWarning,
        stacklevel=5,
    )


def _remove_files_of_more_ranks(folder: Path, num_ranks: int) -> None:
    """Remove what an earlier job with more ranks left, so that nobody adds it to this one's."""
    for old in folder.glob("totals_rank*.npz"):
        number = old.stem.removeprefix("totals_rank")
        if number.isdecimal() and int(number) >= num_ranks:
            old.unlink()


def _describe(calculator: aum_core.AUMCalculator, totals: Totals, headers: list[Header]) -> dict[str, Any]:
    per_rank = [{name: header[name] for name in ("samples", "measurements", "left_out")} for header in headers]
    return {**calculator.describe(), **totals.describe(), "per_rank": per_rank}
