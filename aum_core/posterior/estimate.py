"""The chance that a label is wrong, from one training run: no threshold samples, a cut-off of its own.

How the given labels came about is taken to be: a sample has a true class i, and an annotator writes down j with the
chance ``T[i, j]``, whatever the sample looks like. The first epochs tell which of two kinds of ``T`` it is, errors that
are spread over all classes or errors that follow from the class, or that it is neither, and nothing can be told.

Nothing of size N x C is made beside the averages that come in: all passes go over blocks of rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aum_core.posterior.confident_learning import confident_joint, expected_wrong
from aum_core.posterior.transitions import (
    Symmetric,
    chance_wrong,
    estimate_class_conditional,
    fit_inverse_temperature,
    sharpened,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core.posterior.confident_learning import MeanProbabilities
    from aum_core.posterior.early_statistics import EarlyStatistics
    from aum_core.posterior.transitions import Transition

__all__ = ["CONDITIONS", "NoisePosterior", "Verdict", "estimate"]

Verdict = Literal["symmetric", "class-conditional", "undetermined"]

CONDITIONS: dict[Verdict, str] = {
    "symmetric": "The errors look spread over all classes, as slips are. Precision and recall hold roughly, and less "
    "so where few labels are wrong.",
    "class-conditional": "The errors look as if they followed from the class, as confusions do. Precision and recall "
    "hold roughly if they do; where samples are ambiguous they promise too much.",
    "undetermined": "Cannot tell which labels are wrong: where the network disagrees with labels it is unsure, so "
    "samples are ambiguous, or hardly any label is wrong. The noise posterior flags nothing then. Its ranking is for "
    "review; that by AUM is as good here.",
}

# Where the numbers come from: no theory gives them. They were chosen by hand, looking at what is found of labels that
# were flipped on purpose in digits, Satellite and Fashion-MNIST (benchmarks/quality, docs/quality.md), and have stayed
# as they were since. None of them was measured on the errors of people.
_MIN_SHARE = 0.15  # of all expected errors, that symmetric ones must make up to be the verdict
_MIN_POWER = 0.3  # of symmetric errors, the share that must show by the second epoch for their rate to be believed
_MIN_CONFIDENCE_RATIO = 0.75  # near 1 where labels were flipped, lower where samples are ambiguous
_HIGHEST_RATE = 0.8  # a guard: with more symmetric errors a label says hardly anything of its class
_LOWEST_CORRECTION, _LARGEST_CORRECTION = -2.0, 4.0  # in logits: where the search of the correction begins and ends
_BISECTIONS = 10  # leaves less than .006 logits


@dataclass(frozen=True, slots=True)
class _Model:
    """What is taken to be so: the verdict, the transitions, the number of wrong labels, room for a correction."""

    verdict: Verdict
    transition: Transition
    expected: float
    least_correction: float = 0.0


@dataclass(frozen=True, slots=True)
class NoisePosterior:
    """What one run says about each label.

    Attributes
    ----------
    probabilities : ndarray of shape (N,), float64
        The chance that the given label is wrong; NaN where nothing was measured in the window, or no number.
    suggested : ndarray of shape (N,), int64
        The most likely true class; -1 where the chance is NaN.
    transition : ndarray of shape (C, C), float64
        ``transition[i, j]``: how likely a sample of class i is labelled j. Rows add up to 1.
    expected_wrong : float
        How many labels are expected to be wrong.
    verdict : {"symmetric", "class-conditional", "undetermined"}
        Whether errors are spread over all classes, follow from the class, or nothing can be told: see `CONDITIONS`.
    inverse_temperature, correction : float
        1/T, which makes the network's probabilities as sure as the labels bear out, and the amount by which the logit
        of the given label is lowered for the network having been trained on it.
    statistics : EarlyStatistics, optional
        What the verdict rests on.

    References
    ----------
    Northcutt, Jiang, Chuang 2021, "Confident Learning", arXiv 1911.00068, whose joint of given and true labels it
    begins with; Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599.

    Examples
    --------
    >>> import tempfile
    >>> from aum_core import AUMCalculator
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), noise_posterior=True)
    >>> truth = np.array([0, 1] * 50)
    >>> given = truth.copy(); given[4] = 1
    >>> calculator.accumulate(4.0 * np.eye(2)[truth], given, np.arange(100))
    >>> posterior = calculator.noise_posterior()
    >>> np.flatnonzero(posterior.flagged), int(posterior.suggested[4])
    (array([4]), 0)
    """

    probabilities: NDArray[np.float64]
    suggested: NDArray[np.int64]
    transition: NDArray[np.float64]
    expected_wrong: float
    verdict: Verdict
    inverse_temperature: float
    correction: float
    statistics: EarlyStatistics | None = None

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """True, (N,), where the label is more likely wrong than right; nowhere where nothing can be told."""
        return (self.probabilities > 0.5) & (self.verdict != "undetermined")

    @property
    def predicted_precision(self) -> float | None:
        """Share of the flagged labels expected to be wrong; None where none is flagged. See `CONDITIONS`."""
        return self._precision(self.flagged)

    @property
    def predicted_recall(self) -> float | None:
        """Share of the wrong labels expected to be flagged; None where none is expected. See `CONDITIONS`."""
        return self._recall(self.flagged)

    def most_suspicious(self, count: int | None = None) -> NDArray[np.intp]:
        """Give rows by the chance that their label is wrong, the highest first.

        Parameters
        ----------
        count : int, optional
            How many; all of them by default.

        Returns
        -------
        ndarray of shape (count,) or (N,), int
            Rows that were not measured come last.
        """
        return np.argsort(np.where(np.isnan(self.probabilities), np.inf, -self.probabilities), kind="stable")[:count]

    def at(self, probabilities: NDArray[np.float64], suggested: NDArray[np.int64]) -> NoisePosterior:
        """Give the same estimate with its rows in another order.

        Parameters
        ----------
        probabilities : ndarray of shape (M,), float64
        suggested : ndarray of shape (M,), int64

        Returns
        -------
        NoisePosterior
        """
        return replace(self, probabilities=probabilities, suggested=suggested)

    def describe(self, flagged: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """Tell the figures, as ``run.json`` has them.

        Parameters
        ----------
        flagged : ndarray of shape (N,), bool, optional
            What a cut flags, which precision and recall are predicted for; `flagged` by default.

        Returns
        -------
        dict of str to JSON values
        """
        chosen = self.flagged if flagged is None else flagged
        measured = int(np.count_nonzero(~np.isnan(self.probabilities)))
        return {
            "expected_wrong": self.expected_wrong,
            "expected_wrong_share": self.expected_wrong / measured,
            "predicted_precision": self._precision(chosen),
            "predicted_recall": self._recall(chosen),
            "verdict": self.verdict,
            "conditions": CONDITIONS[self.verdict],
            "inverse_temperature": self.inverse_temperature,
            "correction": self.correction,
            "early_statistics": None if self.statistics is None else asdict(self.statistics),
        }

    def _precision(self, flagged: NDArray[np.bool_]) -> float | None:
        return float(self.probabilities[flagged].mean()) if flagged.any() else None

    def _recall(self, flagged: NDArray[np.bool_]) -> float | None:
        total = float(np.nansum(self.probabilities))
        return float(self.probabilities[flagged].sum()) / total if total > 0 else None


def estimate(averages: MeanProbabilities, statistics: EarlyStatistics) -> NoisePosterior:
    """Estimate the chances from what the network believes, with the verdict of the first epochs if there are such."""
    joint = confident_joint(averages)
    beta = fit_inverse_temperature(averages)
    model = _judged(statistics, joint, averages, beta)
    correction = _correction(averages, beta, model)
    probabilities = np.full(averages.num_rows, np.nan)
    suggested = np.full(averages.num_rows, -1)
    for rows, means, labels in averages.blocks():
        chances, truth = chance_wrong(sharpened(means, beta), labels, model.transition, correction)
        probabilities[rows], suggested[rows] = chances, truth.argmax(axis=1)
    matrix = model.transition.matrix
    return NoisePosterior(probabilities, suggested, matrix, model.expected, model.verdict, beta, correction, statistics)


def _judged(
    statistics: EarlyStatistics, joint: NDArray[np.float64], averages: MeanProbabilities, beta: float
) -> _Model:
    """Judge by the first epochs what kind of errors there are, and how many."""
    symmetric, disagreement = statistics.symmetric, statistics.disagreement
    num_samples, late = len(averages.measured), expected_wrong(joint, averages)
    is_sure = disagreement.confidence_ratio >= _MIN_CONFIDENCE_RATIO
    if symmetric.rate * num_samples >= max(1.0, _MIN_SHARE * late) and symmetric.power >= _MIN_POWER:
        expected = min(num_samples * symmetric.rate / symmetric.power, float(disagreement.count))
        expected = max(expected, late) if is_sure else expected
        errors = Symmetric(min(expected / num_samples, _HIGHEST_RATE), averages.num_classes)
        return _Model("symmetric", errors, expected, least_correction=_LOWEST_CORRECTION)
    # the first count is too high while the network underfits, the second too low once it learns labels by heart
    expected = (disagreement.expected_wrong + late) / 2
    return _Model(
        "class-conditional" if is_sure else "undetermined", estimate_class_conditional(joint, averages, beta), expected
    )


def _correction(averages: MeanProbabilities, beta: float, model: _Model) -> float:
    """How much to lower the given labels until as many are held to be wrong as are expected to be."""

    def held_wrong(correction: float) -> float:
        found = 0.0
        for _, means, labels in averages.blocks():
            found += float(chance_wrong(sharpened(means, beta), labels, model.transition, correction)[0].sum())
        return found

    low, high = model.least_correction, _LARGEST_CORRECTION
    if held_wrong(low) >= model.expected:
        return low
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if held_wrong(middle) < model.expected:
            low = middle
        else:
            high = middle
    return high
