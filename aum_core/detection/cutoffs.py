"""Where to stop in a ranking: what a rule flags, and four rules that need no threshold samples.

The paper's own rule is `ThresholdPlan.cut`. The rules here take what one plain run gives: the AUMs, and the noise
posterior where it was kept. Each is chosen by its name and told in ``run.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from aum_core.posterior.estimate import NoisePosterior

__all__ = ["Budget", "Cut", "Cutoff", "LikelyWrong", "Precision", "ZeroMargin"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Which samples a rule flags, and every choice that led to it.

    Attributes
    ----------
    flagged : ndarray of shape (N,), bool
        True where the label is held to be wrong, or is to be reviewed.
    undecided : ndarray of shape (N,), bool
        True where the rule had nothing to go by: the sample was not measured, or was a threshold sample in every run.
        Never flagged.
    rule : dict of str to JSON values
        The rule in words, under "rule", and its numbers.
    cutoffs : ndarray of shape (runs,), float64, optional
        Only of `ThresholdPlan.cut`: the AUM below which a regular sample of each run is flagged.

    Examples
    --------
    >>> cut = ZeroMargin().cut([0.5, -1.0, np.nan])
    >>> cut.flagged, cut.undecided
    (array([False,  True, False]), array([False, False,  True]))
    """

    flagged: NDArray[np.bool_]
    undecided: NDArray[np.bool_]
    rule: dict[str, Any]
    cutoffs: NDArray[np.float64] | None = None

    @property
    def keep(self) -> NDArray[np.bool_]:
        """True, (N,), for the samples that are not flagged."""
        return ~self.flagged

    def describe(self) -> dict[str, Any]:
        """Tell the rule and what it flags, as ``run.json`` has them.

        Returns
        -------
        dict of str to JSON values

        Examples
        --------
        >>> ZeroMargin().cut([0.5, -1.0, 2.0]).describe()
        {'rule': 'AUM below zero', 'flagged': 1, 'undecided': 0}
        """
        cutoffs = {} if self.cutoffs is None else {"cutoffs": self.cutoffs.tolist()}
        return {**self.rule, **cutoffs, "flagged": int(self.flagged.sum()), "undecided": int(self.undecided.sum())}


