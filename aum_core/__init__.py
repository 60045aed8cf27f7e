"""The engine of `aum`: margins, totals, records, threshold samples and files, in NumPy alone."""

from aum_core._version import __version__
from aum_core.backend import Backend, NumpyBackend
from aum_core.batch import Batch, Observer
from aum_core.calculator import AUMCalculator
from aum_core.cartography import accumulate_dynamics
from aum_core.dataset import DatasetWithIndex
from aum_core.detection.cutoffs import Budget, Cut, LikelyWrong, Precision, ZeroMargin
from aum_core.detection.evaluation import Detection, measure_detection
from aum_core.detection.findings import Findings
from aum_core.detection.search import find_by_posterior, find_mislabeled
from aum_core.detection.threshold_samples import ThresholdPlan, ThresholdRun
from aum_core.files.tables import read_aum_values
from aum_core.margins import Margins, compute_margins
from aum_core.noise.flips import flip_by_matrix, flip_instance_dependent, flip_pairs, flip_uniform
from aum_core.noise.self_check import self_check
from aum_core.posterior.estimate import NoisePosterior
from aum_core.records import AUMRecord, RecordLog, RecordsInMemory
from aum_core.sample_index import SampleIndex
from aum_core.scores.epoch_sums import EpochSums
from aum_core.scores.needs import Needs
from aum_core.scores.scores import Scores
from aum_core.totals import Totals

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "Backend",
    "Batch",
    "Budget",
    "Cut",
    "DatasetWithIndex",
    "Detection",
    "EpochSums",
    "Findings",
    "LikelyWrong",
    "Margins",
    "Needs",
    "NoisePosterior",
    "NumpyBackend",
    "Observer",
    "Precision",
    "RecordLog",
    "RecordsInMemory",
    "SampleIndex",
    "Scores",
    "ThresholdPlan",
    "ThresholdRun",
    "Totals",
    "ZeroMargin",
    "__version__",
    "accumulate_dynamics",
    "compute_margins",
    "find_by_posterior",
    "find_mislabeled",
    "flip_by_matrix",
    "flip_instance_dependent",
    "flip_pairs",
    "flip_uniform",
    "measure_detection",
    "read_aum_values",
    "self_check",
]
