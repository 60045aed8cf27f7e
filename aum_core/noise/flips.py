"""Wrong labels on purpose: the way to know how many of them a method finds.

Each function leaves the given targets as they are, and gives the noisy ones with a mask of those that differ. The
kinds are those of the literature: uniform and pair flips (Pleiss et al. 2020, section 4, among many), a transition
matrix (Patrini et al. 2017, arXiv 1609.03683), and noise that depends on the instance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.dataset import class_labels, random_stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["flip_by_matrix", "flip_instance_dependent", "flip_pairs", "flip_uniform"]


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

    Raises
    ------
    TypeError, ValueError
        Where an argument does not fit.

    Examples
    --------
    >>> noisy, flipped = flip_uniform([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], num_classes=3, noise_rate=0.2)
    >>> int(flipped.sum())
    2
    """
    labels = class_labels(targets, num_classes)
    generator = random_stream(seed, "noise")
    chosen = _choose(len(labels), noise_rate, generator)
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + generator.integers(1, num_classes, len(chosen))) % num_classes
    return noisy, noisy != labels


def flip_pairs(
    targets: Any, num_classes: int, noise_rate: float, seed: int = 0, partners: Any = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give a share of the samples the one class that theirs is confused with: by default class c becomes c + 1.

    Parameters
    ----------
    partners : array_like of shape (C,), ints in [0, C), optional
        The class that each class is taken for, another than itself; ``(c + 1) % C`` by default. For the other
        parameters and what is returned see `flip_uniform`.

    References
    ----------
    Pair flipping of Han et al. 2018, "Co-teaching: Robust Training of Deep Neural Networks with Extremely Noisy
    Labels", arXiv 1804.06872.

    Examples
    --------
    >>> flip_pairs([0, 1, 2, 2], num_classes=3, noise_rate=1.0)[0]
    array([1, 2, 0, 0])
    """
    labels = class_labels(targets, num_classes)
    classes = np.arange(num_classes)
    others = (classes + 1) % num_classes if partners is None else np.asarray(partners)
    fits = others.shape == (num_classes,) and others.dtype.kind in "iu"
    if not fits or (others < 0).any() or (others >= num_classes).any() or (others == classes).any():
        raise ValueError(f"partners: {partners!r}, want for each of {num_classes} classes another one in [0, C)")
    chosen = _choose(len(labels), noise_rate, random_stream(seed, "noise"))
    noisy = labels.copy()
    noisy[chosen] = others[labels[chosen]]
    return noisy, noisy != labels


def flip_by_matrix(targets: Any, transition: Any, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw each label anew from the row of its class in a transition matrix.

    Parameters
    ----------
    targets : array_like of shape (N,), ints in [0, C)
        Left untouched.
    transition : array_like of shape (C, C), floats
        ``transition[i, j]`` is the chance that a sample of class i is labelled j; rows add up to 1. How many labels
        are flipped is up to chance.
    seed : int
        Of the generator that draws the labels.

    Returns
    -------
    noisy, flipped
        As of `flip_uniform`.

    Raises
    ------
    TypeError, ValueError
        Where an argument does not fit.

    References
    ----------
    Patrini et al. 2017, "Making Deep Neural Networks Robust to Label Noise", arXiv 1609.03683.

    Examples
    --------
    >>> flip_by_matrix([0, 1, 2, 1], [[1, 0, 0], [0, 0, 1], [0, 0, 1]])[0]
    array([0, 2, 2, 2])
    """
    chances = np.asarray(transition, dtype=np.float64)
    if chances.ndim != 2 or chances.shape[0] != chances.shape[1] or len(chances) < 2:
        raise ValueError(f"transition: shape {chances.shape}, want (C, C) with C of at least 2")
    labels = class_labels(targets, len(chances))
    wrong = ~(chances >= 0).all(axis=1) | ~np.isclose(chances.sum(axis=1), 1.0)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"transition: row {row} is {chances[row].tolist()}, want chances that add up to 1")
    noisy = _draw_classes(chances[labels], random_stream(seed, "noise"))
    return noisy, noisy != labels


def flip_instance_dependent(
    targets: Any, scores: Any, noise_rate: float, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flip labels as an unsure annotator would: the more likely, the less a model believes in them.

    A sample is chosen with a weight of ``1 - scores[i, y]``, and its new label drawn by the scores of the other
    classes. This noise depends on the instance, and is the hard kind: the samples chosen are those that a network
    finds ambiguous too.

    Parameters
    ----------
    targets : array_like of shape (N,), ints in [0, C)
        Left untouched.
    scores : array_like of shape (N, C), floats
        Probabilities of the classes, of a model that is none too good; rows add up to 1.
    noise_rate : float
        Share of the samples to flip, in [0, 1]; exactly ``round(noise_rate * N)`` are.
    seed : int
        Of the generator that chooses samples and classes.

    Returns
    -------
    noisy, flipped
        As of `flip_uniform`.

    Raises
    ------
    TypeError, ValueError
        Where an argument does not fit, or fewer samples than are to be flipped have a score beside their own class's.

    Examples
    --------
    >>> scores = [[0.6, 0.4, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    >>> flip_instance_dependent([0, 0, 1], scores, noise_rate=1 / 3)[0]
    array([1, 0, 1])
    """
    chances = np.array(scores, dtype=np.float64)
    if chances.ndim != 2 or chances.shape[1] < 2:
        raise ValueError(f"scores: shape {chances.shape}, want (N, C) with C of at least 2")
    labels = class_labels(targets, chances.shape[1])
    if len(chances) != len(labels):
        raise ValueError(f"scores: {len(chances)} rows for {len(labels)} targets, want one for each")
    wrong = ~(chances >= 0).all(axis=1) | ~np.isclose(chances.sum(axis=1), 1.0, atol=1e-4)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"scores: row {row} is {chances[row].tolist()}, want probabilities that add up to 1: the softmax of logits"
        )
    chances[np.arange(len(labels)), labels] = 0.0
    generator = random_stream(seed, "noise")
    chosen = _choose(len(labels), noise_rate, generator, weights=chances.sum(axis=1))
    noisy = labels.copy()
    noisy[chosen] = _draw_classes(chances[chosen], generator)
    return noisy, noisy != labels


def _choose(
    num_samples: int, noise_rate: float, generator: np.random.Generator, weights: NDArray[np.float64] | None = None
) -> NDArray[np.intp]:
    """Rows of exactly the share asked for, drawn without replacement, by weight where there are weights."""
    if not 0.0 <= noise_rate <= 1.0:
        raise ValueError(f"noise_rate: {noise_rate}, want a share in [0, 1]")
    count = round(noise_rate * num_samples)
    if weights is None:
        return generator.permutation(num_samples)[:count]
    possible = int(np.count_nonzero(weights))
    if count > possible:
        raise ValueError(
            f"noise_rate: {noise_rate} of {num_samples} samples are {count}, but only {possible} have a score beside "
            "that of their own class; want a lower rate, or a model that is less sure"
        )
    # exponential waiting times: who comes first is drawn by weight, without replacement (Efraimidis, Spirakis 2006)
    times = np.full(num_samples, np.inf)
    np.divide(generator.standard_exponential(num_samples), weights, out=times, where=weights > 0)
    return np.argsort(times, kind="stable")[:count]


def _draw_classes(chances: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.int64]:
    """One class for each row (B, C), drawn by its chances, which need not add up to 1."""
    reached = chances.cumsum(axis=1)
    aims = generator.random((len(chances), 1)) * reached[:, -1:]
    drawn: NDArray[np.int64] = (reached > aims).argmax(axis=1)
    return drawn
