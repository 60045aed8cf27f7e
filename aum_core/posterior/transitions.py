"""How labels go wrong, as the chance ``T[i, j]`` that a sample of class i is labelled j, and what follows from it.

`Symmetric` has one number: any other class is as likely. `ClassConditional` has a row for each class. Both give the
chance that a label is wrong by Bayes' rule, once the network's probabilities are freed from the noise that it has
learnt too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aum_core.posterior.confident_learning import MeanProbabilities

__all__ = [
    "ClassConditional",
    "Symmetric",
    "Transition",
    "chance_wrong",
    "estimate_class_conditional",
    "fit_inverse_temperature",
    "sharpened",
]

_SMALLEST = 1e-12
_REFINEMENTS, _UNMIXING_STEPS = 3, 10  # chosen by hand, as told in `aum_core.posterior.estimate`
_SECTIONS, _LOG_RANGE = 25, 2.0  # an inverse temperature from 1/7 to 7, to five digits
_GOLDEN = (5**0.5 - 1) / 2


class Transition(Protocol):
    """A matrix T of chances, (C, C), rows of true classes and columns of labels."""

    @property
    def matrix(self) -> NDArray[np.float64]:
        """T itself."""

    @property
    def right(self) -> NDArray[np.float64]:
        """Its diagonal, (C,)."""

    def labels_of(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give ``truth @ T``: the labels (B, C) that such true classes would get."""
        ...

    def classes_of(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give ``labels @ T.T``, (B, C)."""
        ...

    def of_label(self, truth: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the chance (B,) that such true classes would get just these labels (B,)."""
        ...


@dataclass(frozen=True, slots=True)
class Symmetric:
    """Errors that give any other class as likely; O(C) where a matrix would take O(C x C)."""

    rate: float
    num_classes: int

    @property
    def matrix(self) -> NDArray[np.float64]:
        """T, spelt out."""
        off = self.rate / (self.num_classes - 1)
        return np.full((self.num_classes, self.num_classes), off) + (1 - self.rate - off) * np.eye(self.num_classes)

    @property
    def right(self) -> NDArray[np.float64]:
        """The chance of no error, for each class."""
        return np.full(self.num_classes, 1 - self.rate)

    def labels_of(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give ``truth @ T``."""
        off = self.rate / (self.num_classes - 1)
        mixed: NDArray[np.float64] = (1 - self.rate - off) * truth + off * truth.sum(axis=1, keepdims=True)
        return mixed

    def classes_of(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give ``labels @ T.T``."""
        return self.labels_of(labels)

    def of_label(self, truth: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the entries of ``truth @ T`` at these labels."""
        chances: NDArray[np.float64] = self.labels_of(truth)[np.arange(len(labels)), labels]
        return chances


@dataclass(frozen=True, slots=True)
class ClassConditional:
    """Errors that follow from the class."""

    matrix: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.float64]:
        """The chance of no error, for each class."""
        return np.diag(self.matrix)

    def labels_of(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give ``truth @ T``."""
        return truth @ self.matrix

    def classes_of(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give ``labels @ T.T``."""
        return labels @ self.matrix.T

    def of_label(self, truth: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the entries of ``truth @ T`` at these labels."""
        chances: NDArray[np.float64] = np.einsum("bi,ib->b", truth, self.matrix[:, labels])
        return chances


def chance_wrong(
    sharp: NDArray[np.float64], labels: NDArray[np.int64], transition: Transition, correction: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the chance that each label is wrong, (B,), and the true classes, (B, C).

    Parameters
    ----------
    sharp : ndarray of shape (B, C)
        Mean probabilities, as sure as they should be: see `fit_inverse_temperature`.
    labels : ndarray of shape (B,)
    transition : Transition
    correction : float
        How much to lower the logit of the label first, for the network having been trained on it.
    """
    places = np.arange(len(labels))
    if correction:
        sharp = sharp.copy()
        sharp[places, labels] *= np.exp(-correction)
        sharp /= sharp.sum(axis=1, keepdims=True)
    truth = _unmixed(sharp, transition)
    given = np.maximum(transition.of_label(truth, labels), _SMALLEST)
    return 1 - truth[places, labels] * transition.right[labels] / given, truth


def _unmixed(sharp: NDArray[np.float64], transition: Transition) -> NDArray[np.float64]:
    """True classes (B, C) whose labels, by the transitions, would be as the network believes: Richardson-Lucy steps."""
    truth = sharp.copy()
    for _ in range(_UNMIXING_STEPS):
        truth *= transition.classes_of(sharp / np.maximum(transition.labels_of(truth), 1e-9))
        truth /= truth.sum(axis=1, keepdims=True)
    return truth


def sharpened(means: NDArray[np.float64], beta: float) -> NDArray[np.float64]:
    """Raise probabilities (B, C) to the power `beta`, and have them add up to 1 again."""
    logs = np.log(np.clip(means, 1e-8, 1.0)) * beta
    logs -= logs.max(axis=1, keepdims=True)
    np.exp(logs, out=logs)
    logs /= logs.sum(axis=1, keepdims=True)
    return logs


def fit_inverse_temperature(averages: MeanProbabilities) -> float:
    """Fit the inverse temperature 1/T, under which the given labels are most likely.

    An average of probabilities is less sure than it should be; this is temperature scaling (Guo et al. 2017, "On
    Calibration of Modern Neural Networks", arXiv 1706.04599) of its logarithms.
    """

    def loss(log_beta: float) -> float:
        total = 0.0
        for _, means, labels in averages.blocks():
            sharp = sharpened(means, float(np.exp(log_beta)))
            total -= float(np.log(np.maximum(sharp[np.arange(len(labels)), labels], np.finfo(float).tiny)).sum())
        return total

    return float(np.exp(_lowest(loss, -_LOG_RANGE, _LOG_RANGE)))


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Find where a function with one valley is lowest, by golden sections."""
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


def estimate_class_conditional(
    joint: NDArray[np.float64], averages: MeanProbabilities, beta: float
) -> ClassConditional:
    """Estimate T from the joint of confident learning, refined by what the averages show, its shape shrunk."""
    transition = ClassConditional(joint / np.maximum(joint.sum(axis=1, keepdims=True), _SMALLEST))
    for _ in range(_REFINEMENTS):
        transition = _refined(transition, averages, beta)
    return ClassConditional(_shrunk(transition.matrix, averages))


def _refined(transition: ClassConditional, averages: MeanProbabilities, beta: float) -> ClassConditional:
    """One step of expectation and maximisation: the transitions that the believed truths and given labels show."""
    num_classes = len(transition.matrix)
    seen = np.full((num_classes, num_classes), 1 / num_classes)
    for _, means, labels in averages.blocks():
        responsible = _unmixed(sharpened(means, beta), transition) * transition.matrix[:, labels].T
        responsible /= responsible.sum(axis=1, keepdims=True)
        np.add.at(seen.T, labels, responsible)
    return ClassConditional(seen / seen.sum(axis=1, keepdims=True))


def _shrunk(matrix: NDArray[np.float64], averages: MeanProbabilities) -> NDArray[np.float64]:
    """Draw the shape of each row's errors towards uniform, by as many samples as there are classes."""
    num_classes = len(matrix)
    believed = np.zeros(num_classes, np.int64)
    for _, means, _ in averages.blocks():
        believed += np.bincount(means.argmax(axis=1), minlength=num_classes)
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0.0)
    rate = wrong.sum(axis=1, keepdims=True)
    uniform = (1 - np.eye(num_classes)) / (num_classes - 1)
    counts = wrong * believed[:, None]
    shape = (counts + num_classes * uniform) / (counts.sum(axis=1, keepdims=True) + num_classes)
    shrunk: NDArray[np.float64] = rate * shape + np.diag(1 - rate[:, 0])
    return shrunk
