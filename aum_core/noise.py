"""Wrong labels on purpose: the way to know how many of them a method finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.labels import class_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["flip_uniform"]


def flip_uniform(
    targets: Any, num_classes: int, noise_rate: float, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give a share of the samples another class, each other class being equally likely.

    Parameters
    ----------
    targets : array_like of shape (N,), ints in [0, C)
        Left untouched.
    num_classes : int
        C, at least 2.
    noise_rate : float
        Share of the samples to flip, in [0, 1]; exactly ``round(noise_rate * N)`` are.
    seed : int
        Of the generator that chooses samples and classes.

    Returns
    -------
    noisy : ndarray of shape (N,), int64
    flipped : ndarray of shape (N,), bool
        True where `noisy` differs from `targets`.

    Examples
    --------
    >>> noisy, flipped = flip_uniform([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], num_classes=3, noise_rate=0.2)
    >>> int(flipped.sum())
    2
    """
    labels = class_labels(targets, num_classes)
    if not 0.0 <= noise_rate <= 1.0:
        raise ValueError(f"noise_rate: {noise_rate}, want a share in [0, 1]")
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(len(labels))[: round(noise_rate * len(labels))]
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + generator.integers(1, num_classes, len(chosen))) % num_classes
    return noisy, noisy != labels
