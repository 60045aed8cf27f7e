"""AUM for TensorFlow: state that lives in variables and is updated inside the step, and ids for `tf.data`.

In come the logits of training steps, out go totals and epochs for the engine; no model, loss or optimizer is touched.

A `tf.function` runs its Python once, while it is traced, and tensors have no values then: what keeps its sums on the
host cannot be called from it. `AUMState` is made of TensorFlow operations only, so its update compiles with the step.
`AUMCalculator` is for eager tensors.

    state         AUMState, updated inside a step, compiled or not
    data          with_index: sample ids for a `tf.data.Dataset`
    calculator    AUMCalculator for eager tensors, TFBackend
    batch         what is checked and measured of a batch inside the step
    replicas      variables of a distribution strategy, and their checkpoint
"""

from __future__ import annotations

import importlib

from aum_core import AUMRecord, EpochSums, Findings, Needs, ThresholdPlan, Totals

try:
    import tensorflow  # noqa: F401, ICN001, TID251 # for the message where it is absent
except ModuleNotFoundError as error:
    if error.name != "tensorflow":
        raise
    raise ModuleNotFoundError("aum.tf needs TensorFlow: pip install 'aum[tf]'", name="tensorflow") from error

from aum.tf.calculator import AUMCalculator, TFBackend, find_by_posterior, find_mislabeled
from aum.tf.data import with_index
from aum.tf.state import AUMState

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "AUMState",
    "EpochSums",
    "Findings",
    "Needs",
    "TFBackend",
    "ThresholdPlan",
    "Totals",
    "find_by_posterior",
    "find_mislabeled",
    "with_index",
]


def __getattr__(name: str) -> object:
    if name != "AUMCallback":
        raise AttributeError(f"module 'aum.tf' has no attribute {name!r}")
    callback: object = importlib.import_module("aum.keras").AUMCallback  # Keras is for those who call fit
    return callback
