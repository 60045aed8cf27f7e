"""What an integration wants of data sets and loaders: each sample's index, and which rows of a batch are padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset, DistributedSampler

import aum_core

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data import DataLoader

__all__ = ["DatasetWithIndex", "mark_padding"]


class DatasetWithIndex(aum_core.DatasetWithIndex, Dataset[Any]):
    """A thin wrapper over a PyTorch dataset that gives each sample's index as the last element of its tuple.

    For its parameter see `aum_core.DatasetWithIndex`.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> DatasetWithIndex(TensorDataset(torch.zeros(3, 2), torch.arange(3)))[-1]
    (tensor([0., 0.]), tensor(2), 2)
    """


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
    >>> import torch
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
