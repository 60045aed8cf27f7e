"""Which samples the runs with threshold samples flag: by the paper's percentile, or by the authors' own count.

Both are meant to be the same, and are not: a percentile lies between two threshold samples, a count at one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aum.torch import ThresholdPlan

__all__ = ["RULES", "Verdict", "cut_by_count", "cut_by_percentile"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is flagged.

    Attributes
    ----------
    flagged : ndarray of shape (N,), bool
        Over all runs.
    below : ndarray of shape (runs, N), bool
        Below the cutoff of each run, also where the sample is a threshold sample.
    choices : dict
        What led to it.
    """

    flagged: NDArray[np.bool_]
    below: NDArray[np.bool_]
    choices: dict[str, Any]


def cut_by_percentile(
    plan: ThresholdPlan, aums: Sequence[NDArray[np.float64]], percentile: float, combine: Any
) -> Verdict:
    """Flag the AUMs below the percentile of the threshold samples' AUMs, linearly interpolated."""
    cut = plan.cut(aums, percentile, combine)
    assert cut.cutoffs is not None  # since the plan drew threshold samples
    return Verdict(cut.flagged, np.array(aums) < cut.cutoffs[:, None], cut.describe())


def cut_by_count(plan: ThresholdPlan, aums: Sequence[NDArray[np.float64]], percentile: float, combine: Any) -> Verdict:
    """Flag the AUMs that more than ``100 - percentile`` percent of the threshold samples' AUMs exceed.

    Examples
    --------
    >>> from aum_core import ThresholdPlan
    >>> plan = ThresholdPlan.draw([0, 1] * 100, num_classes=2, runs=1, size=100)
    >>> aums = np.zeros(200)
    >>> aums[plan.threshold_samples[0]] = np.arange(100) - 98.0  # one above 0: 1 % is not more than 1 %
    >>> int(cut_by_count(plan, [aums], 99.0, "all").flagged.sum())
    0
    """
    if combine == "mean":
        raise ValueError("combine: 'mean' goes with the rule 'percentile' only; want 'all' or 'any'")
    choices = plan.cut(aums, percentile, combine).describe()  # checks what there is to check
    cutoffs = np.array(
        [_cutoff(each[rows], percentile) for each, rows in zip(aums, plan.threshold_samples, strict=True)]
    )
    below = np.array(aums) < cutoffs[:, None]
    judged = np.array([run.regular for run in plan.runs]) & ~np.isnan(aums)
    in_any: NDArray[np.bool_] = np.any(below & judged, axis=0)
    flagged = in_any if combine == "any" else in_any & np.all(below | ~judged, axis=0)
    rule = f"more than {100 - percentile:g} % of the threshold samples' AUMs of the run exceed the AUM"
    del choices["percentile_interpolation"]
    return Verdict(
        flagged, below, {**choices, "rule": rule, "cutoffs": cutoffs.tolist(), "flagged": int(flagged.sum())}
    )


def _cutoff(threshold_aums: NDArray[np.float64], percentile: float) -> float:
    """The highest threshold AUM that may exceed an AUM without being one too many."""
    ranked = np.sort(threshold_aums[~np.isnan(threshold_aums)])[::-1]
    allowed = int(len(ranked) * round(100 - percentile, 9) / 100)
    return float(ranked[allowed])


RULES = {"count": cut_by_count, "percentile": cut_by_percentile}
