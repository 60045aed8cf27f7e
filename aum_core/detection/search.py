"""The search for wrong labels around somebody's training function: runs, cut, findings, files.

Two ways: with threshold samples (`find_mislabeled`, the paper's), or by the noise posterior of one plain run
(`find_by_posterior`). Whatever can be wrong with the arguments is found before anything is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, wraps
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from aum_core.calculator import AUMCalculator
from aum_core.dataset import class_labels
from aum_core.detection.cutoffs import LikelyWrong
from aum_core.detection.findings import Findings, label_names, names_of_rows, remove_old_files, write_findings
from aum_core.detection.runner_up import RunnerUpCounts, suggest
from aum_core.detection.threshold_samples import Combine, ThresholdPlan, check_cut
from aum_core.ids import by_row
from aum_core.scores.kinds import oriented, suspicious_end

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from aum_core.detection.cutoffs import Cut, Cutoff
    from aum_core.detection.threshold_samples import ThresholdRun
    from aum_core.ids import SampleId
    from aum_core.posterior.estimate import NoisePosterior

__all__ = ["find_by_posterior", "find_mislabeled", "with_calculator"]

_Arguments = ParamSpec("_Arguments")


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
    calculator: Callable[..., AUMCalculator] | None = None,
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
    runs : int, default 2
    size : int, optional
    seed : int, default 0
        See `ThresholdPlan.draw`.
    percentile : float, default 99.0
    combine : {"all", "any", "mean"}, default "all"
        See `ThresholdPlan.cut`.
    score : str, default "aum"
        What is cut at the percentile and ranks the samples: the AUM, or another of the calculator's ``scores`` of
        which one end is suspicious. "variability" has no such end.
    sample_ids : sequence of N int or str, optional
        The names of the rows in the files. `train` uses row numbers all the same.
    class_names : sequence of C str, optional
        The names of the classes in the files; their indices by default.
    calculator : callable, optional
        Makes the calculator of a run from `save_dir`, and ``scores=[score]`` where that is not the AUM; by default the
        `AUMCalculator` of the module that this function is imported from.
    metadata : mapping, optional
        Further entries for ``run.json``.

    Returns
    -------
    Findings

    Raises
    ------
    TypeError, ValueError
        Where the arguments do not fit, before anything is trained; where a run measured nothing.

    References
    ----------
    Pleiss et al. 2020, "Identifying Mislabeled Data using the Area Under the Margin Ranking", arXiv 2001.10528.

    Examples
    --------
    A "network" whose logits are given: row 4 is of class 0 but labelled 1.

    >>> import tempfile
    >>> import numpy as np
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
    check_cut(percentile, combine)
    suspicious_end(score)
    labels = label_names(class_names, num_classes)
    job = _Job.begin("find_mislabeled", plan.targets, labels, save_dir, sample_ids=sample_ids, metadata=metadata)
    plan.save(job.folder / "threshold_plan.npz")
    maker: Callable[..., AUMCalculator] = calculator or AUMCalculator
    make = maker if score == "aum" else partial(maker, scores=[score])

    measured = [_measure(train, run, make(job.folder), job.folder, score) for run in plan.runs]
    regular = np.array([run.regular for run in plan.runs])
    scores_per_run = np.array([each.scores for each in measured])
    return job.end(
        _mean_where(np.array([each.aums for each in measured]), regular),
        _mean_where(scores_per_run, regular),
        suggest(plan.targets, num_classes, [each.runners_up for each in measured], regular),
        plan.cut(list(scores_per_run), percentile, combine),
        {**_describe_runs([each.described for each in measured]), "score": score},
        plan=plan,
    )


def find_by_posterior(
    train: Callable[[NDArray[np.int64], int, Any], object],
    targets: Any,
    num_classes: int,
    *,
    save_dir: str | os.PathLike[str],
    cutoff: Cutoff | None = None,
    sample_ids: Sequence[SampleId] | NDArray[Any] | None = None,
    class_names: Sequence[str] | None = None,
    calculator: Callable[..., AUMCalculator] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Findings:
    """Find the wrong labels of a data set in one training run, by the noise posterior.

    Half the cost of `find_mislabeled`, and better where classes are confused with each other. What it assumes, and
    where it fails, is told in ``docs/scores.md``.

    Parameters
    ----------
    train : callable ``train(targets, num_classes, calculator)``
        Trains a fresh classifier with `num_classes` outputs (C) on `targets` (N,), and at every step calls
        ``calculator.accumulate(logits, targets, sample_ids)`` with the logits of the training forward pass and the
        row numbers of the batch as `sample_ids`; or, where an epoch was added up on a device, at its end
        ``calculator.add_epoch(epoch)``. Called once.
    targets : array_like of shape (N,), ints in [0, C)
        The given labels.
    num_classes : int
        C.
    save_dir : str or path
        Gets ``totals.npz``, ``aum_values.csv``, ``flagged.csv``, ``noise_posterior.csv``, ``transition.csv`` and
        ``run.json``. Results of an earlier job are removed first.
    cutoff : Cutoff, default `LikelyWrong`
        What is flagged: `LikelyWrong` (more likely wrong than right), `Precision`, `Budget` or `ZeroMargin`.
    sample_ids : sequence of N int or str, optional
        The names of the rows in the files. `train` uses row numbers all the same.
    class_names : sequence of C str, optional
        The names of the classes in the files; their indices by default.
    calculator : callable, optional
        Makes the calculator from `save_dir` and ``noise_posterior=True``; by default the `AUMCalculator` of the module
        that this function is imported from.
    metadata : mapping, optional
        Further entries for ``run.json``.

    Returns
    -------
    Findings

    Raises
    ------
    TypeError, ValueError
        Where the arguments do not fit, before anything is trained; where nothing was measured, or logits of another
        number of classes.

    References
    ----------
    Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", arXiv 1911.00068,
    whose joint of given and true labels it begins with.

    Examples
    --------
    A "network" whose logits are given: row 4 is of class 0 but labelled 1.

    >>> import tempfile
    >>> import numpy as np
    >>> truth = np.array([0, 1] * 50)
    >>> given = truth.copy(); given[4] = 1
    >>> def train(targets, num_classes, calculator):
    ...     calculator.accumulate(4.0 * np.eye(num_classes)[truth], targets, np.arange(len(targets)))
    >>> findings = find_by_posterior(train, given, num_classes=2, save_dir=tempfile.mkdtemp())
    >>> np.flatnonzero(findings.flagged), int(findings.suggested[4])
    (array([4]), 0)
    """
    given = class_labels(targets, num_classes)
    rule = LikelyWrong() if cutoff is None else cutoff
    if isinstance(rule, type) or not callable(getattr(rule, "cut", None)):
        raise TypeError(f"cutoff: {rule!r}, want LikelyWrong(), Precision(0.9), Budget(100) or ZeroMargin()")
    labels = label_names(class_names, num_classes)
    job = _Job.begin("find_by_posterior", given, labels, save_dir, sample_ids=sample_ids, metadata=metadata)

    keeper = (calculator or AUMCalculator)(job.folder, noise_posterior=True)
    train(given.copy(), num_classes, keeper)
    aums = by_row(keeper.totals.sample_ids, keeper.totals.aums, len(given), "train: the run")
    keeper.totals.save(job.folder / "totals.npz")
    posterior = _posterior_by_row(keeper, given, num_classes)
    described = {
        **keeper.describe(),
        "unmeasured": int(np.isnan(aums).sum()),
        "scores": keeper.scores.describe(),
        "noise_posterior": posterior.describe(),
    }
    cut = rule.cut(aums, posterior)
    return job.end(aums, 1 - posterior.probabilities, posterior.suggested, cut, described, posterior=posterior)


def with_calculator(
    find: Callable[_Arguments, Findings], calculator: Callable[..., AUMCalculator], module: str, *, notes: str = ""
) -> Callable[_Arguments, Findings]:
    """Make the search of an adapter: `find` with calculators that know its framework.

    Parameters
    ----------
    find : callable
        `find_mislabeled` or `find_by_posterior`.
    calculator : callable
        The adapter's `AUMCalculator`.
    module : str
        The adapter's name, where users import the search from.
    notes : str, optional
        What else the docstring is to say of this framework.

    Returns
    -------
    callable
        A function with the name, the signature and the docstring of `find`.

    Examples
    --------
    >>> find = with_calculator(find_mislabeled, AUMCalculator, "aum.mine", notes="Of mine.")
    >>> find.__module__, find.__name__, "Of mine." in find.__doc__
    ('aum.mine', 'find_mislabeled', True)
    """

    @wraps(find)
    def search(*args: _Arguments.args, **options: _Arguments.kwargs) -> Findings:
        options["calculator"] = options.get("calculator") or calculator
        return find(*args, **options)

    search.__module__ = module
    if notes and (documented := getdoc(find)):
        search.__doc__ = documented.replace("\nReferences\n", f"\nNotes\n-----\n{notes}\n\nReferences\n")
    return search


@dataclass(frozen=True, slots=True)
class _Job:
    """What both searches begin and end with: the names of rows and classes, the folder, and the files in it."""

    name: str
    targets: NDArray[np.int64]
    sample_ids: NDArray[Any]
    labels: NDArray[Any]
    folder: Path
    metadata: Mapping[str, Any]

    @classmethod
    def begin(
        cls,
        name: str,
        targets: NDArray[np.int64],
        labels: NDArray[Any],
        save_dir: str | os.PathLike[str],
        *,
        sample_ids: Sequence[SampleId] | NDArray[Any] | None,
        metadata: Mapping[str, Any] | None,
    ) -> _Job:
        """Check the names of the rows, then clear the folder."""
        job = cls(name, targets, names_of_rows(sample_ids, len(targets)), labels, Path(save_dir), metadata or {})
        job.folder.mkdir(parents=True, exist_ok=True)
        remove_old_files(job.folder)
        return job

    def end(
        self,
        aums: NDArray[np.float64],
        scores: NDArray[np.float64],
        suggested: NDArray[np.int64],
        cut: Cut,
        described: dict[str, Any],
        *,
        plan: ThresholdPlan | None = None,
        posterior: NoisePosterior | None = None,
    ) -> Findings:
        """Bring together what was found, by row, and write it; `described` is what the calculators tell."""
        run = {
            "job": self.name,
            **described,
            "samples": len(self.targets),
            "num_classes": len(self.labels),
            "class_names": self.labels.tolist(),
            "cut": cut.describe(),
            **self.metadata,
        }
        findings = Findings(self.sample_ids, self.targets, aums, scores, suggested, cut, run, plan, posterior)
        write_findings(findings, self.labels, self.folder)
        return findings


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run brought: AUMs and scores (N,) by row, its runners-up (None where not all were seen), its story."""

    aums: NDArray[np.float64]
    scores: NDArray[np.float64]
    runners_up: RunnerUpCounts | None
    described: dict[str, Any]


