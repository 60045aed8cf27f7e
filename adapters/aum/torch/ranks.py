"""Totals of all ranks of a `torch.distributed` job, and the rows by which a sampler padded them.

Sums and counts are added into a copy, in the order of the ranks: calling twice doubles nothing. Everything travels
between CPUs over a gloo group of its own, whatever trains the model, since float64 and ids that are strings do not live
on every device; and since that group's time-out is ours to choose, a rank that never comes is an error and no hang.
"""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch  # noqa: TID251 # a part of aum.torch
import torch.distributed as dist  # noqa: TID251 # as above
from torch.utils.data import DistributedSampler  # noqa: TID251 # as above

from aum._processes import (
    Forms,
    Word,
    check_words,
    dense_size,
    dense_sums,
    from_dense_sums,
    own_totals,
    tell,
)
from aum_core import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch.utils.data import DataLoader  # noqa: TID251 # as above

    from aum_core import AUMCalculator

__all__ = ["finalize_ranks", "mark_padding", "merge_ranks", "several_ranks"]

TIMEOUT = 600.0


def several_ranks() -> bool:
    """Whether this process is one of several of a `torch.distributed` job."""
    return _in_a_job() and dist.get_world_size() > 1


def _in_a_job() -> bool:
    return dist.is_available() and dist.is_initialized()


def merge_ranks(
    measured: AUMCalculator | Totals, *, dst: int | None = 0, group: Any = None, timeout: float = TIMEOUT
) -> Totals | None:
    """Totals of all ranks. Every rank must call it; nothing of what the ranks have is changed.

    Ids may be of any kind, and ranks may have measured the same samples, others, or none. float64 adds margins of
    float32 logits without rounding, so the bits do not depend on how many ranks there were.

    Parameters
    ----------
    measured : AUMCalculator or Totals
        What this rank has measured.
    dst : int or None, default 0
        The rank (within the group) that gets the totals; None gives them to all.
    group : ProcessGroup, optional
        Ranks to merge over, all by default. Where some ranks see the same batch, as in tensor parallelism, those of one
        data-parallel group: or each measurement counts as often as there were ranks that saw it.
    timeout : float, default 600
        Seconds to wait for the other ranks.

    Returns
    -------
    Totals or None
        In the order of the ids, ints before strs. None on ranks other than `dst`. Without `torch.distributed`, or
        alone, the own ones.

    Raises
    ------
    ValueError
        On all ranks, where something is wrong on one, or where they differ in options or arguments.
    TimeoutError
        Where not all ranks came.

    Examples
    --------
    >>> import tempfile
    >>> from aum.torch import AUMCalculator
    >>> calculator = AUMCalculator(tempfile.mkdtemp())
    >>> calculator.accumulate(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), ["cat.png"])
    >>> merge_ranks(calculator).aums  # of all ranks, under torchrun
    array([1.5])
    """
    totals, _ = _merge(partial(own_totals, measured), dst, group, timeout)
    return totals


def finalize_ranks(calculator: AUMCalculator, folder: Path, *, full_csv: bool) -> None:
    """Write the files of a run of several ranks, on every rank: see `aum.torch.AUMCalculator.finalize`."""
    own = folder / f"totals_rank{dist.get_rank()}.npz"

    def save_own() -> tuple[Totals, dict[str, Any]]:
        folder.mkdir(parents=True, exist_ok=True)
        calculator.totals.save(own)
        if not calculator.compressed:
            calculator.records.flush()
        return own_totals(calculator)

    try:
        totals, words = _merge(save_own, 0, None, TIMEOUT)
    except (TimeoutError, ValueError) as error:
        remedy = f"what ranks measured is in files such as {own}, of which `aum merge` makes one"
        raise type(error)(f"finalize: {error}; {remedy}") from error
    if totals is None:
        return
    _remove_files_of_more_ranks(folder, len(words))
    if full_csv and not calculator.compressed:
        _write_full_records(calculator, folder / "full_aum_records.csv", totals.measurements)
    calculator._write(folder, totals, None, _describe(calculator, totals, words))  # noqa: SLF001 # its base's


