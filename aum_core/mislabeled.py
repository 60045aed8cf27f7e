"""The paper's whole procedure around somebody's training function: plan, runs, cut, files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.calculator import AUMCalculator
from aum_core.files import write_json
from aum_core.rivals import Rivals, check_rows
from aum_core.sample_index import as_ids, row_names
from aum_core.tables import write_aum_values, write_table
from aum_core.thresholds import Combine, Cut, ThresholdPlan, ThresholdRun

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from aum_core.sample_index import SampleId

__all__ = ["Findings", "find_mislabeled"]

_RESULTS = ("aum_values.csv", "flagged.csv", "run.json")


@dataclass(frozen=True, slots=True)
class Findings:
    """What the procedure found, aligned to the rows of the data set.

    Attributes
    ----------
    sample_ids : ndarray of shape (N,)
        The names of the rows in the files; row numbers where none were given.
    targets : ndarray of shape (N,), int64
        The given labels.
    aums : ndarray of shape (N,), float64
        AUM averaged over the runs in which the sample is regular; NaN where no such run measured it.
    suggested : ndarray of shape (N,), int64
        The class that most often beat the given label in those runs (the lowest of several); the given label where
        none ever did. -1 for all where a run gave `AUMCalculator.add_totals` its totals, which do not tell.
    cut : Cut
        With `flagged`, `keep`, the cutoffs and every choice.
    plan : ThresholdPlan
    run : dict
        What ``run.json`` holds.
    """

    sample_ids: NDArray[Any]
    targets: NDArray[np.int64]
    aums: NDArray[np.float64]
    suggested: NDArray[np.int64]
    cut: Cut
    plan: ThresholdPlan
    run: dict[str, Any]

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """True, (N,), where the label is held to be wrong."""
        return self.cut.flagged

    @property
    def keep(self) -> NDArray[np.bool_]:
        """True, (N,), for the samples to train on."""
        return self.cut.keep

    def most_suspicious(self, count: int | None = None) -> NDArray[np.intp]:
        """Rows by suspicion: flagged ones first, then by AUM, lowest first; all of them where `count` is None."""
        return np.lexsort((self.aums, ~self.flagged))[:count]


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
    sample_ids: Sequence[SampleId] | NDArray[Any] | None = None,
    class_names: Sequence[str] | None = None,
    calculator: Callable[[str | os.PathLike[str]], AUMCalculator] = AUMCalculator,
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
    sample_ids : sequence of N int or str, optional
        The names of the rows in the files. `train` uses row numbers all the same.
    class_names : sequence of C str, optional
        The names of the classes in the files; their indices by default.
    calculator : callable, default `AUMCalculator`
        Makes the calculator of a run from `save_dir`; the adapters' ``find_mislabeled`` make their own.
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
    names = _names(sample_ids, plan.num_samples)
    labels = _label_names(class_names, num_classes)
    plan.cut([np.zeros(plan.num_samples)] * runs, percentile, combine)  # wrong options show now, not after training
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old_files(folder)
    plan.save(folder / "threshold_plan.npz")

    measured = [_measure(train, run, plan, calculator, folder) for run in plan.runs]
    aums_per_run = np.array([aums for aums, _, _ in measured])
    cut = plan.cut(list(aums_per_run), percentile, combine)
    regular = np.array([run.regular for run in plan.runs])
    description = {
        "job": "find_mislabeled",
        **_describe([each for _, _, each in measured]),
        "samples": plan.num_samples,
        "num_classes": num_classes,
        "class_names": labels.tolist(),
        "cut": cut.choices(),
        **(metadata or {}),
    }
    findings = Findings(
        names,
        plan.targets,
        _mean_where(aums_per_run, regular),
        _suggest(plan, [rivals for _, rivals, _ in measured]),
        cut,
        plan,
        description,
    )
    _write(findings, labels, folder)
    return findings


def _names(sample_ids: Sequence[SampleId] | NDArray[Any] | None, num_samples: int) -> NDArray[Any]:
    ids = row_names(sample_ids, num_samples)
    if isinstance(ids, np.ndarray):
        return ids
    names = np.empty(num_samples, dtype=object)
    names[:] = ids
    return names


def _label_names(class_names: Sequence[str] | None, num_classes: int) -> NDArray[Any]:
    if class_names is None:
        return np.arange(num_classes)
    if len(class_names) != num_classes or isinstance(class_names, str):
        raise ValueError(f"class_names: {len(class_names)} names for {num_classes} classes, want one for each")
    return np.array([str(name) for name in class_names], dtype=object)


def _remove_old_files(folder: Path) -> None:
    """Remove the files of an earlier job, so that those of an interrupted one do not stand among them."""
    for old in (*folder.glob("totals_run*.npz"), *(folder / name for name in _RESULTS)):
        old.unlink(missing_ok=True)


def _measure(
    train: Callable[[NDArray[np.int64], int, Any], object],
    run: ThresholdRun,
    plan: ThresholdPlan,
    make_calculator: Callable[[str | os.PathLike[str]], AUMCalculator],
    folder: Path,
) -> tuple[NDArray[np.float64], Rivals | None, dict[str, Any]]:
    """Train one run; its AUMs (N,) by row, its rivals (None where they were not all seen), and its description."""
    calculator = make_calculator(folder)
    rivals = Rivals(plan.num_samples, run.num_classes)
    calculator.observe(rivals)
    train(run.targets, run.num_classes, calculator)
    totals = calculator.totals
    if not len(totals):
        raise ValueError(
            f"train: run {run.index} measured nothing; "
            "call calculator.accumulate(logits, targets, sample_ids) at every training step"
        )
    check_rows(as_ids(totals.sample_ids), plan.num_samples)
    totals.save(folder / f"totals_run{run.index}.npz")
    aums = np.full(plan.num_samples, np.nan)
    aums[totals.sample_ids] = totals.aums
    all_seen = rivals.measurements == totals.measurements
    return aums, rivals if all_seen else None, {**calculator.describe(), "unmeasured": int(np.isnan(aums).sum())}


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


def _suggest(plan: ThresholdPlan, rivals: Sequence[Rivals | None]) -> NDArray[np.int64]:
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


def _write(findings: Findings, labels: NDArray[Any], folder: Path) -> None:
    write_aum_values(folder / "aum_values.csv", findings.sample_ids, findings.aums)
    suggested = np.append(labels.astype(object), "")  # -1 is unknown, and comes out empty
    columns = {
        "sample_id": findings.sample_ids,
        "given_label": labels[findings.targets],
        "suggested_label": suggested[findings.suggested],
        "aum": findings.aums,
    }
    worst_first = findings.most_suspicious(int(findings.flagged.sum()))
    write_table(folder / "flagged.csv", columns, worst_first)
    write_json(folder / "run.json", findings.run)
