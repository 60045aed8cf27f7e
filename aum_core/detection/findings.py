"""What a search for wrong labels comes back with, and its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.files.tables import write_aum_values, write_table
from aum_core.files.whole import write_json
from aum_core.posterior.tables import write_posterior
from aum_core.sample_index import row_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from aum_core.detection.cutoffs import Cut
    from aum_core.detection.threshold_samples import ThresholdPlan
    from aum_core.ids import SampleId
    from aum_core.posterior.estimate import NoisePosterior

__all__ = ["RESULTS", "Findings", "label_names", "names_of_rows", "remove_old_files", "write_findings"]

RESULTS = re.compile(
    r"threshold_plan\.npz|totals(_run.*)?\.npz|aum_values\.csv|flagged\.csv|noise_posterior\.csv|transition\.csv|run\.json"
)
"""Names of the files that a search leaves, and that the next one in the same folder removes."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search found, aligned to the rows of the data set.

    Attributes
    ----------
    sample_ids : ndarray of shape (N,), int64 or object (ints and strs)
        The names of the rows in the files; row numbers where none were given.
    targets : ndarray of shape (N,), int64
        The given labels.
    aums : ndarray of shape (N,), float64
        AUM averaged over the runs in which the sample is regular; NaN where no such run measured it.
    scores : ndarray of shape (N,), float64
        What samples are ranked by, the lowest being the most suspicious: the AUMs, another score, or the chance that
        the label is right by the noise posterior.
    suggested : ndarray of shape (N,), int64
        The class that the label should rather be. With threshold samples the one that most often beat the given label
        in those runs (the lowest of several), the given label where none ever did, and -1 for all where a run gave
        `AUMCalculator.add_totals` its totals, which do not tell. With the noise posterior the most likely true class.
    cut : Cut
        With `flagged`, `keep` and every choice.
    run : dict
        What ``run.json`` holds.
    plan : ThresholdPlan, optional
        Only of `find_mislabeled`.
    posterior : NoisePosterior, optional
        Only of `find_by_posterior`.

    Examples
    --------
    >>> import tempfile
    >>> from aum_core import Budget, find_by_posterior
    >>> def train(targets, num_classes, calculator):
    ...     logits = [[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [3.0, 0.0]]  # of a network that holds the last for a 0
    ...     calculator.accumulate(logits, targets, [0, 1, 2, 3])
    >>> findings = find_by_posterior(train, [0, 1, 0, 1], 2, save_dir=tempfile.mkdtemp(), cutoff=Budget(1))
    >>> findings.most_suspicious(1), findings.keep
    (array([3]), array([ True,  True,  True, False]))
    """

    sample_ids: NDArray[Any]
    targets: NDArray[np.int64]
    aums: NDArray[np.float64]
    scores: NDArray[np.float64]
    suggested: NDArray[np.int64]
    cut: Cut
    run: dict[str, Any]
    plan: ThresholdPlan | None = None
    posterior: NoisePosterior | None = None

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """True, (N,), where the label is held to be wrong."""
        return self.cut.flagged

    @property
    def keep(self) -> NDArray[np.bool_]:
        """True, (N,), for the samples to train on."""
        return self.cut.keep

    def most_suspicious(self, count: int | None = None) -> NDArray[np.intp]:
        """Give rows by suspicion: flagged ones first, then by score, the lowest first.

        Parameters
        ----------
        count : int, optional
            How many; all of them by default.

        Returns
        -------
        ndarray of shape (count,) or (N,), int
        """
        return np.lexsort((self.scores, ~self.flagged))[:count]


def names_of_rows(sample_ids: Sequence[SampleId] | NDArray[Any] | None, num_samples: int) -> NDArray[Any]:
    """Give the names of all rows as an array (N,), seen to be different."""
    ids = row_names(sample_ids, num_samples)
    if isinstance(ids, np.ndarray):
        return ids
    names = np.empty(num_samples, dtype=object)
    names[:] = ids
    return names


def label_names(class_names: Sequence[str] | None, num_classes: int) -> NDArray[Any]:
    """Give the names of the classes in the files, (C,)."""
    if class_names is None:
        return np.arange(num_classes)
    if len(class_names) != num_classes or isinstance(class_names, str):
        raise ValueError(f"class_names: {len(class_names)} names for {num_classes} classes, want one for each")
    return np.array([str(name) for name in class_names], dtype=object)


def remove_old_files(folder: Path) -> None:
    """Remove the files of an earlier job, so that those of an interrupted one do not stand among them."""
    for old in folder.iterdir():
        if RESULTS.fullmatch(old.name):
            old.unlink()


def write_findings(findings: Findings, labels: NDArray[Any], folder: Path) -> None:
    """Write ``aum_values.csv``, ``flagged.csv`` and ``run.json``; with a noise posterior its files too."""
    write_aum_values(folder / "aum_values.csv", findings.sample_ids, findings.aums)
    suggested = np.append(labels.astype(object), "")  # -1 is unknown, and comes out empty
    columns = {
        "sample_id": findings.sample_ids,
        "given_label": labels[findings.targets],
        "suggested_label": suggested[findings.suggested],
        "aum": findings.aums,
    }
    if findings.posterior is not None:
        columns["probability_wrong"] = findings.posterior.probabilities
        write_posterior(
            folder, findings.sample_ids, findings.targets, findings.posterior, labels, flagged=findings.flagged
        )
    worst_first = findings.most_suspicious(int(findings.flagged.sum()))
    write_table(folder / "flagged.csv", columns, worst_first)
    write_json(folder / "run.json", findings.run)
