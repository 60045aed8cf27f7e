"""What `aum find` prints at the end: the most suspicious samples, what was found, and what to make of it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from aum.command.printer import print_table, say
from aum_core.posterior.estimate import CONDITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from aum.command.labelled_data import LabelledData
    from aum_core import Detection, Findings, NoisePosterior

__all__ = ["print_findings"]


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
    if top:
        say("Most suspicious samples")
        print_table(
            _columns(findings, data, findings.most_suspicious(top), flipped),
            left=["sample id", "given label", "suggested label", "flagged", "flipped by us"],
        )
        say()
    lines = _summary(findings, data)
    if check is not None:
        lines += _check_lines(check)
    for line in [*lines, *_files(findings, out, checked=check is not None)]:
        say(line)


def _columns(
    findings: Findings, data: LabelledData, rows: NDArray[np.intp], flipped: NDArray[np.bool_] | None
) -> dict[str, list[str]]:
    columns = {
        "rank": [str(rank) for rank in range(1, len(rows) + 1)],
        "sample id": [str(each) for each in findings.sample_ids[rows].tolist()],
        "given label": [str(each) for each in data.classes[findings.targets[rows]]],
        "suggested label": [str(each) for each in data.classes[findings.suggested[rows]]],
        "AUM": _numbers(findings.aums[rows]),
    }
    if findings.posterior is not None:
        columns["chance wrong"] = _numbers(findings.posterior.probabilities[rows])
    columns["flagged"] = _yes_or_no(findings.flagged[rows])
    if flipped is not None:
        columns["flipped by us"] = _yes_or_no(flipped[rows])
    return columns


def _numbers(values: NDArray[np.float64]) -> list[str]:
    return ["not measured" if np.isnan(value) else f"{value:.3f}" for value in values.tolist()]


def _yes_or_no(values: Iterable[np.bool_]) -> list[str]:
    return ["yes" if value else "no" for value in values]


def _summary(findings: Findings, data: LabelledData) -> list[str]:
    size, flagged = len(findings.aums), int(findings.flagged.sum())
    lines = [
        f"Data      {data.source}: {size} samples, {data.features.shape[1]} features, {len(data.classes)} classes",
        f"Flagged   {flagged} labels of {size} ({flagged / size:.1%})",
        *_cut_lines(findings),
    ]
    if flagged > size / 2 and "budget" not in findings.run["cut"]:
        lines.append("Beware    more than half is flagged: the network hardly learnt to tell these classes apart")
    suspicious = "A low AUM" if findings.posterior is None else "Flagged"
    return [
        *lines,
        "AUM       how far the given label's score was above the best other one, on average over training;",
        "          negative: the network mostly believed in another label",
        f"{suspicious} means: look at me. Some flagged labels are right, of samples that are rare or hard.",
        "Review them before you remove or change any.",
    ]


def _cut_lines(findings: Findings) -> list[str]:
    cut = findings.run["cut"]
    if findings.posterior is None:
        cutoffs, size = ", ".join(f"{each:.3f}" for each in cut["cutoffs"]), cut["threshold_samples_per_run"]
        rule = f"the {cut['percentile']:g}th percentile of {size} labels made wrong on purpose in each run"
        lines, remedy = [f"Cut-offs  AUM below {cutoffs} ({rule})"], "that no run could judge; more --runs or --epochs"
    else:
        options = [f"{name} {cut[name]:g}" for name in ("budget", "precision") if name in cut]
        lines = [f"Cut-off   {', '.join([cut['rule'], *options])}"]
        lines += _posterior_lines(findings.posterior, findings.flagged)
        remedy = "that were not measured in time; more --epochs"
    if cut["undecided"]:
        lines.append(f"Unjudged  {cut['undecided']} samples {remedy} judge all")
    return lines


def _posterior_lines(posterior: NoisePosterior, flagged: NDArray[np.bool_]) -> list[str]:
    found = posterior.describe(flagged)
    lines = [f"Expected  {found['expected_wrong']:.0f} wrong labels ({found['expected_wrong_share']:.1%})"]
    if found["predicted_precision"] is not None:
        lines += [
            f"          {found['predicted_precision']:.0%} of the flagged labels are expected to be wrong,",
            f"          {found['predicted_recall']:.0%} of the wrong labels are expected to be flagged",
        ]
    return [*lines, *(f"          {line}" for line in textwrap.wrap(CONDITIONS[posterior.verdict], 100))]


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


def _files(findings: Findings, out: Path, *, checked: bool) -> list[str]:
    note = " (with the self-check)" if checked else ""
    names = ["flagged.csv", "aum_values.csv", f"run.json{note}"]
    if findings.posterior is not None:
        names += ["noise_posterior.csv", "transition.csv"]
    runs = "run" if findings.plan is None else "runs"
    return ["", f"Files in {out}: {', '.join(names)}, and the state of the {runs}"]
