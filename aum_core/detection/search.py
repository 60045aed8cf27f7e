"""The paper's whole procedure around somebody's training function: plan, runs, cut, files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.calculator import AUMCalculator
from aum_core.detection.findings import Findings, label_names, names_of_rows, remove_old_files, write_findings
from aum_core.detection.runner_up import RunnerUpCounts
from aum_core.detection.threshold_samples import Combine, ThresholdPlan, ThresholdRun
from aum_core.ids import by_row
from aum_core.scores.kinds import check_names, oriented

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from aum_core.ids import SampleId

__all__ = ["find_mislabeled"]


def find_mislabeled(
    train: Callable[[NDArray[np.int64], int, Any], object],
    targets: Any,
    num_classes: int,
    *,
    save_dir: str | os.PathLike[str],
    runs: int = 2,
    size: int | None = None,
    seed: int = 0,
    percentile: float = 99.0,
    combine: Combine = "all",
    score: str = "aum",
    sample_ids: Sequence[SampleId] | NDArray[Any] | None = None,
    class_names: Sequence[str] | None = None,
    calculator: Callable[..., AUMCalculator] = AUMCalculator,
    metadata: Mapping[str, Any] | None = None,
) -> Findings:
    """Find the wrong labels of a data set with threshold samples (Pleiss et al. 2020, algorithm 1).

    Parameters
    ----------
    train : callable ``train(targets, num_classes, calculator)``
        Trains a *fresh* classifier with `num_classes` outputs (C + 1) on `targets` (N,), and at every step calls
        ``calculator.accumulate(logits, targets, sample_ids)`` with the logits of the training forward pass and the
        row numbers of the batch as `sample_ids`; or, where the margins were added up on a device, ends with
        ``calculator.add_totals(totals)``. Called once per run.
    targets : array_like of shape (N,), ints in [0, C)
        The given labels.
    num_classes : int
        C.
    save_dir : str or path
        Gets ``threshold_plan.npz``, ``totals_run0.npz`` and so on as the runs end, then ``aum_values.csv``,
        ``flagged.csv`` and ``run.json``. Those of an earlier job are removed first.
    runs, size, seed
        Of `ThresholdPlan.draw`.
    percentile, combine
        Of `ThresholdPlan.cut`.
    score : str, default "aum"
        What is cut at the percentile and ranks the samples: the AUM, or another of the calculator's ``scores``.
    sample_ids : sequence of N int or str, optional
        The names of the rows in the files. `train` uses row numbers all the same.
    class_names : sequence of C str, optional
        The names of the classes in the files; their indices by default.
    calculator : callable, default `AUMCalculator`
        Makes the calculator of a run from `save_dir`, and ``scores=[score]`` where that is not the AUM; the adapters'
        ``find_mislabeled`` make their own.
    metadata : mapping, optional
        Further entries for ``run.json``.

    Returns
    -------
    Findings

    Raises
    ------
    ValueError
        Where the arguments do not fit, before anything is trained; where a run measured nothing.

    Examples
    --------
    A "network" whose logits are given: row 4 is of class 0 but labelled 1.

    >>> import tempfile
    >>> truth = np.array([0, 1] * 10)
    >>> given = truth.copy(); given[4] = 1
    >>> def train(targets, num_classes, calculator):
    ...     logits = 4.0 * np.eye(num_classes)[truth]
    ...     calculator.accumulate(logits, targets, np.arange(len(targets)))
    >>> findings = find_mislabeled(train, given, num_classes=2, save_dir=tempfile.mkdtemp(), percentile=50)
    >>> int(findings.aums.argmin()), int(findings.suggested[4])
    (4, 0)
    """
    plan = ThresholdPlan.draw(targets, num_classes, runs=runs, size=size, seed=seed)
    names = names_of_rows(sample_ids, plan.num_samples)
    labels = label_names(class_names, num_classes)
    plan.cut([np.zeros(plan.num_samples)] * runs, percentile, combine)  # wrong options show now, not after training
    make = calculator if score == "aum" else partial(calculator, scores=check_names([score]))
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    remove_old_files(folder)
    plan.save(folder / "threshold_plan.npz")

    measured = [_measure(train, run, plan, make, folder, score=score) for run in plan.runs]
    scores_per_run = np.array([each.scores for each in measured])
    cut = plan.cut(list(scores_per_run), percentile, combine)
    regular = np.array([run.regular for run in plan.runs])
    description = {
        "job": "find_mislabeled",
        **_describe([each.described for each in measured]),
        "samples": plan.num_samples,
        "num_classes": num_classes,
        "class_names": labels.tolist(),
        "score": score,
        "cut": cut.describe(),
        **(metadata or {}),
    }
    findings = Findings(
        names,
        plan.targets,
        _mean_where(np.array([each.aums for each in measured]), regular),
        _mean_where(scores_per_run, regular),
        _suggest(plan, [each.rivals for each in measured]),
        cut,
        description,
        plan=plan,
    )
    write_findings(findings, labels, folder)
    return findings


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run brought: AUMs and scores (N,) by row, its rivals (None where they were not all seen), its story."""

    aums: NDArray[np.float64]
    scores: NDArray[np.float64]
    rivals: RunnerUpCounts | None
    described: dict[str, Any]


