"""The chance that a label is wrong, from the softmax of one training run: no threshold samples, a cut-off of its own.

How the given labels came about is taken to be: a sample has a true class i, and an annotator writes down j with the
chance ``T[i, j]``, whatever the sample looks like. ``T`` is estimated by confident learning (Northcutt et al. 2021,
arXiv 1911.00068) from what the network believes before it learns wrong labels by heart; Bayes' rule does the rest.

Nothing of size N x C is made beside the mean softmax that comes in: all passes go over blocks of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.confident_learning import Beliefs, confident_joint
from aum_core.labels import class_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["CONDITIONS", "NoisePosterior", "estimate", "noise_posterior"]

CONDITIONS = (
    "The predictions hold where wrong labels follow from the class, as confusions and slips do, and are a tenth or "
    "more of all. Where they follow from how ambiguous a sample is, where they are rare, or where the data are some "
    "hundred samples, they promise too much."
)

_SMALLEST = 1e-12
_REFINEMENTS = 3
_UNMIXING_STEPS = 10
_BISECTIONS = 8
_LARGEST_CORRECTION = 4.0
_SECTIONS, _LOG_RANGE = 25, 2.0
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class NoisePosterior:
    """What one run says about each label.

    Attributes
    ----------
    probabilities : ndarray of shape (N,), float64
        The chance that the given label is wrong; NaN where nothing was measured.
    suggested : ndarray of shape (N,), int64
        The most likely true class.
    transition : ndarray of shape (C, C), float64
        ``transition[i, j]``: how likely a sample of class i is labelled j. Rows add up to 1.
    expected_wrong : int
        How many labels are expected to be wrong.
    temperature, correction : float
        The power by which probabilities are sharpened, and the amount by which the logit of the given label is lowered
        for the network having been trained on it.
    """

    probabilities: NDArray[np.float64]
    suggested: NDArray[np.int64]
    transition: NDArray[np.float64]
    expected_wrong: int
    temperature: float
    correction: float

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """True, (N,), where the label is more likely wrong than right."""
        return self.probabilities > 0.5

    @property
    def predicted_precision(self) -> float | None:
        """Share of the flagged labels that are expected to be wrong; None where none is flagged. See `CONDITIONS`."""
        return self._precision(self.flagged)

    @property
    def predicted_recall(self) -> float | None:
        """Share of the wrong labels that are expected to be flagged; None where none is expected. See `CONDITIONS`."""
        return self._recall(self.flagged)

    def most_suspicious(self, count: int | None = None) -> NDArray[np.intp]:
        """Rows by the chance that their label is wrong, highest first; all of them where `count` is None."""
        return np.argsort(np.where(np.isnan(self.probabilities), np.inf, -self.probabilities), kind="stable")[:count]

    def flag_at_precision(self, precision: float) -> NDArray[np.bool_]:
        """Flag as many labels as can be with the wanted share of them expected to be wrong.

        Parameters
        ----------
        precision : float
            In (0, 1].

        Returns
        -------
        ndarray of shape (N,), bool
            None flagged where not even the most suspicious label is that likely wrong.

        Examples
        --------
        >>> chances = np.array([0.1, 0.9, 0.4, 0.8])
        >>> posterior = NoisePosterior(chances, np.array([0, 1, 0, 1]), np.eye(2), 2, 1.0, 0.0)
        >>> posterior.flag_at_precision(0.7).tolist()
        [False, True, True, True]
        """
        if not 0 < precision <= 1:
            raise ValueError(f"precision: {precision}, want a share in (0, 1], such as 0.9")
        order = self.most_suspicious(int(np.count_nonzero(~np.isnan(self.probabilities))))
        means = np.cumsum(self.probabilities[order]) / np.arange(1, len(order) + 1)
        flagged = np.zeros(len(self.probabilities), np.bool_)
        flagged[order[: np.count_nonzero(means >= precision)]] = True  # means of a falling row fall
        return flagged

    def at(self, probabilities: NDArray[np.float64], suggested: NDArray[np.int64]) -> NoisePosterior:
        """The same estimate with its rows in another order."""
        return replace(self, probabilities=probabilities, suggested=suggested)

    def describe(self, flagged: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """Tell the figures as ``run.json`` has them, for what is flagged or what another cut flags."""
        chosen = self.flagged if flagged is None else flagged
        measured = int(np.count_nonzero(~np.isnan(self.probabilities)))
        return {
            "expected_wrong": self.expected_wrong,
            "expected_wrong_share": self.expected_wrong / measured,
            "predicted_precision": self._precision(chosen),
            "predicted_recall": self._recall(chosen),
            "conditions": CONDITIONS,
            "temperature": self.temperature,
            "correction": self.correction,
        }

    def _precision(self, flagged: NDArray[np.bool_]) -> float | None:
        return float(self.probabilities[flagged].mean()) if flagged.any() else None

    def _recall(self, flagged: NDArray[np.bool_]) -> float | None:
        total = float(np.nansum(self.probabilities))
        return float(self.probabilities[flagged].sum()) / total if total > 0 else None


def noise_posterior(mean_softmax: ArrayLike, targets: ArrayLike) -> NoisePosterior:
    """Estimate how likely each label is wrong.

    Parameters
    ----------
    mean_softmax : array_like of shape (N, C), floats
        The softmax of each sample's training forward passes, averaged over the epochs before the network learns wrong
        labels by heart: what a calculator with ``noise_posterior=True`` keeps. NaN in rows that were not measured.
    targets : array_like of shape (N,), ints in [0, C)
        The given labels.

    Returns
    -------
    NoisePosterior

    Raises
    ------
    TypeError, ValueError
        Where the arguments do not fit, or nothing was measured.

    Examples
    --------
    >>> truth = np.arange(300) % 3
    >>> given = truth.copy(); given[:6] = 2
    >>> posterior = noise_posterior(0.7 * np.eye(3)[truth] + 0.1, given)
    >>> np.flatnonzero(posterior.flagged), posterior.suggested[:3]
    (array([0, 1, 3, 4]), array([0, 1, 2]))
    """
    means = np.asarray(mean_softmax)
    if means.ndim != 2 or means.shape[1] < 2 or means.dtype.kind != "f":
        raise ValueError(
            f"mean_softmax: dtype {means.dtype} and shape {means.shape}, want floats of shape (N, C), C at least 2"
        )
    labels = class_labels(targets, means.shape[1])
    if len(labels) != len(means):
        raise ValueError(f"targets: {len(labels)} of them, want {len(means)}: one for each row of mean_softmax")
    measured = ~np.isnan(means).any(axis=1)
    return estimate(Beliefs(means, measured.astype(np.int64), labels))


def estimate(beliefs: Beliefs) -> NoisePosterior:
    """Estimate the chances from what the network believes: noise rates, then the temperature, then Bayes' rule."""
    joint = confident_joint(beliefs)
    expected = round(len(beliefs.measured) * (1 - float(np.trace(joint))))
    sharpness = _temperature(beliefs)
    transition = joint / np.maximum(joint.sum(axis=1, keepdims=True), _SMALLEST)
    for _ in range(_REFINEMENTS):
        transition = _refined(transition, beliefs, sharpness)
    transition = _shrunk(transition, beliefs)
    correction = _correction(beliefs, sharpness, transition, expected)
    probabilities = np.full(beliefs.num_rows, np.nan)
    suggested = np.full(beliefs.num_rows, -1)
    for rows, means, labels in beliefs.blocks():
        probabilities[rows], truth = _posterior(_sharpened(means, sharpness), labels, transition, correction)
        suggested[rows] = truth.argmax(axis=1)
    return NoisePosterior(probabilities, suggested, transition, expected, sharpness, correction)


