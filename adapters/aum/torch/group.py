"""How the ranks of a `torch.distributed` job speak with each other: over a gloo group of their own, between CPUs.

float64 and ids that are strings do not live on every device, so what trains the model does not matter here; and since
the group's time-out is ours to choose, a rank that never comes is an error and no hang. Every function but the first
two is a collective: all ranks must call it.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from aum._processes import Forms, Header

__all__ = ["TIMEOUT", "arrays_of_each", "gloo_group", "headers_of_all", "in_a_job", "several_ranks"]

TIMEOUT = 600.0
"""Seconds to wait for the other ranks."""


def several_ranks() -> bool:
    """Whether this process is one of several of a `torch.distributed` job."""
    return in_a_job() and dist.get_world_size() > 1


def in_a_job() -> bool:
    """Whether this process is a rank of a `torch.distributed` job, be it the only one."""
    return dist.is_available() and dist.is_initialized()


@contextmanager
def gloo_group(group: Any, timeout: float) -> Iterator[Any]:
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


def headers_of_all(header: Header, gloo: Any) -> list[Header]:
    """Give what all ranks tell, by rank: JSON, as each of them reads it."""
    text = json.dumps(header).encode()
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size(gloo))]
    dist.all_gather(sizes, torch.tensor([len(text)]), group=gloo)
    room = max(int(size) for size in sizes)
    padded = torch.zeros(room, dtype=torch.uint8)
    padded[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    rooms = [torch.zeros(room, dtype=torch.uint8) for _ in sizes]
    dist.all_gather(rooms, padded, group=gloo)
    return [json.loads(bytes(each[: int(size)].tolist())) for each, size in zip(rooms, sizes, strict=True)]


def arrays_of_each(
    own: Mapping[str, NDArray[Any]], forms: list[Forms], gloo: Any, dst: int | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """Give the arrays of one rank after the other, so that no more than one rank's are on their way.

    Every rank must go through to the end, since others wait for it.

    Parameters
    ----------
    own : mapping of str to ndarray
        1-D arrays of this rank.
    forms : list
        What the arrays of each rank are, by rank.
    gloo : ProcessGroup
    dst : int or None
        The rank that wants them; None where all do.

    Yields
    ------
    dict of str to ndarray
        Elsewhere than on `dst` there is nothing sensible in those of other ranks.
    """
    rank = dist.get_rank(gloo)
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
