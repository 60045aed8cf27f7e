"""The side of PyTorch in gpu.py."""

from __future__ import annotations

import tempfile
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gpu import NUM_CLASSES, Size, agreement_row, overhead_rows
from torch import nn

from aum.torch import AUMCalculator

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "torch"
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
CALLS: dict[str, dict[str, Any]] = {
    "accumulate": {},
    "accumulate, with records": {"compressed": False},
    "accumulate, with forgetting": {"scores": ["forgetting"]},
    "accumulate, with confidence": {"scores": ["confidence"]},
    "accumulate, with the noise posterior": {"noise_posterior": True},
}


def device_of(device: str) -> torch.device | None:
    """The device that is meant; None where there is none such."""
    if device == "cpu":
        return torch.device("cpu")
    return torch.device("cuda") if torch.cuda.is_available() else None


def describe(device: str) -> str | None:
    """Name the device and the version; None where there is no such device."""
    found = device_of(device)
    if found is None:
        return None
    name = torch.cuda.get_device_name() if found.type == "cuda" else "the CPU"
    return f"PyTorch {torch.__version__} on {name}"


def wait(device: torch.device) -> None:
    """Until the device has done all."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def calculator(**options: Any) -> AUMCalculator:
    """A new one, with a folder of its own."""
    return AUMCalculator(tempfile.mkdtemp(), **options)


def batch_of(seed: int, batch_size: int, num_classes: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets on the host; the first logits have ties, zeros of both signs and infinities."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(batch_size, num_classes, generator=generator, dtype=torch.float64) * 5).to(dtype)
    logits[0], logits[1, ::2], logits[2, 0] = 0.0, -0.0, float("inf")
    return logits, torch.randint(num_classes, (batch_size,), generator=generator)


def agreement(device: str, size: Size) -> list[str]:
    """Compare all fields of all records, and the totals, with those of the CPU."""
    found = device_of(device)
    rows = []
    for dtype in DTYPES:
        for num_classes in (10, NUM_CLASSES):
            there, here = (calculator(nonfinite="propagate") for _ in range(2))
            differing = looked_at = 0
            for seed in range(size.agreement_batches):
                logits, targets = batch_of(seed, 256, num_classes, dtype)
                ids = np.random.default_rng(seed).integers(0, 1000, 256)
                ours = there.update(logits.to(found), targets.to(found), ids)
                theirs = here.update(logits, targets, ids)
                differing += sum(repr(ours[each]) != repr(theirs[each]) for each in theirs)
                looked_at += len(theirs)
            same = there.totals.sums.tobytes() == here.totals.sums.tobytes()
            name = str(dtype).removeprefix("torch.")
            rows.append(agreement_row((NAME, name, f"{num_classes:,}"), differing, looked_at, same_totals=same))
    return rows


def copies_to_host(call: Callable[[], object], device: torch.device) -> int:
    """How often the device copies something to the host, by PyTorch's profiler; 0 where the CPU is the device."""
    call()  # whatever is done once
    wait(device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        call()
        wait(device)
    names = [event.name for event in profiler.events() or []]
    return sum("DtoH" in name or "DeviceToHost" in name for name in names)


def transfers(device: str, size: Size) -> list[str]:
    """Count the copies of a batch for what may be asked for."""
    found = device_of(device) or torch.device("cpu")
    logits, targets = (each.to(found) for each in batch_of(9, size.batch_size, NUM_CLASSES, torch.float32))
    ids = range(size.batch_size)
    rows = []
    for name, options in CALLS.items():
        tracked = calculator(nonfinite="propagate", **options)
        count = copies_to_host(partial(tracked.accumulate, logits, targets, ids), found)
        rows.append(f"| {NAME} | `{name}` | {count} |")
    tracked = calculator(nonfinite="propagate")
    count = copies_to_host(partial(tracked.update, logits, targets, ids), found)
    return [*rows, f"| {NAME} | `update` | {count} |"]


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut: He et al. 2016, arXiv 1512.03385."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        convolutions = [(channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
        layers: list[nn.Module] = []
        for place, (before, after, kernel, step) in enumerate(convolutions):
            layers += [nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.ReLU()] if place < 2 else []
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Conv2d(channels, 4 * width, 1, stride, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give features (B, 4 * width, H, W)."""
        return torch.relu(self.layers(images) + self.shortcut(images))


def network(size: Size) -> nn.Module:
    """A ResNet of bottlenecks; of `RESNET_50` the layers of that network."""
    layers: list[nn.Module] = [nn.Conv2d(3, size.width, 7, 2, 3, bias=False), nn.BatchNorm2d(size.width), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = size.width
    for stage, count in enumerate(size.blocks):
        width = size.width * 2**stage
        for block in range(count):
            layers.append(Bottleneck(channels, width, 2 if stage and not block else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, NUM_CLASSES))


class Step:
    """Training steps of one network by SGD in bfloat16, with a call for each batch or without."""

    def __init__(self, device: torch.device, size: Size, call: Callable[..., object] | None) -> None:
        torch.manual_seed(0)
        self._device, self._size, self._call = device, size, call
        self._model = network(size).to(device)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.01, momentum=0.9)
        shape = size.batch_size, 3, size.image_size, size.image_size
        self._images = torch.randn(*shape).to(device)
        self._targets = torch.randint(NUM_CLASSES, (size.batch_size,)).to(device)
        self._ids = torch.arange(size.batch_size)
        self()

    def __call__(self) -> float:
        """Seconds of a step, over a group of them."""
        wait(self._device)
        start = perf_counter()
        for _ in range(self._size.steps):
            with torch.autocast(self._device.type, dtype=torch.bfloat16):
                logits = self._model(self._images)
                loss = nn.functional.cross_entropy(logits, self._targets)
            if self._call is not None:
                self._call(logits, self._targets, self._ids)
                self._ids = self._ids + self._size.batch_size  # always new: no epoch ends, and all is needed still
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        wait(self._device)
        return (perf_counter() - start) / self._size.steps


def overhead(device: str, size: Size) -> list[str]:
    """Time the step with and without."""
    found = device_of(device) or torch.device("cpu")
    calls: dict[str, Callable[..., object] | None] = {"without": None}
    calls |= {name: calculator(**options).accumulate for name, options in CALLS.items()}
    calls |= {"update": calculator().update, "without, again": None}
    return overhead_rows(NAME, {name: Step(found, size, call) for name, call in calls.items()}, size.groups)
