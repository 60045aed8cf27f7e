"""The plots of the page: each answers one question, for a reader who has read nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from experiments import NOISES
from measure import AUM, BEST, IN_FOLDS, IN_SAMPLE, PAPER, POSTERIOR
from tables import CUTS, RANKINGS, words

mpl.use("Agg")  # files, no windows

from matplotlib import pyplot as plt  # after the choice of how to draw

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from summary import Case, Summary

DOTS_PER_INCH = 110
# Told apart by colour-blind people too (Okabe and Ito), and by their marks in print.
_LOOKS = {
    AUM: ("#0072B2", "o"),
    PAPER: ("#0072B2", "o"),
    "bounded AUM": ("#56B4E9", "D"),
    "2 runs, 95th, all": ("#56B4E9", "D"),
    "plain run, AUM < 0": ("#009E73", "v"),
    POSTERIOR: ("#CC79A7", "X"),
    IN_FOLDS: ("#D55E00", "s"),
    IN_SAMPLE: ("#E69F00", "^"),
    BEST: ("#000000", "_"),
    "noisy": ("#000000", "_"),
    "oracle": ("#999999", "_"),
}
_NOISE_LOOKS = tuple(
    zip(("#0072B2", "#56B4E9", "#009E73", "#000000", "#D55E00", "#E69F00", "#CC79A7"), "oDvs^PX", strict=True)
)


@dataclass(frozen=True)
class Series:
    """A figure to draw: what the legend calls it, its look, and its names in the results."""

    label: str
    look: tuple[str, str]
    names: tuple[str, ...]


def _series(kind: str, names: Sequence[str], *figure: str) -> list[Series]:
    return [Series(words(name), _LOOKS[name], (kind, name, *figure)) for name in names]


_ERRORS = [
    Series("nothing removed", _LOOKS["noisy"], ("errors", "noisy")),
    *_series("errors", (PAPER, POSTERIOR, IN_FOLDS)),
    Series("all wrong labels removed (needs the truth)", _LOOKS["oracle"], ("errors", "oracle")),
]


def draw_all(summary: Summary, folder: Path) -> None:
    """Write the plots into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = summary.full_cases(1) or summary.cases()
    noises = summary.noises(cases)
    wrong = [noise for noise in noises if noise != "none"]
    retrained = [noise for noise in noises if summary.mean(cases, noise, "errors", "oracle") is not None]
    drawn = {
        "ranking": _by_noise(
            summary, cases, wrong, _series("rankings", RANKINGS, "average_precision"), "average precision"
        ),
        "cutoffs": _by_noise(summary, cases, wrong, _series("cuts", CUTS, "f1"), "F1 of what is flagged"),
        "retraining": _by_noise(summary, cases, retrained, _ERRORS, "test error after removal, %"),
        "clean": _clean(summary),
        "predictions": _predictions(summary),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        plt.close(figure)


def _by_noise(
    summary: Summary, cases: Sequence[Case], noises: Sequence[str], series: Sequence[Series], what: str
) -> Any:
    """For each kind of noise the mean over the data sets as a mark, and a line from the worst to the best of them."""
    scale = 100 if what.endswith("%") else 1
    figure, axis = plt.subplots(figsize=(10, 5.2), layout="constrained")
    for place, each in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * 0.75 / len(series)
        values = [_means(summary, cases, noise, each, scale) for noise in noises]
        _marks(axis, each, [index + shift for index in range(len(noises))], values)
    for edge in range(1, len(noises)):
        axis.axvline(edge - 0.5, color="#DDDDDD", lw=1)
    axis.set_xticks(range(len(noises)), [_in_lines(noise) for noise in noises], fontsize=11)
    axis.set_xlim(-0.5, len(noises) - 0.5)
    axis.set_ylim(bottom=0, top=1.02 if scale == 1 else None)
    axis.set_ylabel(what, fontsize=12)
    axis.grid(axis="y", alpha=0.3)
    figure.suptitle(f"Marks: mean over {len(cases)} data sets. Lines: from the worst to the best of them.", fontsize=11)
    return _with_legend(figure, axis)


def _in_lines(noise: str) -> str:
    """The name of a kind of noise, as narrow as it goes."""
    return noise.replace("-", "-\n", 1).replace(" ", "\n", 1)


def _means(summary: Summary, cases: Sequence[Case], noise: str, series: Series, scale: int) -> list[float]:
    """The mean over the seeds of each case that has the figure."""
    values = [summary.values(case, noise, *series.names) for case in cases]
    return [scale * fmean(each) for each in values if each]


def _marks(axis: Any, series: Series, places: Sequence[float], values: Sequence[Sequence[float]]) -> None:
    colour, marker = series.look
    there = [(place, each) for place, each in zip(places, values, strict=True) if each]
    wide = {"markersize": 13, "markeredgewidth": 2.5} if marker == "_" else {"markersize": 7.5}
    axis.vlines([at for at, _ in there], [min(v) for _, v in there], [max(v) for _, v in there], colour, lw=1.3)
    means = [fmean(each) for _, each in there]
    at = [place for place, _ in there]
    axis.plot(at, means, marker, color=colour, label=series.label, linestyle="none", **wide)


def _with_legend(figure: Any, axis: Any) -> Any:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=10.5, frameon=False)
    return figure