def _measure(
    train: Callable[[NDArray[np.int64], int, Any], object],
    run: ThresholdRun,
    calculator: AUMCalculator,
    folder: Path,
    score: str,
) -> _Run:
    """Train one run."""
    num_samples = len(run.targets)
    runners_up = RunnerUpCounts(num_samples, run.num_classes)
    calculator.observe(runners_up)
    train(run.targets, run.num_classes, calculator)
    totals = calculator.totals
    measured = partial(by_row, totals.sample_ids, num_samples=num_samples, what=f"train: run {run.index}")
    aums = measured(totals.aums)
    scores = aums if score == "aum" else measured(oriented(score, calculator.scores[score]))
    totals.save(folder / f"totals_run{run.index}.npz")
    all_seen = runners_up.measurements == totals.measurements
    described = {**calculator.describe(), "unmeasured": int(np.isnan(aums).sum())}
    return _Run(aums, scores, runners_up if all_seen else None, described)


def _describe_runs(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is the same in all runs, the sums of what is counted, and both kinds of counts by run."""
    counted = ("measurements", "left_out")
    same = {name: runs[0][name] for name in ("format", "aum_version", "framework", "options")}
    sums = {name: sum(run[name] for run in runs) for name in counted}
    return {**same, **sums, "per_run": [{name: run[name] for name in (*counted, "unmeasured")} for run in runs]}


def _mean_where(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over axis 0 of what is chosen and not NaN; NaN where there is nothing."""
    used = chosen & ~np.isnan(values)
    counts = used.sum(axis=0)
    means = np.full(values.shape[1], np.nan)
    np.divide(np.where(used, values, 0.0).sum(axis=0), counts, out=means, where=counts > 0)
    return means


def _posterior_by_row(calculator: AUMCalculator, given: NDArray[np.int64], num_classes: int) -> NoisePosterior:
    """The posterior by row of the data set; a sample that was not measured keeps its label."""
    found = calculator.noise_posterior()
    if len(found.transition) != num_classes:
        raise ValueError(f"train: logits of {len(found.transition)} classes, want num_classes={num_classes}")
    rows = calculator.totals.sample_ids
    probabilities = by_row(rows, found.probabilities, len(given), "train: the run")
    suggested = given.copy()
    suggested[rows] = np.where(found.suggested >= 0, found.suggested, given[rows])
    return found.at(probabilities, suggested)
