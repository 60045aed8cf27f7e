"""The tables of the page, in Markdown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from measure import BEST, POSTERIOR, RETRAINED, RULES, SCORES, costs
from nets import settling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments import Experiment
    from summary import Case, Summary

NOTHING = "-"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table, the first column to the left."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def what_was_run(summary: Summary, planned: Sequence[Experiment]) -> str:
    """Data, nets, epochs, and how much of what is planned is there."""
    done = set(summary.experiments)
    of = [(each.data, each.net) for each in planned]
    counts = Counter((each.data, each.net) for each in planned if each in done)
    rows = []
    for data, net in dict.fromkeys(of):
        mine = [each for each in planned if (each.data, each.net) == (data, net)]
        cases = [case for case in summary.cases() if (case.data, case.net) == (data, net)]
        epochs = mine[0].epochs
        told = [_sizes(summary, cases, name) for name in ("samples", "test_samples", "num_classes")]
        if not cases:
            told[0] = "left out"
        rows.append(
            [
                f"{data}, {net}",
                *told,
                f"{epochs} + {settling(epochs)}",
                str(len({each.noise for each in mine})),
                ", ".join(f"{each}:1" for each in sorted({each.imbalance for each in mine})),
                str(len({each.seed for each in mine})),
                f"{counts[data, net]} of {of.count((data, net))}",
            ]
        )
    names = ["data, net", "training samples", "test samples", "classes", "epochs", "kinds of noise", "class sizes"]
    return table([*names, "seeds", "done"], rows)


def _sizes(summary: Summary, cases: Sequence[Case], name: str) -> str:
    """A number of each case, told once where it is the same."""
    found = {case.imbalance: summary.values(case, summary.noises([case])[0], name)[0] for case in cases}
    return " / ".join(f"{value:,.0f}" for value in dict.fromkeys(found.values())) or NOTHING


def cost_table() -> str:
    """Epochs over the data set, as a multiple of those of a plain run."""
    return table(["", "epochs"], [[rule, f"{costs(100)[rule] / 100:g} E"] for rule in RULES])


def ranking_table(summary: Summary, cases: Sequence[Case]) -> str:
    """AUROC / average precision by score and noise: means over the cases."""
    noises = [each for each in summary.noises(cases) if each != "none"]
    rows = []
    for score in SCORES:
        cells = []
        for noise in noises:
            values = [summary.mean(cases, noise, "rankings", score, name) for name in ("auroc", "average_precision")]
            cells.append(" / ".join(_share(value) for value in values))
        rows.append([score, *cells])
    return table(["AUROC / average precision", *noises], rows)


def cut_table(summary: Summary, cases: Sequence[Case]) -> str:
    """Precision / recall / F1 / % removed by rule and noise, means over the cases; without noise % removed only."""
    noises = summary.noises(cases)
    rows = [[rule, *(_cut(summary, cases, noise, rule) for noise in noises)] for rule in RULES]
    told = [f"{noise}: % removed" if noise == "none" else noise for noise in noises]
    return table(["precision / recall / F1 / % removed", *told], rows)


def _cut(summary: Summary, cases: Sequence[Case], noise: str, rule: str) -> str:
    if noise == "none" and rule == BEST:
        return NOTHING
    removed = summary.mean(cases, noise, "cuts", rule, "removed")
    told = NOTHING if removed is None else f"{100 * removed:.1f}"
    if noise == "none":
        return told
    shares = [summary.mean(cases, noise, "cuts", rule, name) for name in ("precision", "recall", "f1")]
    return " / ".join([*(_share(value) for value in shares), told])


def prediction_table(summary: Summary, cases: Sequence[Case]) -> str:
    """What the noise posterior predicts of itself beside what is so, by noise: means over the cases."""
    noises = summary.noises(cases)
    rows = []
    for words, predicted, true in (
        ("share of wrong labels", "removed", None),
        ("precision of the flagged", "precision", "precision"),
        ("recall of the flagged", "recall", "recall"),
    ):
        told = [_share(summary.mean_of_defined(cases, noise, "predicted", predicted)) for noise in noises]
        seen = [
            _share(summary.mean_of_defined(cases, noise, *(("cuts", POSTERIOR, true) if true else ("wrong_share",))))
            for noise in noises
        ]
        rows.append([words, *(f"{one} / {other}" for one, other in zip(told, seen, strict=True))])
    for words, name in (("verdict: errors are spread", "spread"), ("verdict: cannot tell", "cannot_tell")):
        rows.append([words, *(_share(summary.mean_of_defined(cases, noise, "predicted", name)) for noise in noises)])
    return table(["predicted / true", *noises], rows)


def error_table(summary: Summary, cases: Sequence[Case]) -> str:
    """Test error in % by what is trained on, for each case and noise: mean of the seeds, and lowest to highest."""
    rows = []
    for case in cases:
        for noise in summary.noises([case]):
            values = [summary.values(case, noise, "errors", name) for name in RETRAINED]
            if all(values):
                rows.append([f"{case}, {noise}", *(_spread(each) for each in values)])
    return table(["test error, %", *RETRAINED], rows)


def mean_error_table(summary: Summary, cases: Sequence[Case]) -> str:
    """Test error in % by what is trained on and noise: means over the cases."""
    noises = [noise for noise in summary.noises(cases) if summary.mean(cases, noise, "errors", "oracle") is not None]
    rows = []
    for name in RETRAINED:
        means = [summary.mean(cases, noise, "errors", name) for noise in noises]
        rows.append([name, *(NOTHING if mean is None else f"{100 * mean:.2f}" for mean in means)])
    return table(["test error, %", *noises], rows)


def _share(value: float | None) -> str:
    """Three digits behind the point, which is enough to tell 0.999 from 1."""
    return NOTHING if value is None else f"{value:.3f}".replace("0.", ".", 1)


def _spread(values: Sequence[float]) -> str:
    low, high = 100 * min(values), 100 * max(values)
    return f"{100 * sum(values) / len(values):.1f} ({low:.1f} to {high:.1f})"