def _write_full_records(calculator: AUMCalculator, path: Path, num_records: int) -> None:
    """Write the records of all ranks, if all are on the disk of this one."""
    from aum.parquet import RecordFiles  # noqa: PLC0415 # pyarrow is for those who keep records

    records = RecordFiles.of_run(calculator.save_dir)
    found = len(records)
    if found == num_records:
        records.write_csv(path)
        return
    warnings.warn(
        f"{path} is not written: {calculator.save_dir} has {found} of {num_records} records, others are on other disks "
        "or it has some of an earlier run. Where all parts are in one folder, "
        "aum.parquet.read_records(folder).write_csv(path) writes it",
        RuntimeWarning,
        stacklevel=4,
    )


def mark_padding(loader: DataLoader[Any]) -> Iterator[tuple[Any, slice]]:
    """Batches of a loader, each with the slice of its rows that are no padding.

    `DistributedSampler` repeats samples until all ranks have as many. To train on them is right, since all ranks
    must take the same number of steps; counted, those samples have a measurement more than others. Padding comes last.

    Parameters
    ----------
    loader : DataLoader
        With a `DistributedSampler` and a `batch_size`.

    Yields
    ------
    batch : Any
        As the loader gives it.
    real : slice
        Of its rows; for ``logits[real]``, ``targets[real]`` and ``sample_ids[real]``.

    Raises
    ------
    TypeError, ValueError
        Where the loader's sampler is another one, or batches are made elsewhere.

    Examples
    --------
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> data = TensorDataset(torch.arange(5))
    >>> sampler = DistributedSampler(data, num_replicas=2, rank=1, shuffle=False)
    >>> for (ids,), real in mark_padding(DataLoader(data, batch_size=2, sampler=sampler)):
    ...     print(ids.tolist(), ids[real].tolist())
    [1, 3] [1, 3]
    [0] []
    """
    sampler = loader.sampler
    if not isinstance(sampler, DistributedSampler):
        raise TypeError(f"loader: its sampler is a {type(sampler).__name__}, want a DistributedSampler")
    if loader.batch_size is None:
        raise ValueError("loader: it has no batch_size, want one that makes its own batches")
    real = _num_real(sampler)
    return _marked(loader, real, len(sampler), loader.batch_size)


def _num_real(sampler: DistributedSampler[Any]) -> int:
    """How many of a rank's samples are no padding: those at p * ranks + rank < N, which are the first ones."""
    num_samples = len(sampler.dataset)  # type: ignore[arg-type] # DistributedSampler asks for the same
    return min(len(sampler), len(range(sampler.rank, num_samples, sampler.num_replicas)))


def _marked(loader: DataLoader[Any], num_real: int, num_rows: int, batch_size: int) -> Iterator[tuple[Any, slice]]:
    for number, batch in enumerate(loader):
        start = number * batch_size
        size = min(batch_size, num_rows - start)
        yield batch, slice(0, min(size, max(0, num_real - start)))


def _merge(
    prepare: Callable[[], tuple[Totals, dict[str, Any]]], dst: int | None, group: Any, timeout: float
) -> tuple[Totals | None, list[Word]]:
    """The merged totals, where they are wanted, and what the ranks told of theirs."""
    own, word, error = tell(partial(_prepared, prepare, dst), {"dst": repr(dst)})
    if not _in_a_job():
        _check([word], error, dst)
        return own.sorted(), [word]
    with _gloo(group, timeout) as gloo:
        words: list[Word] = [json.loads(text) for text in _texts(json.dumps(word), gloo)]
        _check(words, error, dst)
        rank, places = dist.get_rank(gloo), dense_size(words)
        if places is not None:
            return _reduced(own, places, words, gloo, wanted=dst in (None, rank)), words
        return _gathered(own, words, gloo, rank, dst), words


def _prepared(prepare: Callable[[], tuple[Totals, dict[str, Any]]], dst: Any) -> tuple[Totals, dict[str, Any]]:
    if dst is not None and not isinstance(dst, int):
        raise TypeError(f"dst: {dst!r}, want a rank or None")
    return prepare()


