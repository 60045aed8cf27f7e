"""AUM for PyTorch: a drop-in for PyPI `aum` 1.0.2.

CPU tensors are seen by the NumPy engine as they are, without a copy: that is several times faster than the same
arithmetic in torch operators. Tensors of another device are reduced there, and (B,) vectors come over in one transfer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import aum_core
from aum_core import AUMRecord, Findings, Margins, ThresholdPlan, Totals, compute_margins
from aum_core.detection import with_calculator
from aum_core.margins import TargetError, check_logits, check_targets, rows_per_block, widened

try:
    import torch  # noqa: TID251 # the one module that may
    from torch.utils.data import Dataset  # noqa: TID251 # as above
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ModuleNotFoundError("aum.torch needs PyTorch: pip install 'aum[torch]'", name="torch") from error

from aum._ranking import write_ranking
from aum.torch.ranks import finalize_ranks, mark_padding, merge_ranks, several_ranks

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from aum_core.ids import SampleId
    from aum_core.records import RecordLog, SampleIds

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

_HALF = (torch.float16, torch.bfloat16)


class TorchBackend:
    """Tensors for the engine: the `aum_core.Backend` of this framework. Never touches the caller's tensors or graph.

    Examples
    --------
    >>> import torch
    >>> TorchBackend().measure(torch.tensor([[1.0, 4.0]], dtype=torch.bfloat16), torch.tensor([1])).margin
    array([3.], dtype=float32)
    """

    name = "torch"

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Give a tensor on the host; see `aum_core.Backend.to_numpy`."""
        if isinstance(array, torch.Tensor):
            numpy: NDArray[Any] = array.numpy(force=True)
            return numpy
        return aum_core.NumpyBackend().to_numpy(array)

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch on the device of its logits; see `aum_core.Backend.measure`."""
        if isinstance(logits, torch.Tensor):
            if not logits.is_cpu:
                return _measure_on_device(logits.detach(), targets)
            if logits.dtype in _HALF:
                return _measure_half(logits.detach(), self.to_numpy(targets), other_logit)
        return compute_margins(self.to_numpy(logits), self.to_numpy(targets), other_logit=other_logit)

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give the logits of a batch on the host; see `aum_core.Backend.logits`."""
        if isinstance(logits, torch.Tensor) and logits.dtype in _HALF:
            logits = logits.detach().float()
        return widened(self.to_numpy(logits))


def _log_on_disk(sample_ids: SampleIds, save_dir: str | os.PathLike[str]) -> RecordLog:
    from aum.parquet import RecordsOnDisk  # noqa: PLC0415 # pyarrow is for those who keep records

    group = torch.distributed
    if group.is_available() and group.is_initialized():
        return RecordsOnDisk(sample_ids, save_dir=save_dir, rank=group.get_rank(), num_ranks=group.get_world_size())
    return RecordsOnDisk(sample_ids, save_dir=save_dir)


class AUMCalculator(aum_core.AUMCalculator):
    """Keeps the Area Under the Margin of every sample while a PyTorch model trains.

    The same as the reference's, to the bit. For the parameters see `aum_core.AUMCalculator`.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> calculator = AUMCalculator(tempfile.mkdtemp(), compressed=True)
    >>> logits = torch.tensor([[2.0, 0.5], [1.0, 3.0]], requires_grad=True)
    >>> records = calculator.update(logits, torch.tensor([0, 0]), sample_ids=["cat.png", "dog.png"])
    >>> records["dog.png"].margin
    -2.0
    """

    _make_backend = TorchBackend
    _make_log = staticmethod(_log_on_disk)
    _write_ranking = staticmethod(write_ranking)

    def update(self, logits: Any, targets: Any, sample_ids: Any) -> dict[SampleId, AUMRecord]:
        """Measure a batch and give its records; see `aum_core.AUMCalculator.update`."""
        if torch.compiler.is_compiling():
            records: dict[SampleId, AUMRecord] = _outside_the_graph(super().update)(logits, targets, sample_ids)
            return records
        return super().update(logits, targets, sample_ids)

    def accumulate(self, logits: Any, targets: Any, sample_ids: Any) -> None:
        """Measure a batch without making records of it; for its parameters see `aum_core.AUMCalculator.update`."""
        if torch.compiler.is_compiling():
            _outside_the_graph(super().accumulate)(logits, targets, sample_ids)
            return
        super().accumulate(logits, targets, sample_ids)

    def finalize(
        self, save_dir: str | os.PathLike[str] | None = None, *, full_csv: bool = True, merge: bool = True
    ) -> None:
        """Write the files of the run; see `aum_core.AUMCalculator.finalize`.

        Where `torch.distributed` runs several ranks, every rank must call it. Each writes its own
        ``totals_rank0.npz`` and so on, and rank 0 the files of all of them together.

        Parameters
        ----------
        save_dir : str or path, optional
            Another folder than the calculator's own.
        full_csv : bool, default True
            False leaves ``full_aum_records.csv`` out.
        merge : bool, default True
            False writes the files of this rank alone, as if there were no others.

        Raises
        ------
        TimeoutError, ValueError
            Where not all ranks called it within ten minutes, or they do not go together. What each measured is in its
            own file then, and `aum merge` makes one of them.
        """
        if merge and several_ranks():
            finalize_ranks(self, Path(save_dir or self.save_dir), full_csv=full_csv)
        else:
            super().finalize(save_dir, full_csv=full_csv)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state in tensors, for `torch.save` beside those of model and optimiser.

        Of a log on disk it names the parts that belong to it; what was still in memory becomes one first. Under
        `torch.distributed` it is that of this rank: each saves and loads its own.

        Examples
        --------
        >>> import tempfile
        >>> calculator = AUMCalculator(tempfile.mkdtemp())
        >>> calculator.accumulate(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), ["cat.png"])
        >>> resumed = AUMCalculator(tempfile.mkdtemp())
        >>> resumed.load_state_dict(calculator.state_dict())
        >>> resumed.counts["cat.png"]
        1
        """
        return {name: torch.from_numpy(array.copy()) for name, array in self._to_arrays().items()}

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state_dict`, to the same bits; parts of a log on disk that were written after it are set aside.

        Raises
        ------
        ValueError
            Where it contradicts itself or the parts on disk, or is of another rank or of a calculator with another
            `compressed`; this one is as before.
        """
        self._take_arrays({name: tensor.numpy(force=True) for name, tensor in state_dict.items()})

    def _to_arrays(self) -> dict[str, NDArray[Any]]:
        arrays = super()._to_arrays()
        return {**arrays, "rank": np.array([torch.distributed.get_rank()])} if several_ranks() else arrays

    def _take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        # one that tells no rank was saved alone: on all ranks it would count as often as there are ranks
        saved = int(arrays["rank"][0]) if len(arrays.get("rank", ())) else 0
        if several_ranks() and saved != torch.distributed.get_rank():
            raise ValueError(
                f"state: of rank {saved}, and this is rank {torch.distributed.get_rank()}: want each rank to save and "
                "load its own, or what was measured would count several times"
            )
        super()._take_arrays(arrays)


