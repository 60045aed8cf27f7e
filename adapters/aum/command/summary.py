"""What the user reads at the end: the most suspicious samples, what was found, and what to make of it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aum_core import Cut
from aum_core.posterior.estimate import CONDITIONS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from aum.command.labelled_data import LabelledData
    from aum_core import Detection, Findings, NoisePosterior

__all__ = ["print_findings"]

_WIDE = 10_000


def print_findings(
    findings: Findings,
    data: LabelledData,
    *,
    top: int,
    out: Path,
    flipped: NDArray[np.bool_] | None,
    check: Detection | None,
) -> None:
    """Print the table and the summary to stdout."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)  # a file or a pipe has no edge to cut ids off at
    if top:
        console.print(_table(findings, data, top, flipped))
    lines = _summary(findings, data)
    if check is not None:
        lines += _check_lines(check)
    for line in [*lines, *_files(findings, out, check is not None)]:
        console.print(Text(line), soft_wrap=True)


def _table(findings: Findings, data: LabelledData, top: int, flipped: NDArray[np.bool_] | None) -> Table:
    table = Table(title="Most suspicious samples", title_justify="left", box=box.SIMPLE, pad_edge=False)
    table.add_column("rank", justify="right")
    table.add_column("sample id", overflow="fold")
    table.add_column("given label", overflow="fold")
    table.add_column("suggested label", overflow="fold")
    table.add_column("AUM", justify="right", no_wrap=True)
    if findings.posterior is not None:
        table.add_column("chance wrong", justify="right", no_wrap=True)
    table.add_column("flagged")
    if flipped is not None:
        table.add_column("flipped by us")
    for rank, row in enumerate(findings.most_suspicious(top).tolist(), start=1):
        cells = [
            str(rank),
            _printable(str(findings.sample_ids[row])),
            _printable(str(data.classes[findings.targets[row]])),
            _printable(str(data.classes[findings.suggested[row]])),
            "not measured" if np.isnan(findings.aums[row]) else f"{findings.aums[row]:.3f}",
            *_chance(findings, row),
            _yes(findings.flagged[row]),
        ]
        if flipped is not None:
            cells.append(_yes(flipped[row]))
        table.add_row(*map(Text, cells))  # as Text, or an id such as "[red]" would be taken for a colour
    return table


def _chance(findings: Findings, row: int) -> list[str]:
    if findings.posterior is None:
        return []
    chance = findings.posterior.probabilities[row]
    return ["not measured" if np.isnan(chance) else f"{chance:.3f}"]


def _printable(text: str) -> str:
    """Write out what would move a terminal's cursor or break a line."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _summary(findings: Findings, data: LabelledData) -> list[str]:
    size, flagged = len(findings.aums), int(findings.flagged.sum())
    lines = [
        f"Data      {_printable(data.source)}: {size} samples, {_shape(data)}",
        f"Flagged   {flagged} labels of {size} ({flagged / size:.1%})",
        *_cut_lines(findings),
    ]
    if flagged > size / 2 and "budget" not in findings.run["cut"]:
        lines.append("Beware    more than half is flagged: the network hardly learnt to tell these classes apart")
    lines += [
        "AUM       how far the given label's score was above the best other one, on average over training;",
        "          negative: the network mostly believed in another label",
    ]
    if findings.posterior is None:
        lines.append("A low AUM means: look at me. Some flagged labels are right, of samples that are rare or hard.")
    else:
        lines.append("Flagged means: look at me. Some flagged labels are right, of samples that are rare or hard.")
    return [*lines, "Review them before you remove or change any."]


def _cut_lines(findings: Findings) -> list[str]:
    cut = findings.cut
    if isinstance(cut, Cut):
        cutoffs = ", ".join(f"{each:.3f}" for each in cut.cutoffs)
        rule = f"the {cut.percentile:g}th percentile of {cut.size} labels made wrong on purpose in each run"
        lines, remedy = [f"Cut-offs  AUM below {cutoffs} ({rule})"], "that no run could judge; more --runs or --epochs"
    else:
        lines, remedy = [f"Cut-off   {_rule(cut.rule)}"], "that were not measured in time; more --epochs"
    undecided = int(cut.undecided.sum())
    if undecided:
        lines.append(f"Unjudged  {undecided} samples {remedy} judge all")
    if findings.posterior is not None:
        lines += _posterior_lines(findings.posterior, cut.flagged)
    return lines


def _rule(rule: dict[str, Any]) -> str:
    options = [f"{name} {rule[name]:g}" for name in ("budget", "precision") if name in rule]
    return ", ".join([rule["rule"], *options])


def _posterior_lines(posterior: NoisePosterior, flagged: NDArray[np.bool_]) -> list[str]:
    told = posterior.describe(flagged)
    lines = [f"Expected  {told['expected_wrong']:.0f} wrong labels ({told['expected_wrong_share']:.1%})"]
    if told["predicted_precision"] is not None:
        lines += [
            f"          {told['predicted_precision']:.0%} of the flagged labels are expected to be wrong,",
            f"          {told['predicted_recall']:.0%} of the wrong labels are expected to be flagged",
        ]
    return [
        *lines,
        *(f"          {line}" for line in textwrap.wrap(CONDITIONS[posterior.verdict], 100)),
    ]


def _shape(data: LabelledData) -> str:
    return f"{data.features.shape[1]} features, {len(data.classes)} classes"


def _check_lines(check: Detection) -> list[str]:
    if check.precision is None:
        precision = "  precision          -        nothing was flagged"
    else:
        precision = f"  precision          {check.precision:<8.3f} share of the flagged labels that were flipped"
    return [
        "",
        f"Self-check: {check.wrong} labels were flipped first",
        f"  AUROC              {check.auroc:.4f}   how often a flipped label ranks as more suspicious than another",
        f"  average precision  {check.average_precision:.4f}   of the ranking",
        precision,
        f"  recall             {check.recall:<8.3f} share of the flipped labels that were flagged",
        f"  in the lowest {check.budget:<5}{check.found_within_budget:<8.3f} share of the flipped labels found there",
        "The labels above and in the files include the flipped ones. A label that was wrong already counts against the",
        "precision here. To search your data as they are, leave --flip-labels out.",
    ]


def _files(findings: Findings, out: Path, checked: bool) -> list[str]:
    note = " (with the self-check)" if checked else ""
    names = ["flagged.csv", "aum_values.csv", f"run.json{note}"]
    if findings.posterior is not None:
        names += ["noise_posterior.csv", "transition.csv"]
    runs = "run" if findings.plan is None else "runs"
    return ["", f"Files in {_printable(str(out))}: {', '.join(names)}, and the state of the {runs}"]
