"""Streams of random numbers, one for each purpose.

Drawn from a seed itself, the flips, the threshold samples and a user's own ``default_rng(seed).permutation(N)`` of the
same seed would be the same rows.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

__all__ = ["stream"]

_KEYS = {"noise": 1, "threshold samples": 2}


def stream(seed: int, purpose: Literal["noise", "threshold samples"]) -> np.random.Generator:
    """Make the generator of `seed` for a purpose; the same each time, and independent of those for others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_KEYS[purpose],)))
