"""The tables: data files for all that was measured, and short ones in Markdown for the page."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING

from measure import AUM, BEST, IN_FOLDS, IN_SAMPLE, PAPER, POSTERIOR, RETRAINED, RULES, SCORES, costs
from nets import settling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from experiments import Experiment
    from summary import Case, Summary

NOTHING = "-"
# What a reader of the page is told, who has not read `measure.py`.
WORDS = {
    AUM: "AUM",
    PAPER: "threshold samples, 99th percentile (the paper's rule)",
    "2 runs, 95th, all": "threshold samples, 95th percentile",
    "plain run, AUM < 0": "AUM below 0",
    POSTERIOR: "noise posterior (the default)",
    IN_FOLDS: "cleanlab, 3 folds",
    IN_SAMPLE: "cleanlab, the same run",
    BEST: "best cut on AUM (needs the truth)",
}
RANKINGS = (AUM, "bounded AUM", POSTERIOR, IN_FOLDS, IN_SAMPLE)
CUTS = (PAPER, "2 runs, 95th, all", "plain run, AUM < 0", POSTERIOR, IN_FOLDS, IN_SAMPLE, BEST)

Rows = list[list[str]]
_PLACE = ["data", "net", "class_sizes", "noise"]


def words(name: str) -> str:
    """A score or a rule, as the page calls it."""
    return WORDS.get(name, name)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table, the first column to the left."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def data_files(summary: Summary, planned: Sequence[Experiment]) -> dict[str, Rows]:
    """Name and lines of each data file, the header first; figures are means over the seeds."""
    return {
        "experiments.csv": _experiments(summary, planned),
        "rankings.csv": _rankings(summary),
        "cutoffs.csv": _cutoffs(summary),
        "predictions.csv": _predictions(summary),
        "test_errors.csv": _test_errors(summary),
    }


def _experiments(summary: Summary, planned: Sequence[Experiment]) -> Rows:
    """What was run, and how much of what is planned is there."""
    done = set(summary.experiments)
    counts = Counter((each.data, each.net, each.imbalance) for each in planned if each in done)
    of = Counter((each.data, each.net, each.imbalance) for each in planned)
    header = ["data", "net", "class_sizes", "training_samples", "test_samples", "classes"]
    rows = [[*header, "epochs", "unmeasured_epochs", "kinds_of_noise", "seeds", "planned", "done"]]
    for place in sorted(of):
        mine = [each for each in planned if (each.data, each.net, each.imbalance) == place]
        cases = [case for case in summary.cases() if (case.data, case.net, case.imbalance) == place]
        sizes = [_size(summary, cases, name) for name in ("samples", "test_samples", "num_classes")]
        numbers = [mine[0].epochs, settling(mine[0].epochs), len({each.noise for each in mine})]
        numbers += [len({each.seed for each in mine}), of[place], counts[place]]
        rows.append([place[0], place[1], f"{place[2]}:1", *sizes, *map(str, numbers)])
    return rows


def _size(summary: Summary, cases: Sequence[Case], name: str) -> str:
    return next((f"{summary.values(case, summary.noises([case])[0], name)[0]:.0f}" for case in cases), "")


def _places(summary: Summary) -> Iterator[tuple[Case, str, list[str]]]:
    """Each case with each of its kinds of noise, and how a line about them begins."""
    for case in summary.cases():
        for noise in summary.noises([case]):
            yield case, noise, [case.data, case.net, f"{case.imbalance}:1", noise]


def _rankings(summary: Summary) -> Rows:
    rows = [[*_PLACE, "score", "auroc", "average_precision"]]
    for case, noise, place in _places(summary):
        for score in SCORES if noise != "none" else ():
            figures = [summary.mean([case], noise, "rankings", score, name) for name in rows[0][-2:]]
            rows.append([*place, score, *map(_cell, figures)])
    return rows


def _cutoffs(summary: Summary) -> Rows:
    """With how many epochs a rule takes, as a multiple of those of a plain run."""
    rows = [[*_PLACE, "rule", "runs", "precision", "recall", "f1", "removed"]]
    runs = {rule: f"{epochs / 100:g}" for rule, epochs in costs(100).items()}
    for case, noise, place in _places(summary):
        for rule in RULES if noise != "none" else [rule for rule in RULES if rule != BEST]:
            figures = [summary.mean([case], noise, "cuts", rule, name) for name in rows[0][-4:]]
            rows.append([*place, rule, runs[rule], *map(_cell, figures)])
    return rows


def _predictions(summary: Summary) -> Rows:
    """What the noise posterior says of itself beside what is so, and how often it came to which verdict."""
    names = ["wrong", "said_wrong", "precision", "said_precision", "recall", "said_recall"]
    rows = [[*_PLACE, *names, "symmetric", "undetermined"]]
    paths = (
        ("wrong_share",),
        ("predicted", "removed"),
        *(path for name in ("precision", "recall") for path in (("cuts", POSTERIOR, name), ("predicted", name))),
        ("predicted", "symmetric"),
        ("predicted", "undetermined"),
    )
    for case, noise, place in _places(summary):
        rows.append([*place, *(_cell(summary.mean([case], noise, *path)) for path in paths)])
    return rows


def _test_errors(summary: Summary) -> Rows:
    """By what the net was trained on: the mean, the lowest and the highest of the seeds."""
    rows = [[*_PLACE, "trained_on", "error", "lowest", "highest"]]
    for case, noise, place in _places(summary):
        for name in RETRAINED:
            values = summary.values(case, noise, "errors", name)
            if values:
                rows.append([*place, name, *map(_cell, (fmean(values), min(values), max(values)))])
    return rows


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def ranking_table(summary: Summary, cases: Sequence[Case]) -> str:
    """Average precision by ranking and noise: means over the cases."""
    noises = [each for each in summary.noises(cases) if each != "none"]
    rows = [
        [
            words(score),
            *(_share(summary.mean(cases, noise, "rankings", score, "average_precision")) for noise in noises),
        ]
        for score in RANKINGS
    ]
    return markdown(["average precision", *noises], rows)


def cut_table(summary: Summary, cases: Sequence[Case]) -> str:
    """F1 by rule and noise, means over the cases; without noise the share of the labels that is flagged."""
    noises = summary.noises(cases)
    rows = []
    for rule in CUTS:
        cells = [summary.mean(cases, noise, "cuts", rule, "removed" if noise == "none" else "f1") for noise in noises]
        rows.append([words(rule), f"{costs(100)[rule] / 100:g}", *map(_share, cells)])
    return markdown(["F1", "runs", *("none: flagged" if noise == "none" else noise for noise in noises)], rows)


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}".removeprefix("0")
