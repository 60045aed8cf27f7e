"""The plots of the page."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from experiments import NOISES
from measure import AUM, BEST, IN_FOLDS, IN_SAMPLE, PAPER, POSTERIOR

mpl.use("Agg")  # files, no windows

from matplotlib import pyplot as plt  # after the choice of how to draw

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from summary import Case, Summary

DOTS_PER_INCH = 110
_COLOURS = ("#0072B2", "#56B4E9", "#009E73", "#000000", "#D55E00", "#E69F00", "#CC79A7")
_MARKS = tuple(zip(_COLOURS, "oDvs^PX", strict=True))


@dataclass(frozen=True)
class Series:
    """A figure to draw, and how; the colours are told apart by colour-blind people too (Okabe and Ito)."""

    label: str
    colour: str
    marker: str
    names: tuple[str, ...]


RANKINGS = [
    Series(score, colour, marker, ("rankings", score, "average_precision"))
    for score, colour, marker in (
        (AUM, "#0072B2", "o"),
        ("bounded AUM", "#56B4E9", "D"),
        (POSTERIOR, "#CC79A7", "X"),
        (IN_FOLDS, "#D55E00", "s"),
        (IN_SAMPLE, "#E69F00", "^"),
    )
]
CUTS = [
    Series(PAPER, "#0072B2", "o", ("cuts", PAPER, "f1")),
    Series("2 runs, 95th, all", "#56B4E9", "D", ("cuts", "2 runs, 95th, all", "f1")),
    Series("plain run, AUM < 0", "#009E73", "v", ("cuts", "plain run, AUM < 0", "f1")),
    Series(POSTERIOR, "#CC79A7", "X", ("cuts", POSTERIOR, "f1")),
    Series(IN_FOLDS, "#D55E00", "s", ("cuts", IN_FOLDS, "f1")),
    Series(IN_SAMPLE, "#E69F00", "^", ("cuts", IN_SAMPLE, "f1")),
    Series(BEST, "#000000", "_", ("cuts", BEST, "f1")),
]
CLEAN = [Series(each.label, each.colour, each.marker, (*each.names[:2], "removed")) for each in CUTS[:-1]]
ERRORS = [
    Series("noisy: nothing removed", "#000000", "_", ("errors", "noisy")),
    *(Series(each.label, each.colour, each.marker, ("errors", each.label)) for each in (CUTS[0], *CUTS[3:6])),
    Series("oracle: only right labels", "#999999", "_", ("errors", "oracle")),
]


def draw_all(summary: Summary, folder: Path) -> list[tuple[str, str]]:
    """Write the plots; file names, and what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    balanced = summary.cases(1) or summary.cases()
    drawn = [
        ("ranking.png", "Average precision of the rankings", _panels(summary, balanced, RANKINGS, "average precision")),
        ("cutoffs.png", "F1 of the cut-offs", _panels(summary, balanced, CUTS, "F1")),
        ("clean.png", "Share that is removed though no label was flipped", _clean(summary)),
        ("predictions.png", "Precision and recall of the noise posterior, predicted and true", _predictions(summary)),
        ("retraining.png", "Test error after retraining", _panels(summary, balanced, ERRORS, "test error, %")),
    ]
    for name, _, figure in drawn:
        figure.savefig(folder / name, dpi=DOTS_PER_INCH, metadata={"Software": None})
        plt.close(figure)
    return [(name, title) for name, title, _ in drawn]


