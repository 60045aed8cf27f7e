"""Tensors for the engine: margins computed where the logits are.

CPU tensors are seen by the NumPy engine as they are, without a copy: that is several times faster than the same
arithmetic in torch operators. Tensors of another device are reduced there, and (B,) vectors come over in one transfer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import aum_core
from aum_core import Margins, compute_margins
from aum_core.margins import TargetError, check_logits, check_targets, rows_per_block, widened

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TorchBackend"]

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
            logits = logits.detach().cpu().float()  # in this order half as much travels
        return widened(self.to_numpy(logits))


def _measure_half(logits: torch.Tensor, targets: NDArray[Any], other_logit: bool) -> Margins:
    """Widen half logits to float32 block by block: NumPy knows no bfloat16, and a whole copy would leave the cache."""
    check_logits(tuple(logits.shape), _dtype_name(logits))
    size = rows_per_block(logits.shape[1], 4)
    if len(logits) <= size:
        return compute_margins(logits.float().numpy(force=True), targets, other_logit=other_logit)
    check_targets(targets.shape, targets.dtype, tuple(logits.shape))
    return Margins.concatenate(_half_blocks(logits, targets, size, other_logit))


def _half_blocks(logits: torch.Tensor, targets: NDArray[Any], size: int, other_logit: bool) -> Iterator[Margins]:
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
