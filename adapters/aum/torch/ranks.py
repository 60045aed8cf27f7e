"""Totals of all ranks of a `torch.distributed` job.

Sums and counts are added into a copy, in the order of the ranks: calling twice doubles nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from aum._processes import Header, check_headers, make_header, own_totals
from aum.torch.group import TIMEOUT, arrays_of_each, gloo_group, headers_of_all, in_a_job
from aum_core import Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from aum_core import AUMCalculator

__all__ = ["merge_ranks", "merge_totals"]


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
    >>> import torch
    >>> from aum.torch import AUMCalculator
    >>> calculator = AUMCalculator(tempfile.mkdtemp())
    >>> calculator.accumulate(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), ["cat.png"])
    >>> merge_ranks(calculator).aums  # of all ranks, under torchrun
    array([1.5])
    """
    totals, _ = merge_totals(partial(own_totals, measured), "merge_ranks", dst, group, timeout)
    return totals


def merge_totals(
    prepare: Callable[[], tuple[Totals, dict[str, Any]]], call: str, dst: int | None, group: Any, timeout: float
) -> tuple[Totals | None, list[Header]]:
    """Prepare and merge the totals of all ranks, for a `call` that all of them make.

    Parameters
    ----------
    prepare : callable
        Gives the own totals, and the options that all ranks must share; what it raises is told on all ranks.
    call : str
        Its name: ranks that are about to do different things are told so.
    dst, group, timeout
        As in `merge_ranks`.

    Returns
    -------
    totals : Totals or None
        Where they are wanted.
    headers : list of dict
        What the ranks told of theirs.
    """
    own, header, error = make_header(partial(_prepared, prepare, dst), {"call": call, "dst": repr(dst)})
    if not in_a_job():
        _check([header], error, dst)
        return own.sorted(), [header]
    with gloo_group(group, timeout) as gloo:
        headers = headers_of_all(header, gloo)
        _check(headers, error, dst)
        return _gathered(own, headers, gloo, dst), headers


def _prepared(prepare: Callable[[], tuple[Totals, dict[str, Any]]], dst: Any) -> tuple[Totals, dict[str, Any]]:
    if dst is not None and not isinstance(dst, int):
        raise TypeError(f"dst: {dst!r}, want a rank or None")
    return prepare()


def _check(headers: list[Header], error: Exception | None, dst: int | None) -> None:
    try:
        check_headers(headers)
    except ValueError as verdict:
        raise verdict from error  # the own one, if it was that
    if dst is not None and not 0 <= dst < len(headers):
        raise ValueError(f"dst: {dst}, want None or a rank in [0, {len(headers)})")


def _gathered(own: Totals, headers: list[Header], gloo: Any, dst: int | None) -> Totals | None:
    """The totals of all ranks, one after the other; None where they are not wanted."""
    merged, wanted = Totals(), dst in (None, dist.get_rank(gloo))
    for found in arrays_of_each(own.to_arrays(), [header["forms"] for header in headers], gloo, dst):
        if wanted:
            merged.include(Totals.from_arrays(found))
    return merged.sorted() if wanted else None
