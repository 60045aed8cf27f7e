"""The engine of `aum`: margins, totals, records, threshold samples and files, in NumPy alone."""

from aum_core._version import __version__
from aum_core.backend import Backend, NumpyBackend
from aum_core.calculator import AUMCalculator
from aum_core.dataset import DatasetWithIndex
from aum_core.detection import Detection, measure_detection, self_check
from aum_core.margins import Margins, compute_margins
from aum_core.mislabeled import Findings, find_mislabeled
from aum_core.noise import flip_ambiguous, flip_by_matrix, flip_pairs, flip_uniform
from aum_core.records import AUMRecord, RecordLog, RecordsInMemory
from aum_core.sample_index import SampleIndex
from aum_core.tables import read_aum_values
from aum_core.thresholds import Cut, ThresholdPlan, ThresholdRun
from aum_core.totals import Totals

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "Backend",
    "Cut",
    "DatasetWithIndex",
    "Detection",
    "Findings",
    "Margins",
    "NumpyBackend",
    "RecordLog",
    "RecordsInMemory",
    "SampleIndex",
    "ThresholdPlan",
    "ThresholdRun",
    "Totals",
    "__version__",
    "compute_margins",
    "find_mislabeled",
    "flip_ambiguous",
    "flip_by_matrix",
    "flip_pairs",
    "flip_uniform",
    "measure_detection",
    "read_aum_values",
    "self_check",
]
