"""Totals of all processes of a `jax.distributed` job.

Arrays travel as bytes, one process's after the other's: where x64 is off JAX would make float32 of float64 and int32 of
int64 without a word, and never more than one shard is on its way.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jax  # noqa: TID251 # a part of aum.jax
import numpy as np
from jax.experimental import multihost_utils  # noqa: TID251 # as above

from aum._processes import Word, check_words, tell
from aum_core import Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["merge_prepared"]


def merge_prepared(prepare: Callable[[], tuple[Totals, dict[str, Any]]]) -> Totals:
    """Totals of what `prepare` gives on each process, on all of them; what it raises on one is raised by all."""
    own, word, error = tell(prepare, {})
    words = [word] if jax.process_count() == 1 else _words(word)
    try:
        check_words(words)
    except ValueError as verdict:
        raise verdict from error  # the own one, if it was that
    merged = Totals()
    for source, told in enumerate(words):
        merged.include(own if len(words) == 1 else _of_process(source, own, told))
    return merged.sorted()


def _words(word: Word) -> list[Word]:
    """What each process tells."""
    content = np.frombuffer(json.dumps(word).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([len(content)], np.int32)).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(content)] = content
    texts = multihost_utils.process_allgather(padded)
    return [json.loads(text[:size].tobytes()) for text, size in zip(texts, sizes, strict=True)]


def _of_process(source: int, own: Totals, told: Word) -> Totals:
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