def _panels(summary: Summary, cases: Sequence[Case], series: Sequence[Series], what: str) -> Any:
    """One panel for each case, the kinds of noise side by side."""
    scale = 100 if what.endswith("%") else 1
    noises_of = {case: _measured(summary, case, series) for case in cases}
    panels = [case for case in cases if noises_of[case]] or list(cases)[:1]
    columns = min(3, len(panels))
    rows, legend_rows = -(-len(panels) // columns), -(-len(series) // columns)
    size = (4.2 * columns, 2.6 * rows + 0.5 + 0.2 * legend_rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, case in zip(axes.flat, panels, strict=False):
        noises = noises_of[case]
        for place, each in enumerate(series):
            shift = 0.0 if each.marker == "_" else (place - (len(series) - 1) / 2) * 0.7 / len(series)
            _dots(axis, each, [summary.values(case, noise, *each.names) for noise in noises], shift, scale)
        # a share up to 1, an error up to the largest there is
        top = 1.03 if scale == 1 else 1.08 * _largest(summary, case, noises, series)
        axis.set_title(str(case), fontsize=10)
        axis.set_xticks(range(len(noises)), [noise.replace(" ", "\n", 1) for noise in noises], fontsize=7)
        axis.set_xlim(-0.6, len(noises) - 0.4)
        axis.set_ylim(-0.03 * scale * top, scale * top)
        axis.grid(axis="y", alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    figure.supylabel(what, fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    return figure


def _measured(summary: Summary, case: Case, series: Sequence[Series]) -> list[str]:
    """The kinds of noise for which all of the series have figures."""
    return [noise for noise in summary.noises([case]) if all(summary.values(case, noise, *e.names) for e in series)]


def _largest(summary: Summary, case: Case, noises: Sequence[str], series: Sequence[Series]) -> float:
    values = (summary.values(case, noise, *each.names) for noise in noises for each in series)
    return max((max(each) for each in values), default=1.0)


def _dots(axis: Any, series: Series, values: Sequence[Sequence[float]], shift: float, scale: float) -> None:
    """The mean of the seeds as a mark, and a line from the lowest to the highest."""
    places = [index + shift for index, each in enumerate(values) if each]
    there = [[scale * value for value in each] for each in values if each]
    wide = {"markersize": 22, "markeredgewidth": 1.6} if series.marker == "_" else {"markersize": 4.5}
    axis.vlines(places, [min(each) for each in there], [max(each) for each in there], series.colour, lw=1)
    means = [fmean(each) for each in there]
    axis.plot(places, means, series.marker, color=series.colour, label=series.label, linestyle="none", **wide)


def _predictions(summary: Summary) -> Any:
    """Predicted against true precision and recall, a mark for each case and noise (mean of the seeds)."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained", sharex=True, sharey=True)
    cases = summary.cases()
    noises = [noise for noise in NOISES if noise != "none" and any(noise in summary.noises([each]) for each in cases)]
    for axis, what in zip(axes, ("precision", "recall"), strict=True):
        for (colour, marker), noise in zip(_MARKS, noises, strict=False):
            pairs = [
                (summary.mean([case], noise, "cuts", POSTERIOR, what), summary.mean([case], noise, "predicted", what))
                for case in cases
            ]
            there = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
            axis.plot(there[:, 0], there[:, 1], marker, color=colour, label=noise, markersize=5)
        axis.plot([0, 1], [0, 1], color="#999999", lw=1)
        axis.set_xlabel(f"true {what}")
        axis.set_ylabel(f"predicted {what}")
        axis.set_aspect("equal")
        axis.grid(alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


def _clean(summary: Summary) -> Any:
    """One line for each case without noise: % removed by each rule."""
    cases = [case for case in summary.cases() if "none" in summary.noises([case])][::-1]
    figure, axis = plt.subplots(figsize=(9, 0.34 * len(cases) + 1.6), layout="constrained")
    for place, each in enumerate(CLEAN):
        values = [summary.values(case, "none", *each.names) for case in cases]
        heights = [index - (place - (len(CLEAN) - 1) / 2) * 0.14 for index in range(len(cases))]
        low, high = ([100 * pick(value) for value in values] for pick in (min, max))
        axis.hlines(heights, low, high, each.colour, lw=1)
        means = [100 * fmean(value) for value in values]
        axis.plot(means, heights, each.marker, color=each.colour, label=each.label, linestyle="none", markersize=4.5)
    axis.set_yticks(range(len(cases)), [str(case) for case in cases], fontsize=9)
    axis.set_xlabel("% of the samples")
    axis.set_xlim(left=-0.5)
    axis.set_ylim(-0.6, len(cases) - 0.4)
    axis.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure
