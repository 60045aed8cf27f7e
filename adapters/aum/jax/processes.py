"""Totals of all processes of a `jax.distributed` job.

Arrays travel as bytes, one process's after the other's: where x64 is off JAX would make float32 of float64 and int32 of
int64 without a word, and never more than one shard is on its way.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from aum._processes import Header, check_headers, make_header, own_totals
from aum.jax.state import AUMState, to_totals
from aum_core import Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    import aum_core
    from aum_core.ids import SampleId

__all__ = ["merge_processes"]


def merge_processes(
    measured: AUMState | aum_core.AUMCalculator | Totals,
    sample_ids: Sequence[SampleId] | NDArray[Any] | None = None,
) -> Totals:
    """Totals of all processes of a `jax.distributed` job, on all of them. Every process must call it.

    Nothing of what the processes have is changed, so calling it twice doubles nothing. It is as exact as one process,
    with x64 and without.

    Parameters
    ----------
    measured : AUMState, AUMCalculator or Totals
        What this process has measured: of its own samples. A state that the whole job shares, sharded or replicated,
        has everything already, and needs `to_totals` alone. Of the state of an epoch only the margins are merged.
    sample_ids : sequence of N int or str, optional
        The names of the rows of a state.

    Returns
    -------
    Totals
        In the order of the ids, ints before strs.

    Raises
    ------
    ValueError
        On all processes, where something is wrong on one or they differ in options.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from aum.jax import init, update
    >>> state = update(init(3), jnp.array([[2.0, 0.5]]), jnp.array([0]), jnp.array([2]))
    >>> merge_processes(state).sample_ids  # of all processes, after jax.distributed.initialize()
    array([2])
    """
    own, header, error = make_header(partial(_own_totals, measured, sample_ids), {})
    headers = [header] if jax.process_count() == 1 else _headers(header)
    try:
        check_headers(headers)
    except ValueError as verdict:
        raise verdict from error  # the own one, if it was that
    merged = Totals()
    for source, told in enumerate(headers):
        merged.include(own if len(headers) == 1 else _of_process(source, own, told))
    return merged.sorted()


def _own_totals(measured: Any, sample_ids: Any) -> tuple[Totals, dict[str, Any]]:
    if not isinstance(measured, AUMState):
        if sample_ids is not None:
            raise ValueError("sample_ids: they name the rows of a state; calculators and totals have their own")
        return own_totals(measured)
    if not measured.count.is_fully_addressable:
        raise ValueError("measured: a state that is spread over the processes has everything already: see to_totals")
    if measured.count.any():
        return to_totals(measured, sample_ids), {}
    nothing = Totals()
    nothing.left_out = int(measured.invalid) + int(measured.nonfinite)
    return nothing, {}


def _headers(header: Header) -> list[Header]:
    """What each process tells."""
    content = np.frombuffer(json.dumps(header).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(content)], np.int32)).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(content)] = content
    texts = multihost_utils.process_allgather(padded)
    return [json.loads(text[:size].tobytes()) for text, size in zip(texts, sizes, strict=True)]


def _of_process(source: int, own: Totals, told: Header) -> Totals:
    """Totals of one process, on all."""
    arrays = own.to_arrays()
    is_source = source == jax.process_index()
    found = {}
    for name, (dtype, length) in told["forms"].items():
        size = length * np.dtype(dtype).itemsize
        content = _bytes_of(arrays[name]) if is_source else np.zeros(size, np.uint8)
        received = multihost_utils.broadcast_one_to_all(content, is_source=is_source) if size else content
        found[name] = np.asarray(received).view(dtype)
    return Totals.from_arrays(found)


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.frombuffer(array.tobytes(), np.uint8)