def _clean(summary: Summary) -> Any:
    """For each case without noise the share of right labels that each rule flags."""
    cases = [case for case in summary.cases() if "none" in summary.noises([case])][::-1]
    series = _series("cuts", [rule for rule in CUTS if rule != BEST], "removed")
    figure, axis = plt.subplots(figsize=(10, 0.42 * len(cases) + 2), layout="constrained")
    for place, each in enumerate(series):
        heights = [index - (place - (len(series) - 1) / 2) * 0.13 for index in range(len(cases))]
        means = [_means(summary, [case], "none", each, 100)[0] for case in cases]
        colour, marker = each.look
        axis.plot(means, heights, marker, color=colour, label=each.label, linestyle="none", markersize=6.5)
    for edge in range(1, len(cases)):
        axis.axhline(edge - 0.5, color="#DDDDDD", lw=1)
    axis.set_yticks(range(len(cases)), [str(case) for case in cases], fontsize=10.5)
    axis.set_xlabel("right labels that are flagged, % of the samples (no label was flipped)", fontsize=12)
    axis.set_xlim(left=-0.8)
    axis.set_ylim(-0.5, len(cases) - 0.5)
    axis.grid(axis="x", alpha=0.3)
    return _with_legend(figure, axis)


def _predictions(summary: Summary) -> Any:
    """Predicted against true precision and recall, a mark for each case and noise."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 5.8), layout="constrained", sharex=True, sharey=True)
    cases = summary.cases()
    noises = [noise for noise in NOISES if noise != "none" and any(noise in summary.noises([each]) for each in cases)]
    for axis, what in zip(axes, ("precision", "recall"), strict=True):
        for (colour, marker), noise in zip(_NOISE_LOOKS, noises, strict=False):
            pairs = [
                (summary.mean([case], noise, "cuts", POSTERIOR, what), summary.mean([case], noise, "predicted", what))
                for case in cases
            ]
            there = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
            axis.plot(there[:, 0], there[:, 1], marker, color=colour, label=noise, markersize=7, linestyle="none")
        axis.plot([0, 1], [0, 1], color="#999999", lw=1)
        axis.text(0.06, 0.95, "says more than is true", fontsize=10.5, color="#555555")
        axis.text(0.52, 0.05, "says less than is true", fontsize=10.5, color="#555555")
        axis.set_xlabel(f"true {what}", fontsize=12)
        axis.set_ylabel(f"{what} that the noise posterior predicts", fontsize=12)
        axis.set_aspect("equal")
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=10.5, frameon=False)
    return figure