def _sharpened(means: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Raise probabilities (B, C) to a power, and have them add up to 1 again."""
    logs = np.log(np.clip(means, 1e-8, 1.0)) * power
    logs -= logs.max(axis=1, keepdims=True)
    np.exp(logs, out=logs)
    logs /= logs.sum(axis=1, keepdims=True)
    return logs


def _temperature(beliefs: Beliefs) -> float:
    """The power under which the given labels are most likely. A mean of softmaxes is never as sure as it should be."""

    def loss(log_power: float) -> float:
        total = 0.0
        for _, means, labels in beliefs.blocks():
            sharp = _sharpened(means, float(np.exp(log_power)))
            total -= float(np.log(np.maximum(sharp[np.arange(len(labels)), labels], np.finfo(float).tiny)).sum())
        return total

    return float(np.exp(_lowest(loss, -_LOG_RANGE, _LOG_RANGE)))


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley is lowest, by golden sections."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(_SECTIONS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2


def _unmixed(beliefs: NDArray[np.float64], transition: NDArray[np.float64]) -> NDArray[np.float64]:
    """True classes (B, C) whose labels, by the transitions, would be as the network believes: Richardson-Lucy steps."""
    truth = beliefs.copy()
    for _ in range(_UNMIXING_STEPS):
        truth *= (beliefs / np.maximum(truth @ transition, 1e-9)) @ transition.T
        truth /= truth.sum(axis=1, keepdims=True)
    return truth


def _refined(transition: NDArray[np.float64], beliefs: Beliefs, sharpness: float) -> NDArray[np.float64]:
    """One step of expectation and maximisation: the transitions that the believed truths and given labels show."""
    num_classes = len(transition)
    seen = np.full((num_classes, num_classes), 1 / num_classes)
    for _, means, labels in beliefs.blocks():
        responsible = _unmixed(_sharpened(means, sharpness), transition) * transition[:, labels].T
        responsible /= responsible.sum(axis=1, keepdims=True)
        np.add.at(seen.T, labels, responsible)
    refined: NDArray[np.float64] = seen / seen.sum(axis=1, keepdims=True)
    return refined


def _shrunk(transition: NDArray[np.float64], beliefs: Beliefs) -> NDArray[np.float64]:
    """Draw the shape of each row's errors towards uniform, by as many samples as there are classes."""
    num_classes = len(transition)
    believed = np.zeros(num_classes, np.int64)
    for _, means, _ in beliefs.blocks():
        believed += np.bincount(means.argmax(axis=1), minlength=num_classes)
    wrong = transition.copy()
    np.fill_diagonal(wrong, 0.0)
    rate = wrong.sum(axis=1, keepdims=True)
    uniform = (1 - np.eye(num_classes)) / (num_classes - 1)
    counts = wrong * believed[:, None]
    shape = (counts + num_classes * uniform) / (counts.sum(axis=1, keepdims=True) + num_classes)
    shrunk: NDArray[np.float64] = rate * shape + np.diag(1 - rate[:, 0])
    return shrunk


def _posterior(
    sharp: NDArray[np.float64], labels: NDArray[np.int64], transition: NDArray[np.float64], correction: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The chance that the label is wrong (B,), and the true classes (B, C), once the given label is lowered."""
    places = np.arange(len(labels))
    lowered = sharp.copy()
    lowered[places, labels] *= np.exp(-correction)
    lowered /= lowered.sum(axis=1, keepdims=True)
    truth = _unmixed(lowered, transition)
    given = np.einsum("bi,ib->b", truth, transition[:, labels])
    right = truth[places, labels] * transition[labels, labels] / np.maximum(given, _SMALLEST)
    return 1 - right, truth


def _correction(beliefs: Beliefs, sharpness: float, transition: NDArray[np.float64], expected: int) -> float:
    """How much to lower the given labels until as many are held to be wrong as are expected to be."""

    def held_wrong(correction: float) -> float:
        found = 0.0
        for _, means, labels in beliefs.blocks():
            found += float(_posterior(_sharpened(means, sharpness), labels, transition, correction)[0].sum())
        return found

    if held_wrong(0.0) >= expected:
        return 0.0
    low, high = 0.0, _LARGEST_CORRECTION
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if held_wrong(middle) < expected:
            low = middle
        else:
            high = middle
    return high