def _measure(
    train: Callable[[NDArray[np.int64], int, Any], object],
    run: ThresholdRun,
    plan: ThresholdPlan,
    make_calculator: Callable[..., AUMCalculator],
    folder: Path,
    *,
    score: str,
) -> _Run:
    """Train one run."""
    calculator = make_calculator(folder)
    rivals = RunnerUpCounts(plan.num_samples, run.num_classes)
    calculator.observe(rivals)
    train(run.targets, run.num_classes, calculator)
    totals = calculator.totals
    measured = partial(by_row, totals.sample_ids, num_samples=plan.num_samples, what=f"train: run {run.index}")
    aums = measured(totals.aums)
    scores = aums if score == "aum" else measured(oriented(score, calculator.scores[score]))
    totals.save(folder / f"totals_run{run.index}.npz")
    all_seen = rivals.measurements == totals.measurements
    described = {**calculator.describe(), "unmeasured": int(np.isnan(aums).sum())}
    return _Run(aums, scores, rivals if all_seen else None, described)


def _describe(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is the same in all runs, the sums of what is counted, and both kinds of counts by run."""
    counted = ("measurements", "left_out")
    same = {name: runs[0][name] for name in ("aum_version", "framework", "options")}
    sums = {name: sum(run[name] for run in runs) for name in counted}
    return {**same, **sums, "per_run": [{name: run[name] for name in (*counted, "unmeasured")} for run in runs]}


def _mean_where(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over axis 0 of what is chosen and not NaN; NaN where there is nothing."""
    used = chosen & ~np.isnan(values)
    counts = used.sum(axis=0)
    means = np.full(values.shape[1], np.nan)
    np.divide(np.where(used, values, 0.0).sum(axis=0), counts, out=means, where=counts > 0)
    return means


def _suggest(plan: ThresholdPlan, rivals: Sequence[RunnerUpCounts | None]) -> NDArray[np.int64]:
    """The class that most often beat the label of each row, over the runs in which the row is regular."""
    pairs, counts = [], []
    for run, each in zip(plan.runs, rivals, strict=True):
        if each is None:
            return np.full(plan.num_samples, -1)
        rows, classes, tally = each.tally()
        real = run.regular[rows] & (classes < plan.num_classes)
        pairs.append(rows[real] * plan.num_classes + classes[real])
        counts.append(tally[real])
    pair, place = np.unique(np.concatenate(pairs), return_inverse=True)
    total = np.zeros(len(pair), np.int64)
    np.add.at(total, place, np.concatenate(counts))
    rows, classes = pair // plan.num_classes, pair % plan.num_classes
    by_total = np.lexsort((-classes, total, rows))  # of each row, the most frequent and then lowest class comes last
    suggested = plan.targets.copy()
    suggested[rows[by_total]] = classes[by_total]
    return suggested