class DatasetWithIndex(aum_core.DatasetWithIndex, Dataset[Any]):
    """A thin wrapper over a PyTorch dataset that gives each sample's index as the last element of its tuple.

    For its parameter see `aum_core.DatasetWithIndex`.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> DatasetWithIndex(TensorDataset(torch.zeros(3, 2), torch.arange(3)))[-1]
    (tensor([0., 0.]), tensor(2), 2)
    """


find_by_posterior = with_calculator(aum_core.find_by_posterior, AUMCalculator, "aum.torch")
find_mislabeled = with_calculator(aum_core.find_mislabeled, AUMCalculator, "aum.torch")


def _outside_the_graph(function: Any) -> Any:
    # torch.compile would trace the engine's NumPy code into torch operators, which round and order differently
    return torch.compiler.disable(function)


def _measure_half(logits: torch.Tensor, targets: NDArray[Any], other_logit: bool) -> Margins:
    """Widen half logits to float32 block by block: NumPy knows no bfloat16, and a whole copy would leave the cache."""
    check_logits(tuple(logits.shape), _dtype_name(logits))
    size = rows_per_block(logits.shape[1], 4)
    if len(logits) <= size:
        return compute_margins(logits.float().numpy(force=True), targets, other_logit=other_logit)
    check_targets(targets.shape, targets.dtype, tuple(logits.shape))
    return Margins.concatenate(_half_blocks(logits, targets, size, other_logit))


def _half_blocks(logits: torch.Tensor, targets: NDArray[Any], size: int, other_logit: bool) -> Any:
    for start in range(0, len(logits), size):
        rows = slice(start, start + size)
        try:
            yield compute_margins(logits[rows].float().numpy(force=True), targets[rows], other_logit=other_logit)
        except TargetError as error:
            raise TargetError(start + error.row, error.target, error.num_classes) from None


def _measure_on_device(logits: torch.Tensor, targets: Any) -> Margins:
    """Reduce logits where they are; five (B,) vectors come to the host as the rows of one integer tensor."""
    targets = torch.as_tensor(targets, device=logits.device)
    _check_on_device(logits, targets)
    if not len(logits):
        return compute_margins(logits.float().numpy(force=True), targets.numpy(force=True))
    if logits.dtype in _HALF:
        logits = logits.float()
    index = targets.reshape(-1, 1).to(torch.int64)
    inside = index.clamp(0, logits.shape[1] - 1)  # an index out of range would end the device's whole context
    target_val = logits.gather(1, inside).squeeze(1)
    other_val, other_logit = logits.scatter(1, inside, float("-inf")).max(1)
    # only where all others are -inf too does the masked target come out: the lowest other is the answer
    other_logit = torch.where(other_logit == inside.squeeze(1), (inside.squeeze(1) == 0).long(), other_logit)
    bits = torch.int64 if logits.dtype == torch.float64 else torch.int32
    rows = [target_val.view(bits), other_val.view(bits), (target_val - other_val).view(bits)]
    # a target that no int32 holds is out of range, and stays so at -1
    host_targets = index.squeeze(1).clamp(-1, logits.shape[1])
    host = torch.stack([*rows, other_logit.to(bits), host_targets.to(bits)]).numpy(force=True)
    return _from_bits(host, logits.shape[1])


def _from_bits(host: NDArray[np.int32] | NDArray[np.int64], num_classes: int) -> Margins:
    targets = host[4]
    wrong = (targets < 0) | (targets >= num_classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise TargetError(row, int(targets[row]), num_classes)
    target_val, other_val, margin = host[:3].view("float64" if host.dtype.itemsize == 8 else "float32")
    return Margins(targets.astype("int64"), target_val, host[3].astype("int64"), other_val, margin)


def _check_on_device(logits: torch.Tensor, targets: torch.Tensor) -> None:
    """Have the engine check shapes and dtypes."""
    check_logits(tuple(logits.shape), _dtype_name(logits))
    check_targets(tuple(targets.shape), _dtype_name(targets), tuple(logits.shape))


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