def _check(words: list[Word], error: Exception | None, dst: int | None) -> None:
    try:
        check_words(words)
    except ValueError as verdict:
        raise verdict from error  # the own one, if it was that
    if dst is not None and not 0 <= dst < len(words):
        raise ValueError(f"dst: {dst}, want None or a rank in [0, {len(words)})")


@contextmanager
def _gloo(group: Any, timeout: float) -> Iterator[Any]:
    """A group of the same ranks that speaks between CPUs, with a time-out."""
    ranks = dist.get_process_group_ranks(dist.group.WORLD if group is None else group)
    try:
        gloo = dist.new_group(
            ranks, timeout=timedelta(seconds=timeout), backend="gloo", use_local_synchronization=group is not None
        )
    except dist.DistStoreError as error:
        raise TimeoutError(
            f"not all of the {len(ranks)} ranks came within {timeout:g} s, want a call on each of them"
        ) from error
    try:
        yield gloo
    finally:
        dist.destroy_process_group(gloo)


def _texts(text: str, gloo: Any) -> list[str]:
    """The texts of all ranks."""
    content = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size(gloo))]
    dist.all_gather(sizes, torch.tensor([len(content)]), group=gloo)
    room = max(int(size) for size in sizes)
    padded = torch.zeros(room, dtype=torch.uint8)
    padded[: len(content)] = content
    rooms = [torch.zeros(room, dtype=torch.uint8) for _ in sizes]
    dist.all_gather(rooms, padded, group=gloo)
    return [bytes(each[: int(size)].tolist()).decode() for each, size in zip(rooms, sizes, strict=True)]


def _reduced(own: Totals, places: int, words: list[Word], gloo: Any, *, wanted: bool) -> Totals | None:
    """Sums and counts with a place for each id, added up in one go."""
    sums, counts = dense_sums(own, places)
    for array in (sums, counts):
        dist.all_reduce(torch.from_numpy(array), group=gloo)
    return from_dense_sums(sums, counts, words) if wanted else None


def _gathered(own: Totals, words: list[Word], gloo: Any, rank: int, dst: int | None) -> Totals | None:
    merged = Totals()
    for found in _of_each(own.to_arrays(), [word["forms"] for word in words], gloo, rank, dst):
        if dst in (None, rank):
            merged.include(Totals.from_arrays(found))
    return merged.sorted() if dst in (None, rank) else None


def _of_each(
    own: dict[str, NDArray[Any]], forms: list[Forms], gloo: Any, rank: int, dst: int | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """The arrays of one rank after the other, so that no more than one is on its way; filled where they are wanted."""
    for source, each in enumerate(forms):
        found = {}
        for name, (dtype, length) in each.items():
            array = own[name].copy() if source == rank else np.empty(length, dtype)
            _pass_on(torch.from_numpy(array), source, rank, dst, gloo)
            found[name] = array
        yield found


def _pass_on(array: torch.Tensor, source: int, rank: int, dst: int | None, gloo: Any) -> None:
    """From one rank to all, or to `dst`."""
    if not len(array):
        return
    if dst is None:
        dist.broadcast(array, dist.get_global_rank(gloo, source), group=gloo)
    elif source != dst and rank == source:
        dist.send(array, dist.get_global_rank(gloo, dst), group=gloo)
    elif source != dst and rank == dst:
        dist.recv(array, dist.get_global_rank(gloo, source), group=gloo)


def _remove_files_of_more_ranks(folder: Path, num_ranks: int) -> None:
    """Remove what an earlier job with more ranks left, so that nobody adds it to this one's."""
    for old in folder.glob("totals_rank*.npz"):
        number = old.stem.removeprefix("totals_rank")
        if number.isdecimal() and int(number) >= num_ranks:
            old.unlink()


def _describe(calculator: AUMCalculator, totals: Totals, words: list[Word]) -> dict[str, Any]:
    per_rank = [{name: word[name] for name in ("samples", "measurements", "left_out")} for word in words]
    return {
        **calculator.describe(),
        **totals.describe(),
        "per_rank": per_rank,
    }
