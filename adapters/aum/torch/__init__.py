"""AUM for PyTorch: a drop-in for PyPI `aum` 1.0.2.

In come the logits of the training forward pass, as tensors of any device and float type. Out come records, totals
and the files of a run; over `torch.distributed`, those of all ranks together. Whoever measures in a compiled step, a
checkpoint or a job of several ranks uses the same `AUMCalculator`.

Nothing here touches a tensor or the graph that it was given, or waits for a device more than once in a batch.
"""

try:
    import torch  # noqa: F401 # first, so that its absence is told in one line
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError("aum.torch needs PyTorch: pip install 'aum[torch]'", name="torch") from error

from aum.torch.backend import TorchBackend
from aum.torch.calculator import AUMCalculator, find_by_posterior, find_mislabeled
from aum.torch.data import DatasetWithIndex, mark_padding
from aum.torch.ranks import merge_ranks
from aum_core import AUMRecord, Findings, ThresholdPlan, Totals

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "DatasetWithIndex",
    "Findings",
    "ThresholdPlan",
    "TorchBackend",
    "Totals",
    "find_by_posterior",
    "find_mislabeled",
    "mark_padding",
    "merge_ranks",
]
