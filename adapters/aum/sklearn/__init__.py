"""AUM for scikit-learn: any classifier with `partial_fit` and scores, measured before it learns each batch.

scikit-learn has no training loop to hook into, so this room is one: `fit` goes through the data in mini-batches, asks
the classifier for its scores, hands them to the calculator, and only then lets it learn.

What comes in are a classifier, features (N, F) and labels as the classifier knows them. What goes out are logits
(B, C) and the places of the labels among the sorted classes: what the engine measures. The searches give `Findings`.

It never changes the classifier that a search is given, the caller's arrays, or how the classifier itself learns. It
does not tune, and does not scale features.
"""

from __future__ import annotations

try:
    import sklearn  # noqa: F401 # to see whether it is there
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise ModuleNotFoundError("aum.sklearn needs scikit-learn: pip install 'aum[sklearn]'", name="sklearn") from error

from aum.sklearn.classifier_logits import logits
from aum.sklearn.search import find_by_posterior, find_mislabeled
from aum.sklearn.training import fit, partial_fit
from aum_core import AUMCalculator, AUMRecord, Findings, ThresholdPlan, Totals

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "Findings",
    "ThresholdPlan",
    "Totals",
    "find_by_posterior",
    "find_mislabeled",
    "fit",
    "logits",
    "partial_fit",
]