class Cutoff(Protocol):
    """A rule that says which samples of a run are flagged."""

    def cut(self, aums: ArrayLike, posterior: NoisePosterior | None = None) -> Cut:
        """Apply the rule.

        Parameters
        ----------
        aums : array_like of shape (N,), floats
            By row of the data set; NaN where a sample was not measured.
        posterior : NoisePosterior, optional
            Of the same rows, where it was kept.

        Returns
        -------
        Cut

        Raises
        ------
        ValueError
            Where the rule needs the noise posterior and there is none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """The most suspicious samples, as many as somebody will review.

    They are those that the noise posterior holds to be wrong the most, or those with the lowest AUMs where there is
    none; of tied ones the first rows.

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
    >>> aums = np.array([0.5, -1.0, 2.0, -0.5])
    >>> Budget(2).cut(aums).flagged
    array([False,  True, False,  True])
    >>> Budget(0.25).cut(aums).describe()["flagged"]
    1
    """

    size: float

    def __post_init__(self) -> None:
        _check_number("size", self.size)
        if not (0 < self.size < 1 or (self.size >= 1 and self.size % 1 == 0)):
            raise ValueError(f"size: {self.size!r}, want a number of samples such as 100, or a share such as 0.05")

    def cut(self, aums: ArrayLike, posterior: NoisePosterior | None = None) -> Cut:
        """Flag the most suspicious samples; see `Cutoff.cut`."""
        scores = np.asarray(aums, dtype=np.float64) if posterior is None else 1 - posterior.probabilities
        undecided = np.isnan(scores)
        count = round(self.size * len(scores)) if self.size < 1 else int(self.size)
        chosen = np.argsort(scores, kind="stable")[: min(count, int((~undecided).sum()))]  # NaN comes last
        flagged = np.zeros(len(scores), np.bool_)
        flagged[chosen] = True
        size = float(self.size) if self.size < 1 else int(self.size)
        return Cut(flagged, undecided, {"rule": "a budget: the most suspicious samples", "budget": size})


@dataclass(frozen=True, slots=True)
class ZeroMargin:
    """The samples that the network mostly believed to be of another class: AUM below zero.

    Examples
    --------
    >>> ZeroMargin().cut([0.5, -1.0, np.nan]).flagged
    array([False,  True, False])
    """

    def cut(self, aums: ArrayLike, posterior: NoisePosterior | None = None) -> Cut:  # noqa: ARG002 # other rules need it
        """Flag the AUMs below zero; see `Cutoff.cut`."""
        values = np.asarray(aums, dtype=np.float64)
        return Cut(values < 0, np.isnan(values), {"rule": "AUM below zero"})


@dataclass(frozen=True, slots=True)
class LikelyWrong:
    """The labels that are more likely wrong than right, by the noise posterior.

    None where its verdict is "undetermined".

    Examples
    --------
    >>> from aum_core import NoisePosterior
    >>> chances = np.array([0.1, 0.9, 0.4, 0.8])
    >>> posterior = NoisePosterior(chances, np.array([0, 1, 0, 1]), np.eye(2), 2, "class-conditional", 1.0, 0.0)
    >>> LikelyWrong().cut(1 - chances, posterior).flagged
    array([False,  True, False,  True])
    """

    def cut(self, aums: ArrayLike, posterior: NoisePosterior | None = None) -> Cut:  # noqa: ARG002 # other rules need it
        """Flag probabilities above one half; see `Cutoff.cut`."""
        kept = _required(posterior)
        return _by_posterior(kept, kept.flagged, {"rule": "noise posterior above one half"})


@dataclass(frozen=True, slots=True)
class Precision:
    """As many labels as can be flagged with a wanted share of them expected to be wrong, by the noise posterior.

    None where not even the most suspicious label is that likely wrong, or the verdict is "undetermined".

    Parameters
    ----------
    precision : float
        In (0, 1].

    Raises
    ------
    TypeError, ValueError
        Where it is no such share.

    Examples
    --------
    >>> from aum_core import NoisePosterior
    >>> chances = np.array([0.1, 0.9, 0.4, 0.8])
    >>> posterior = NoisePosterior(chances, np.array([0, 1, 0, 1]), np.eye(2), 2, "class-conditional", 1.0, 0.0)
    >>> Precision(0.7).cut(1 - chances, posterior).flagged
    array([False,  True,  True,  True])
    """

    precision: float

    def __post_init__(self) -> None:
        _check_number("precision", self.precision)
        if not 0 < self.precision <= 1:
            raise ValueError(f"precision: {self.precision}, want a share in (0, 1], such as 0.9")

    def cut(self, aums: ArrayLike, posterior: NoisePosterior | None = None) -> Cut:  # noqa: ARG002 # other rules need it
        """Flag the longest head of the ranking whose mean probability is at least the precision; see `Cutoff.cut`."""
        kept = _required(posterior)
        rule = {
            "rule": "noise posterior: as many as can be with this share of them expected to be wrong",
            "precision": float(self.precision),
        }
        flagged = np.zeros(len(kept.probabilities), np.bool_)
        if kept.verdict != "undetermined":
            order = kept.most_suspicious(int(np.count_nonzero(~np.isnan(kept.probabilities))))
            means = np.cumsum(kept.probabilities[order]) / np.arange(1, len(order) + 1)
            flagged[order[: np.count_nonzero(means >= self.precision)]] = True  # means of a falling row fall
        return _by_posterior(kept, flagged, rule)


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: {value!r}, want a number")


def _required(posterior: NoisePosterior | None) -> NoisePosterior:
    if posterior is None:
        raise ValueError("cutoff: it needs the noise posterior, want Budget or ZeroMargin where that was not kept")
    return posterior


def _by_posterior(posterior: NoisePosterior, flagged: NDArray[np.bool_], rule: dict[str, Any]) -> Cut:
    described = posterior.describe(flagged)
    expected = {name: described[name] for name in ("verdict", "predicted_precision", "predicted_recall")}
    return Cut(flagged, np.isnan(posterior.probabilities), {**rule, **expected})
