"""The search by the noise posterior around somebody's training function: one plain run, the given labels, no others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.calculator import AUMCalculator
from aum_core.dataset import class_labels
from aum_core.detection.cutoffs import Cutoff, LikelyWrong, Ranking
from aum_core.detection.findings import Findings, label_names, names_of_rows, remove_old_files, write_findings
from aum_core.ids import by_row

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from aum_core.ids import SampleId
    from aum_core.posterior.estimate import NoisePosterior

__all__ = ["find_by_posterior"]


def find_by_posterior(
    train: Callable[[NDArray[np.int64], int, Any], object],
    targets: Any,
    num_classes: int,
    *,
    save_dir: str | os.PathLike[str],
    cutoff: Cutoff | None = None,
    sample_ids: Sequence[SampleId] | NDArray[Any] | None = None,
    class_names: Sequence[str] | None = None,
    calculator: Callable[..., AUMCalculator] = AUMCalculator,
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
    calculator : callable, default `AUMCalculator`
        Makes the calculator from `save_dir` and ``noise_posterior=True``; the adapters' ``find_by_posterior`` make
        their own.
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

    Examples
    --------
    A "network" whose logits are given: row 4 is of class 0 but labelled 1.

    >>> import tempfile
    >>> truth = np.array([0, 1] * 50)
    >>> given = truth.copy(); given[4] = 1
    >>> def train(targets, num_classes, calculator):
    ...     calculator.accumulate(4.0 * np.eye(num_classes)[truth], targets, np.arange(len(targets)))
    >>> findings = find_by_posterior(train, given, num_classes=2, save_dir=tempfile.mkdtemp())
    >>> np.flatnonzero(findings.flagged), int(findings.suggested[4])
    (array([4]), 0)
    """
    given = class_labels(targets, num_classes)
    names = names_of_rows(sample_ids, len(given))
    labels = label_names(class_names, num_classes)
    rule = LikelyWrong() if cutoff is None else cutoff
    if isinstance(rule, type) or not callable(getattr(rule, "cut", None)):
        raise TypeError(f"cutoff: {rule!r}, want LikelyWrong(), Precision(0.9), Budget(100) or ZeroMargin()")
    folder = Path(save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    remove_old_files(folder)

    keeper = calculator(folder, noise_posterior=True)
    train(given, num_classes, keeper)
    aums = by_row(keeper.totals.sample_ids, keeper.totals.aums, len(given), "train: the run")
    keeper.totals.save(folder / "totals.npz")
    posterior = _by_row(keeper, given, num_classes)
    scores = 1 - posterior.probabilities
    cut = rule.cut(Ranking(scores, aums, posterior))
    description = {
        "job": "find_by_posterior",
        **keeper.describe(),
        "samples": len(given),
        "unmeasured": int(np.isnan(aums).sum()),
        "num_classes": num_classes,
        "class_names": labels.tolist(),
        "scores": keeper.scores.describe(),
        "noise_posterior": posterior.describe(),
        "cut": cut.describe(),
        **(metadata or {}),
    }
    findings = Findings(names, given, aums, scores, posterior.suggested, cut, description, posterior=posterior)
    write_findings(findings, labels, folder)
    return findings


def _by_row(calculator: AUMCalculator, given: NDArray[np.int64], num_classes: int) -> NoisePosterior:
    """The posterior by row of the data set; a sample that was not measured keeps its label."""
    found = calculator.noise_posterior()
    if len(found.transition) != num_classes:
        raise ValueError(f"train: logits of {len(found.transition)} classes, want num_classes={num_classes}")
    rows = calculator.totals.sample_ids
    probabilities = by_row(rows, found.probabilities, len(given), "train: the run")
    suggested = given.copy()
    suggested[rows] = np.where(found.suggested >= 0, found.suggested, given[rows])
    return found.at(probabilities, suggested)
