"""AUM for Keras 3: measured inside the compiled training step, on the TensorFlow, JAX and PyTorch backends.

`with_ids` gives the inputs their sample ids, `AUMCallback` goes into ``fit``. In come the batches of a fit, out go
totals and the files of a run. The step stays the one that Keras makes: the margins of its own forward pass are added to
one variable on the device, and come home once an epoch. Loss, weights and validation are never touched.

    inputs        with_ids: sample ids that travel beside the inputs
    callback      AUMCallback: what happens when in the course of a fit
    attachment    what is put into the model's step, and taken out again
    logits        where a model's logits are to be seen
    state         the sums of one epoch, on the device
    checkpoint    the sums of all epochs, on the host and in files
"""

from __future__ import annotations

import aum_core
from aum_core import AUMCalculator, Findings, ThresholdPlan, Totals
from aum_core.detection import with_calculator

try:
    import keras  # noqa: F401 # for the message where it is absent
except ModuleNotFoundError as error:
    if error.name != "keras":
        raise
    raise ModuleNotFoundError("aum.keras needs Keras 3: pip install 'aum[keras]'", name="keras") from error

from aum.keras.callback import AUMCallback
from aum.keras.inputs import with_ids

__all__ = [
    "AUMCalculator",
    "AUMCallback",
    "Findings",
    "ThresholdPlan",
    "Totals",
    "find_by_posterior",
    "find_mislabeled",
    "with_ids",
]

_NOTES = "`train` builds its `AUMCallback` from the calculator that it is given, and puts it into ``fit``."

find_mislabeled = with_calculator(aum_core.find_mislabeled, AUMCalculator, "aum.keras", notes=_NOTES)
find_by_posterior = with_calculator(aum_core.find_by_posterior, AUMCalculator, "aum.keras", notes=_NOTES)
