"""The engine of `aum`, in NumPy alone: from logits to margins, totals and records, and from these to wrong labels.

In come batches of logits, targets and sample ids; out come rankings, suggestions and files. It never imports a
framework, never writes into an array of the caller's, and never drops a measurement in silence.
"""

# A table of contents, grouped as one reads it: the imports stand room by room, the names in the order of the work.
from aum_core._version import __version__
from aum_core.backend import Backend, NumpyBackend
from aum_core.batch import Batch, Observer
from aum_core.calculator import AUMCalculator
from aum_core.cartography import accumulate_dynamics
from aum_core.dataset import DatasetWithIndex
from aum_core.detection import (
    Budget,
    Cut,
    Detection,
    Findings,
    LikelyWrong,
    Precision,
    ThresholdPlan,
    ThresholdRun,
    ZeroMargin,
    find_by_posterior,
    find_mislabeled,
    measure_detection,
)
from aum_core.files import read_aum_values
from aum_core.margins import Margins, compute_margins
from aum_core.noise import flip_by_matrix, flip_instance_dependent, flip_pairs, flip_uniform, self_check
from aum_core.posterior import NoisePosterior
from aum_core.records import AUMRecord, RecordLog, RecordsInMemory
from aum_core.sample_index import SampleIndex
from aum_core.scores import EpochSums, Needs, Scores
from aum_core.totals import Totals

__all__ = [
    # Measure: a training loop needs the first two of these.
    "AUMCalculator",
    "DatasetWithIndex",
    "Margins",
    "compute_margins",
    # What was measured.
    "Totals",
    "AUMRecord",
    "RecordLog",
    "RecordsInMemory",
    "SampleIndex",
    "read_aum_values",
    "accumulate_dynamics",
    # What else a forward pass tells.
    "Scores",
    "Needs",
    "EpochSums",
    "NoisePosterior",
    # Find wrong labels, and say where to stop.
    "find_mislabeled",
    "find_by_posterior",
    "Findings",
    "ThresholdPlan",
    "ThresholdRun",
    "Cut",
    "Budget",
    "LikelyWrong",
    "Precision",
    "ZeroMargin",
    # How well are they found?
    "self_check",
    "measure_detection",
    "Detection",
    "flip_uniform",
    "flip_pairs",
    "flip_by_matrix",
    "flip_instance_dependent",
    # For whoever writes an adapter.
    "Backend",
    "NumpyBackend",
    "Batch",
    "Observer",
    "__version__",
]
