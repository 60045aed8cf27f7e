"""Other scores of a sample than its AUM, from the same forward passes: data maps, EL2N, forgetting and their kin.

All of them are defined by epochs. So each epoch's measurements are added up by sample first; when the epoch ends, each
score takes what it wants of their means and the sums begin anew. A sample that comes several times in an epoch counts
by its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["SCORES", "Epoch", "Score", "check_names", "oriented", "suspicious_end"]

_EARLY_EPOCHS = 3
_SOFT_LIMIT = 0.5


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch brought: the rows (M,) measured in it, and the mean (M,) of each column over their measurements."""

    rows: NDArray[np.int64]
    means: Mapping[str, NDArray[np.float64]]


Suspicious = Literal["low", "high"] | None
"""Which end of a score has the samples whose labels may be wrong; None where neither has."""

Kept = dict[str, "NDArray[np.float64]"]
"""What scores keep from epoch to epoch, each (N,): ``"epochs"``, in which a sample was measured, and their own."""


@dataclass(frozen=True, slots=True)
class Score:
    """A score: the mean over the epochs of what it makes of each, where a subclass does not say otherwise.

    Attributes
    ----------
    name : str
        What users call it.
    needs : str
        The column of a measurement: "margin", or one of `aum_core.scores.needs.columns`.
    suspicious : {"low", "high"} or None
        Which values mean a suspicious sample: low ones, as with the AUM, high ones, or neither end.
    """

    name: str
    needs: str
    suspicious: Suspicious = "low"

    @property
    def keeps(self) -> tuple[str, ...]:
        """The names of what it keeps, the first of them its own."""
        return (self.name,)

    def take(self, kept: Kept, epoch: Epoch) -> None:
        """Take an epoch in; ``kept["epochs"]`` is that of the epochs before."""
        kept[self.name][epoch.rows] += epoch.means[self.needs]

    def values(self, kept: Kept) -> NDArray[np.float64]:
        """Give the score (N,); NaN where nothing was measured."""
        return _over_epochs(kept[self.name], kept["epochs"])


class _Spread(Score):
    """The standard deviation over the epochs: high of ambiguous samples, low of right and of wrong labels alike."""

    @property
    def keeps(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}_squares")

    def take(self, kept: Kept, epoch: Epoch) -> None:
        for power, name in enumerate(self.keeps, start=1):
            kept[name][epoch.rows] += epoch.means[self.needs] ** power

    def values(self, kept: Kept) -> NDArray[np.float64]:
        mean, square = (_over_epochs(kept[name], kept["epochs"]) for name in self.keeps)
        return np.sqrt(np.maximum(square - mean**2, 0.0))  # rounding may take it below zero


class _EarlyMean(Score):
    """The mean over a sample's first epochs."""

    @property
    def keeps(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}_epochs")

    def take(self, kept: Kept, epoch: Epoch) -> None:
        own, epochs = (kept[name] for name in self.keeps)
        early = kept["epochs"][epoch.rows] < _EARLY_EPOCHS
        own[epoch.rows[early]] += epoch.means[self.needs][early]
        epochs[epoch.rows[early]] += 1

    def values(self, kept: Kept) -> NDArray[np.float64]:
        return _over_epochs(*(kept[name] for name in self.keeps))


class _Forgetting(Score):
    """How often a sample was right in one epoch and wrong in the next; one that never was, in all its epochs."""

    @property
    def keeps(self) -> tuple[str, ...]:
        return (self.name, "right_before", "ever_right")

    def take(self, kept: Kept, epoch: Epoch) -> None:
        rows, right = epoch.rows, epoch.means[self.needs] > 0.5
        kept[self.name][rows] += (kept["right_before"][rows] > 0) & ~right
        kept["right_before"][rows] = right
        kept["ever_right"][rows[right]] = 1.0

    def values(self, kept: Kept) -> NDArray[np.float64]:
        events = np.where(kept["ever_right"] > 0, kept[self.name], kept["epochs"])
        return np.where(kept["epochs"] > 0, events, np.nan)


class _Bounded(Score):
    """The mean over the epochs of margins that no single epoch can dominate.

    Each is divided by half the mean absolute margin of its epoch and goes through tanh. In an epoch in which a whole
    class swings to another the margins are large, and would outweigh all others in the AUM.
    """

    def take(self, kept: Kept, epoch: Epoch) -> None:
        margins = epoch.means[self.needs]
        scale = _SOFT_LIMIT * np.abs(margins).mean()
        kept[self.name][epoch.rows] += np.tanh(margins / scale) if scale > 0 else 0.0


def _over_epochs(sums: NDArray[np.float64], epochs: NDArray[np.float64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.divide(sums, epochs, out=np.full(len(sums), np.nan), where=epochs > 0)
    return means


SCORES: dict[str, Score] = {
    each.name: each
    for each in (
        _Bounded("bounded_aum", "margin"),
        # data maps: Swayamdipta et al. 2020, arXiv 2009.10795
        Score("confidence", "confidence"),
        _Spread("variability", "confidence", suspicious=None),
        Score("correctness", "correct"),
        _EarlyMean("el2n", "error_norm", suspicious="high"),  # Paul et al. 2021, arXiv 2107.07075
        _Forgetting("forgetting", "correct", suspicious="high"),  # Toneva et al. 2019, arXiv 1812.05159
    )
}


def check_names(names: object) -> tuple[str, ...]:
    """Give the names of scores as a tuple, each of them known and there once.

    Examples
    --------
    >>> check_names(["confidence", "forgetting"])
    ('confidence', 'forgetting')
    """
    known = tuple(SCORES)
    if isinstance(names, str) or not hasattr(names, "__iter__"):
        raise TypeError(f"scores: {names!r}, want a list of names, such as [{known[0]!r}]")
    chosen = tuple(names)
    for each in chosen:
        if each not in known:
            raise ValueError(f"scores: {each!r}, want some of {', '.join(map(repr, known))}")
        if chosen.count(each) > 1:
            raise ValueError(f"scores: {each!r} is there twice, want each once")
    return chosen


def suspicious_end(name: str) -> Literal["low", "high"]:
    """Tell which values of a score, or of the "aum", mean that a label may be wrong.

    Parameters
    ----------
    name : str
        "aum", or one of `SCORES`.

    Returns
    -------
    "low" or "high"

    Raises
    ------
    ValueError
        Where there is no such score, or neither of its ends is suspicious.

    Examples
    --------
    >>> suspicious_end("forgetting")
    'high'
    """
    if name == "aum":
        return "low"
    end = SCORES[check_names([name])[0]].suspicious
    if end is None:
        ranking = ["aum", *(each.name for each in SCORES.values() if each.suspicious is not None)]
        raise ValueError(
            f"score: {name!r}, but neither its low nor its high values mean a wrong label; want one that ranks labels: "
            f"{', '.join(map(repr, ranking))}"
        )
    return end


def oriented(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn a score so that, as with the AUM, the lowest are the most suspicious.

    Parameters
    ----------
    name : str
        As of `suspicious_end`, whose errors it raises.
    values : ndarray of shape (N,), float64

    Examples
    --------
    >>> oriented("forgetting", np.array([0.0, 3.0]))
    array([-0., -3.])
    """
    return -values if suspicious_end(name) == "high" else values
