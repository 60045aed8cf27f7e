"""Which labels are held to be wrong, and how well that works.

In come a training function and the given labels, or arrays by row of the data set: AUMs, scores, the noise posterior.
Out come a `Cut` (who is flagged, by which rule), `Findings` with their files, and figures of how many known errors were
found. `find_mislabeled` and `find_by_posterior` do the whole search around a training.

It never trains by itself, never changes a label, and never flags a sample that was not measured. The engine knows
nothing of it: the searches make calculators and observe their batches.
"""

from aum_core.detection.cutoffs import Budget, Cut, Cutoff, LikelyWrong, Precision, ZeroMargin
from aum_core.detection.evaluation import Detection, measure_detection
from aum_core.detection.findings import Findings
from aum_core.detection.runner_up import RunnerUpCounts
from aum_core.detection.search import find_by_posterior, find_mislabeled, with_calculator
from aum_core.detection.threshold_samples import ThresholdPlan, ThresholdRun

__all__ = [
    "Budget",
    "Cut",
    "Cutoff",
    "Detection",
    "Findings",
    "LikelyWrong",
    "Precision",
    "RunnerUpCounts",
    "ThresholdPlan",
    "ThresholdRun",
    "ZeroMargin",
    "find_by_posterior",
    "find_mislabeled",
    "measure_detection",
    "with_calculator",
]
