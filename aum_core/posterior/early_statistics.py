"""What the first epochs tell of the wrong labels, before the network learns any of them by heart.

After two epochs: the rate of errors that are spread over all classes. After three: how many labels look wrong by
confident learning, and how sure the network is where it disagrees with a label. Of flipped samples it is nearly as sure
as of right ones; of ambiguous samples it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aum_core.posterior.confident_learning import confident_joint, count_prunable, expected_wrong
from aum_core.posterior.transitions import Symmetric, chance_wrong, fit_inverse_temperature, sharpened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core.posterior.confident_learning import MeanProbabilities

__all__ = ["Disagreement", "EarlyStatistics", "SymmetricNoise"]

# Of the estimate of the rate by expectation and maximisation; chosen by hand, like all numbers of this room
# (`aum_core.posterior.estimate`). The highest rate is a share of that at which a label says nothing.
_STEPS, _FIRST_RATE, _HIGHEST = 20, 0.2, 0.9


@dataclass(frozen=True, slots=True)
class SymmetricNoise:
    """Errors that give any other class, as slips of the hand do.

    Attributes
    ----------
    rate : float
        The share of such errors that makes their mean chance what it is. It stays near 0 where labels are confused or
        samples ambiguous, since the network then believes in the label too.
    power : float
        The mean chance that labels put in place of the given ones at random would get: how much of such errors shows.
    """

    rate: float
    power: float

    @classmethod
    def of(cls, averages: MeanProbabilities) -> SymmetricNoise:
        """Estimate both from the mean softmax of the first two epochs, by expectation and maximisation."""
        beta, rate = fit_inverse_temperature(averages), _FIRST_RATE
        highest = _HIGHEST * (averages.num_classes - 1) / averages.num_classes
        for _ in range(_STEPS):
            errors, found = Symmetric(rate, averages.num_classes), 0.0
            for _, means, labels in averages.blocks():
                found += float(chance_wrong(sharpened(means, beta), labels, errors)[0].sum())
            rate = min(found / len(averages.measured), highest)
        return cls(rate, _power(averages, beta, errors, rate))


def _power(averages: MeanProbabilities, beta: float, errors: Symmetric, rate: float) -> float:
    total = 0.0
    for _, means, labels in averages.blocks():
        truth = chance_wrong(sharpened(means, beta), labels, errors)[1]
        would = 1 - truth * (1 - rate) / np.maximum(errors.labels_of(truth), 1e-12)
        would[np.arange(len(labels)), labels] = 0.0
        total += float(would.sum())
    return total / float(len(averages.measured) * (averages.num_classes - 1))


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Where the network believes in another class than the label, after three epochs.

    Attributes
    ----------
    noise : float
        Share of the labels that pruning by noise rate would remove.
    expected_wrong : float
        Number of wrong labels by the confident joint.
    count : int
        Samples whose label is not the class that the network believes in most.
    confidence_ratio : float
        The mean largest probability of these, over that of the others; 0 where there are none of either.
    """

    noise: float
    expected_wrong: float
    count: int
    confidence_ratio: float

    @classmethod
    def of(cls, averages: MeanProbabilities) -> Disagreement:
        """Measure it on the mean softmax of the first three epochs."""
        largest, counts = np.zeros(2), np.zeros(2, np.int64)  # of those that agree, and of those that do not
        for _, means, labels in averages.blocks():
            disagrees = (means.argmax(axis=1) != labels).astype(np.int64)
            largest += np.bincount(disagrees, means.max(axis=1), 2)
            counts += np.bincount(disagrees, minlength=2)
        return cls(
            count_prunable(averages) / len(averages.measured),
            expected_wrong(confident_joint(averages), averages),
            int(counts[1]),
            _ratio(largest, counts),
        )


def _ratio(largest: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    if not counts.all():
        return 0.0
    agrees, disagrees = largest / counts
    return float(disagrees / agrees)


@dataclass(frozen=True, slots=True)
class EarlyStatistics:
    """Both together."""

    symmetric: SymmetricNoise
    disagreement: Disagreement
