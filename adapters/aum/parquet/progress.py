"""How far a long piece of work is: nothing where it is short, a plain line on stderr now and then where it is not."""

from __future__ import annotations

import sys
from time import monotonic

__all__ = ["Progress"]

_SECONDS = 10.0


class Progress:
    """Counts what is done and tells of it at most every ten seconds."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._done, self._told = 0, monotonic()

    def advance(self, count: int) -> None:
        """Take note of `count` more."""
        self._done += count
        if monotonic() - self._told >= _SECONDS:
            self._told = monotonic()
            share = f"{self._done:,} of {self._total:,} {self._unit}"
            print(f"{self._what}: {share}", file=sys.stderr, flush=True)  # noqa: T201 # see above
