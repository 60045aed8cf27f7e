"""Threshold samples: wrong labels on purpose, whose AUMs tell where to cut (Pleiss et al. 2020, section 3.2).

Some samples get the label of a class that does not exist, class C. The network can only memorise them, so the AUMs
that they end with are those of mislabelled data. They are no evidence about their own labels in that run: another
run, with other threshold samples, judges them.

Everything here is aligned to the rows of the data set, as the caller has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aum_core.dataset import class_labels, random_stream
from aum_core.detection.cutoffs import Cut
from aum_core.files.arrays import load_arrays, save_arrays

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Combine", "ThresholdPlan", "ThresholdRun", "check_cut"]

Combine = Literal["all", "any", "mean"]

_COMBINE = {
    "all": "flagged in every run in which it is regular and was measured",
    "any": "flagged in at least one run in which it is regular and was measured",
    "mean": "mean AUM below the mean cutoff, over the runs in which it is regular and was measured",
}
_KIND = "aum threshold plan, version 1"
_ARRAYS = {
    "targets": ("int64", 1),
    "threshold_samples": ("int64", 2),
    "num_classes": ("int64", 1),
    "seed": ("int64", 1),
}


@dataclass(frozen=True, slots=True)
class ThresholdRun:
    """One training run of a plan.

    Attributes
    ----------
    index : int
        Its number in the plan, from 0.
    targets : ndarray of shape (N,), int64
        What to train on: the given targets, with class C for the threshold samples.
    threshold_samples : ndarray of shape (size,), int64
        Rows of the threshold samples, ascending.
    num_classes : int
        C + 1: what the classifier needs outputs for.

    Examples
    --------
    >>> run = ThresholdPlan.draw([0, 1, 0, 1, 0, 1], num_classes=2, runs=1).runs[0]
    >>> int((run.targets == 2).sum()), int(run.regular.sum())
    (2, 4)
    """

    index: int
    targets: NDArray[np.int64]
    threshold_samples: NDArray[np.int64]
    num_classes: int

    @property
    def regular(self) -> NDArray[np.bool_]:
        """True, (N,), for the samples that kept their label in this run."""
        mask = np.ones(len(self.targets), np.bool_)
        mask[self.threshold_samples] = False
        return mask


@dataclass(frozen=True, slots=True)
class ThresholdPlan:
    """Which samples are threshold samples in which run (Pleiss et al. 2020, section 3.2). Made by `draw` or `load`.

    Attributes
    ----------
    targets : ndarray of shape (N,), int64
        The given targets.
    num_classes : int
        C, without the extra class.
    threshold_samples : ndarray of shape (runs, size), int64
        Rows of each run's threshold samples, ascending; no row is there twice.
    seed : int

    Examples
    --------
    >>> plan = ThresholdPlan.draw([0, 1, 0, 1, 0, 1], num_classes=2, runs=2)
    >>> plan.size, [run.num_classes for run in plan.runs]
    (2, [3, 3])
    >>> for run in plan.runs:
    ...     assert (run.targets[run.threshold_samples] == 2).all()
    """

    targets: NDArray[np.int64]
    num_classes: int
    threshold_samples: NDArray[np.int64]
    seed: int

    @classmethod
    def draw(
        cls, targets: Any, num_classes: int, runs: int = 2, size: int | None = None, seed: int = 0
    ) -> ThresholdPlan:
        """Draw disjoint random sets of threshold samples.

        Parameters
        ----------
        targets : array_like of shape (N,), ints in [0, C)
        num_classes : int
            C, at least 2.
        runs : int, default 2
            With two or more, every sample is judged by some run.
        size : int, optional
            Threshold samples per run; ``N // (C + 1)`` by default, the share that one more class would have.
        seed : int, default 0
            Of the draw; independent of what else the same seed draws.

        Returns
        -------
        ThresholdPlan

        Raises
        ------
        ValueError
            Where the sets do not fit into the data set, or the targets not into the classes.

        Examples
        --------
        >>> ThresholdPlan.draw([0, 1, 0, 1, 0, 1], num_classes=2, runs=3, size=1).num_samples
        6
        """
        labels = class_labels(targets, num_classes)
        num_samples = len(labels)
        if runs < 1:
            raise ValueError(f"runs: {runs}, want at least 1")
        default = num_samples // (num_classes + 1)
        if size is None and not default:
            raise ValueError(
                f"targets: {num_samples} samples are too few for threshold samples: "
                f"N // (C + 1) with C = {num_classes} is 0; want at least {num_classes + 1}, or give size"
            )
        size = default if size is None else size
        if size < 1:
            raise ValueError(f"size: {size}, want at least 1 threshold sample per run")
        if runs * size > num_samples:
            raise ValueError(
                f"runs: {runs} disjoint sets of {size} threshold samples need {runs * size} samples, there are "
                f"{num_samples}; want runs <= {num_samples // size}, or a size <= {num_samples // runs}"
            )
        chosen = random_stream(seed, "threshold samples").permutation(num_samples)[: runs * size].reshape(runs, size)
        return cls(labels, num_classes, np.sort(chosen, axis=1), seed)

    @property
    def num_samples(self) -> int:
        """N."""
        return len(self.targets)

    @property
    def size(self) -> int:
        """Threshold samples per run."""
        return int(self.threshold_samples.shape[1])

    @property
    def runs(self) -> list[ThresholdRun]:
        """The runs, in order."""
        return [self._run(index) for index in range(len(self.threshold_samples))]

    def _run(self, index: int) -> ThresholdRun:
        targets = self.targets.copy()
        targets[self.threshold_samples[index]] = self.num_classes
        return ThresholdRun(index, targets, self.threshold_samples[index], self.num_classes + 1)

    def cut(self, aums_per_run: Sequence[Any], percentile: float = 99.0, combine: Combine = "all") -> Cut:
        """Flag the samples whose AUM lies below those of the threshold samples.

        In each run the cutoff is the `percentile` of its threshold samples' AUMs, and a regular sample is flagged
        when its AUM is below it.

        Parameters
        ----------
        aums_per_run : sequence of array_like of shape (N,), floats, one for each run
            In the order of the data set's rows, *not* of the ranking in ``aum_values.csv``; NaN where a sample was
            not measured.
        percentile : float, default 99.0
            In (0, 100).
        combine : {"all", "any", "mean"}, default "all"
            Over the runs in which a sample is regular: flagged in all of them (the authors' runner), in any, or by
            the mean of its AUMs against the mean of the cutoffs.

        Returns
        -------
        Cut
            With the cutoff of each run. A sample that no run could judge is undecided: it was never regular and
            measured in the same run.

        Raises
        ------
        ValueError
            Where the AUMs are not those of the plan, or in some run no threshold sample was measured; where a choice
            is none.

        Examples
        --------
        >>> plan = ThresholdPlan.draw([0, 1] * 5, num_classes=2, runs=1, size=2)
        >>> aums = np.arange(10.0)
        >>> aums[plan.threshold_samples[0]] = -1.0, 1.5
        >>> plan.cut([aums], percentile=50).cutoffs
        array([0.25])
        """
        check_cut(percentile, combine)
        aums = self._checked_aums(aums_per_run)
        regular = np.array([run.regular for run in self.runs])
        chosen = np.take_along_axis(aums, self.threshold_samples, axis=1)
        cutoffs = np.nanpercentile(chosen, percentile, axis=1)
        judged = regular & ~np.isnan(aums)
        flagged = _flagged(aums, cutoffs[:, None], judged, combine)
        undecided = ~np.logical_or.reduce(judged)
        rule = {
            "rule": "AUM strictly below the percentile of the threshold samples' AUMs of the run",
            "percentile": float(percentile),
            "percentile_interpolation": "linear",
            "combine": combine,
            "combine_rule": _COMBINE[combine],
            "runs": len(cutoffs),
            "threshold_samples_per_run": self.size,
            "threshold_samples_measured": np.isfinite(chosen).sum(axis=1).tolist(),
            "seed": self.seed,
        }
        return Cut(flagged, undecided, rule, cutoffs)

    def _checked_aums(self, aums_per_run: Sequence[Any]) -> NDArray[np.float64]:
        if len(aums_per_run) != len(self.threshold_samples):
            raise ValueError(
                f"aums_per_run: {len(aums_per_run)} of them, want one for each of {len(self.threshold_samples)} runs"
            )
        for index, each in enumerate(aums_per_run):
            if np.shape(each) != (self.num_samples,):
                raise ValueError(f"aums_per_run: run {index} has shape {np.shape(each)}, want ({self.num_samples},)")
        aums = np.array(aums_per_run, dtype=np.float64)
        for index, rows in enumerate(self.threshold_samples):
            if np.isnan(aums[index, rows]).all():
                raise ValueError(f"aums_per_run: in run {index} no threshold sample has an AUM, so there is no cutoff")
        return aums

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save to an ``.npz`` file, without pickle, whole or not at all.

        Parameters
        ----------
        path : str or path

        Examples
        --------
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/threshold_plan.npz"
        >>> plan = ThresholdPlan.draw([0, 1] * 5, num_classes=2, seed=3)
        >>> plan.save(path)
        >>> ThresholdPlan.load(path).seed
        3
        """
        numbers = {"num_classes": np.array([self.num_classes]), "seed": np.array([self.seed])}
        save_arrays(path, _KIND, {"targets": self.targets, "threshold_samples": self.threshold_samples, **numbers})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ThresholdPlan:
        """Load what `save` saved; see there.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        ThresholdPlan

        Raises
        ------
        ValueError
            Where the file is truncated, foreign, or contradicts itself.
        """
        arrays = load_arrays(path, _KIND, _ARRAYS)
        try:
            num_classes, seed = (int(arrays[name].item()) for name in ("num_classes", "seed"))
            plan = cls(class_labels(arrays["targets"], num_classes), num_classes, arrays["threshold_samples"], seed)
            plan._check_rows()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a file of {_KIND}, or damaged ({error})") from error
        return plan

    def _check_rows(self) -> None:
        rows = self.threshold_samples
        if rows.ndim != 2 or not rows.size:
            raise ValueError(f"threshold_samples of shape {rows.shape}")
        if rows.min() < 0 or rows.max() >= self.num_samples or len(np.unique(rows)) != rows.size:
            raise ValueError("a row of a threshold sample is out of range or there twice")


def check_cut(percentile: float, combine: str) -> None:
    """Make an error of choices with which `ThresholdPlan.cut` would not work, before anything is trained.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> check_cut(99, "all")
    """
    if not 0 < percentile < 100:
        raise ValueError(f"percentile: {percentile}, want one in (0, 100), such as 99")
    if combine not in _COMBINE:
        raise ValueError(f"combine: {combine!r}, want one of {', '.join(map(repr, _COMBINE))}")


def _flagged(
    aums: NDArray[np.float64], cutoffs: NDArray[np.float64], judged: NDArray[np.bool_], combine: Combine
) -> NDArray[np.bool_]:
    """Make one verdict (N,) of the verdicts (runs, N); a sample that no run judged is not flagged."""
    if combine == "mean":
        distance = np.subtract(aums, cutoffs, out=np.zeros_like(aums), where=judged)
        mean_below: NDArray[np.bool_] = distance.sum(axis=0) < 0
        return mean_below
    below = judged & (aums < cutoffs)
    in_any: NDArray[np.bool_] = np.logical_or.reduce(below)
    in_all: NDArray[np.bool_] = in_any & np.logical_and.reduce(below | ~judged)
    return in_any if combine == "any" else in_all
