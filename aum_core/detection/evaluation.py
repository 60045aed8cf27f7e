"""How well labels that are known to be wrong were found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Detection", "measure_detection"]


@dataclass(frozen=True, slots=True)
class Detection:
    """How well wrong labels were found.

    Attributes
    ----------
    wrong : int
        Number of labels known to be wrong.
    auroc : float
        Chance that a wrong label has a lower AUM than another; one half for guessing.
    average_precision : float
        Mean over the wrong labels of the precision at their rank; the share of wrong labels for guessing.
    budget : int
        How many labels somebody would review.
    found_within_budget : float
        Share of the wrong labels that are among the `budget` lowest AUMs; expected, where AUMs tie at the edge.
    precision, recall : float or None
        Of the flagged samples. None where nobody said what was flagged; the precision also where nothing was.

    Examples
    --------
    >>> found = measure_detection([0.5, -1.0, 2.0], [False, True, False], flagged=[True, True, False])
    >>> found.precision, found.recall
    (0.5, 1.0)
    """

    wrong: int
    auroc: float
    average_precision: float
    budget: int
    found_within_budget: float
    precision: float | None
    recall: float | None

    def describe(self) -> dict[str, Any]:
        """Tell the figures by name, as ``run.json`` has them.

        Returns
        -------
        dict of str to int, float or None
        """
        return asdict(self)


def measure_detection(
    aums: ArrayLike, wrong: ArrayLike, *, flagged: ArrayLike | None = None, budget: int | None = None
) -> Detection:
    """Compare AUMs with the labels that are known to be wrong.

    Parameters
    ----------
    aums : array_like of shape (N,), floats
        The lower, the more suspicious; any other such score will do. NaN (never measured) is the least suspicious.
    wrong : array_like of shape (N,), bool
        Neither all False nor all True.
    flagged : array_like of shape (N,), bool, optional
        Which labels a cut-off held to be wrong.
    budget : int, optional
        How many labels would be reviewed; as many as are wrong by default.

    Returns
    -------
    Detection
        The AUROC with ties counting half, and the average precision without interpolation, as scikit-learn has them.

    Raises
    ------
    TypeError, ValueError
        Where an argument does not fit.

    Examples
    --------
    >>> found = measure_detection([0.5, -1.0, 2.0, -0.5], [False, True, False, False])
    >>> found.auroc, found.average_precision, found.found_within_budget
    (1.0, 1.0, 1.0)
    """
    is_wrong = _mask("wrong", wrong)
    num_samples, num_wrong = len(is_wrong), int(is_wrong.sum())
    suspicion = -np.asarray(aums, dtype=np.float64)
    if suspicion.shape != (num_samples,):
        raise ValueError(f"aums: shape {suspicion.shape}, want ({num_samples},): one for each of `wrong`")
    if not 0 < num_wrong < num_samples:
        raise ValueError(f"wrong: {num_wrong} of {num_samples} labels are wrong, want some wrong and some not")
    budget = num_wrong if budget is None else budget
    if not 1 <= budget <= num_samples:
        raise ValueError(f"budget: {budget}, want a number of samples in [1, {num_samples}]")
    steps = _Steps.of(np.where(np.isnan(suspicion), -np.inf, suspicion), is_wrong)
    precision, recall = (None, None) if flagged is None else _of_flagged(_mask("flagged", flagged), is_wrong)
    return Detection(
        wrong=num_wrong,
        auroc=steps.auroc(),
        average_precision=steps.average_precision(),
        budget=budget,
        found_within_budget=steps.found_within(budget),
        precision=precision,
        recall=recall,
    )


@dataclass(frozen=True, slots=True)
class _Steps:
    """The ranking, one step for each value of the score: samples so far, and how many of them are wrong, each (S,)."""

    seen: NDArray[np.int64]
    hits: NDArray[np.int64]

    @classmethod
    def of(cls, suspicion: NDArray[np.float64], wrong: NDArray[np.bool_]) -> _Steps:
        order = np.argsort(-suspicion, kind="stable")
        ranked = suspicion[order]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        return cls(ends + 1, np.cumsum(wrong[order], dtype=np.int64)[ends])

    def auroc(self) -> float:
        """Area under the curve of hits over false alarms, by trapezoids: ties count half."""
        alarms = self.seen - self.hits
        return float(np.trapezoid(np.append(0, self.hits), np.append(0, alarms)) / (self.hits[-1] * alarms[-1]))

    def average_precision(self) -> float:
        """Sum of the precision after each step times its share of the hits, without interpolation."""
        gained = np.diff(self.hits, prepend=0) / self.hits[-1]
        return float(np.sum(gained * self.hits / self.seen))

    def found_within(self, budget: int) -> float:
        """Share of the hits among the first `budget`; of tied samples any may come first."""
        hits = np.interp(budget, np.append(0, self.seen), np.append(0, self.hits))
        return float(hits / self.hits[-1])


def _mask(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    mask = np.asarray(values)
    if mask.dtype != np.bool_ or mask.ndim != 1:
        raise TypeError(f"{name}: dtype {mask.dtype} and shape {mask.shape}, want bools of shape (N,)")
    return mask


def _of_flagged(flagged: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> tuple[float | None, float]:
    """Precision (None where nothing is flagged) and recall."""
    if flagged.shape != wrong.shape:
        raise ValueError(f"flagged: shape {flagged.shape}, want {wrong.shape}: one for each of `wrong`")
    found, count = int((flagged & wrong).sum()), int(flagged.sum())
    return found / count if count else None, found / int(wrong.sum())
