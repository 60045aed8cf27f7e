"""Where to stop in a ranking that has no threshold samples: four rules, each chosen by name and told in ``run.json``.

The paper's own rule is `ThresholdPlan.cut`. The rules here take what one run gives: a score of which the lowest values
are the most suspicious, the AUMs, and the noise posterior where it was kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core.posterior.estimate import NoisePosterior

__all__ = ["Budget", "Cutoff", "LikelyWrong", "Precision", "Ranking", "RankingCut", "ZeroMargin"]


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a rule may look at, by row.

    Attributes
    ----------
    scores : ndarray of shape (N,), float64
        The lower, the more suspicious; NaN where a sample was not measured.
    aums : ndarray of shape (N,), float64
    posterior : NoisePosterior, optional
    """

    scores: NDArray[np.float64]
    aums: NDArray[np.float64]
    posterior: NoisePosterior | None = None


@dataclass(frozen=True, slots=True)
class RankingCut:
    """Which samples a rule flags, and the choice that led to it.

    Attributes
    ----------
    flagged : ndarray of shape (N,), bool
        True where the label is held to be wrong, or is to be reviewed.
    undecided : ndarray of shape (N,), bool
        True where the sample was not measured. Never flagged.
    rule : dict
        The rule in words and numbers.
    """

    flagged: NDArray[np.bool_]
    undecided: NDArray[np.bool_]
    rule: dict[str, Any]

    @property
    def keep(self) -> NDArray[np.bool_]:
        """True, (N,), for the samples that are not flagged."""
        return ~self.flagged

    def describe(self) -> dict[str, Any]:
        """The rule and what it flags, as ``run.json`` has them."""
        return {**self.rule, "flagged": int(self.flagged.sum()), "undecided": int(self.undecided.sum())}


class Cutoff(Protocol):
    """A rule that says which samples of a ranking are flagged."""

    def cut(self, ranking: Ranking) -> RankingCut:
        """Apply the rule."""
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """The most suspicious samples, as many as somebody will review.

    Parameters
    ----------
    size : int or float
        A number of samples of at least 1, or a share of them in (0, 1).

    Raises
    ------
    TypeError, ValueError
        Where it is neither.

    Examples
    --------
    >>> scores = np.array([0.5, -1.0, 2.0, -0.5])
    >>> Budget(2).cut(Ranking(scores, scores)).flagged.tolist()
    [False, True, False, True]
    >>> Budget(0.25).cut(Ranking(scores, scores)).describe()["flagged"]
    1
    """

    size: float

    def __post_init__(self) -> None:
        _check_number("size", self.size)
        if not (0 < self.size < 1 or (self.size >= 1 and self.size % 1 == 0)):
            raise ValueError(f"size: {self.size!r}, want a number of samples such as 100, or a share such as 0.05")

    def cut(self, ranking: Ranking) -> RankingCut:
        """Flag the lowest scores; of tied ones the first rows."""
        undecided = np.isnan(ranking.scores)
        count = round(self.size * len(undecided)) if self.size < 1 else int(self.size)
        chosen = np.argsort(ranking.scores, kind="stable")[: min(count, int((~undecided).sum()))]  # NaN comes last
        flagged = np.zeros(len(undecided), np.bool_)
        flagged[chosen] = True
        size = float(self.size) if self.size < 1 else int(self.size)
        return RankingCut(flagged, undecided, {"rule": "a budget: the most suspicious samples", "budget": size})


@dataclass(frozen=True, slots=True)
class ZeroMargin:
    """The samples that the network mostly believed to be of another class: AUM below zero.

    Examples
    --------
    >>> aums = np.array([0.5, -1.0, np.nan])
    >>> ZeroMargin().cut(Ranking(aums, aums)).flagged.tolist()
    [False, True, False]
    """

    def cut(self, ranking: Ranking) -> RankingCut:
        """Flag the AUMs below zero."""
        return RankingCut(ranking.aums < 0, np.isnan(ranking.aums), {"rule": "AUM below zero"})


@dataclass(frozen=True, slots=True)
class LikelyWrong:
    """The labels that are more likely wrong than right, by the noise posterior."""

    def cut(self, ranking: Ranking) -> RankingCut:
        """Flag probabilities above one half."""
        posterior = _required(ranking)
        return _of_posterior(posterior, posterior.flagged, {"rule": "noise posterior above one half"})


@dataclass(frozen=True, slots=True)
class Precision:
    """As many labels as can be flagged with a wanted share of them wrong, by the noise posterior.

    Parameters
    ----------
    precision : float
        In (0, 1].

    Raises
    ------
    TypeError, ValueError
        Where it is no such share.
    """

    precision: float

    def __post_init__(self) -> None:
        _check_number("precision", self.precision)
        if not 0 < self.precision <= 1:
            raise ValueError(f"precision: {self.precision}, want a share in (0, 1], such as 0.9")

    def cut(self, ranking: Ranking) -> RankingCut:
        """Flag the longest head of the ranking whose mean probability is at least the precision."""
        posterior = _required(ranking)
        rule = {
            "rule": "noise posterior: as many as can be with this share of them expected to be wrong",
            "precision": float(self.precision),
        }
        return _of_posterior(posterior, posterior.flag_at_precision(self.precision), rule)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: {value!r}, want a number")


def _required(ranking: Ranking) -> NoisePosterior:
    if ranking.posterior is None:
        raise ValueError("cutoff: it needs the noise posterior, want Budget or ZeroMargin where that was not kept")
    return ranking.posterior


def _of_posterior(posterior: NoisePosterior, flagged: NDArray[np.bool_], rule: dict[str, Any]) -> RankingCut:
    told = posterior.describe(flagged)
    expected = {name: told[name] for name in ("verdict", "predicted_precision", "predicted_recall")}
    return RankingCut(flagged, np.isnan(posterior.probabilities), {**rule, **expected})
