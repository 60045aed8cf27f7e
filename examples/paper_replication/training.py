"""Training that goes on where it was interrupted: after each epoch a checkpoint, with the AUMs' totals beside it."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, SubsetRandomSampler

from aum.torch import Totals
from aum_core.files.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from pictures import Samples
    from recipes import Schedule
    from torch import nn

    from aum.torch import AUMCalculator

__all__ = ["Machine", "NotFiniteError", "Training", "error_of"]


class NotFiniteError(ArithmeticError):
    """A training whose loss grew without bounds."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What to train on."""

    device: str
    workers: int = 0

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers: {self.workers}, want a number of processes, or 0")
        try:
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without it
            raise ValueError(f"device: {self.device!r} is not to be had ({str(error).splitlines()[0]})") from error

    def batches(self, samples: Samples, batch_size: int, sampler: Any = None) -> DataLoader[Any]:
        """Batches of (inputs, targets, sample_ids), in order unless a sampler says otherwise."""
        return DataLoader(samples, batch_size, sampler=sampler, num_workers=self.workers, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a fresh network.

    Attributes
    ----------
    name : str
        For the progress.
    folder : path
        Of the checkpoints.
    make_net : callable
        Gives the network.
    loss : callable
        Of logits (B, C) and targets (B,); gives (B,).
    schedule : Schedule
    samples : Samples
    seed : int
        Of the weights, the order of the samples and their changes.
    rows : ndarray of shape (n,), optional
        The samples to train on; all by default.
    weights : tensor of shape (N,), optional
        Of each sample in the loss; what has none still passes through the network, and its normalisation.
    calculator : AUMCalculator, optional
        Measures the margins.
    skipped_epochs : int
        How many epochs go by before margins are measured.
    half_logits : bool
        Whether the logits are rounded to float16 before they are measured.
    validation : Samples, optional
        To watch the training by.
    """

    name: str
    folder: Path
    make_net: Callable[[], nn.Module]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    schedule: Schedule
    samples: Samples
    seed: int
    rows: NDArray[np.intp] | None = None
    weights: torch.Tensor | None = None
    calculator: AUMCalculator | None = None
    skipped_epochs: int = 0
    half_logits: bool = False
    validation: Samples | None = None

    def run(self, machine: Machine) -> nn.Module:
        """Train, from the last checkpoint where there is one, and give the network after the last epoch."""
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self.seed)
        model = self.make_net().to(machine.device)
        schedule = self.schedule
        optimizer = torch.optim.SGD(
            model.parameters(),
            schedule.learning_rate,
            schedule.momentum,
            weight_decay=schedule.weight_decay,
            nesterov=schedule.momentum > 0,
        )
        rows = range(len(self.samples)) if self.rows is None else self.rows.tolist()
        batches = machine.batches(self.samples, schedule.batch_size, SubsetRandomSampler(rows))
        first = self._resume(model, optimizer, machine)
        begun = time.monotonic()
        for epoch in range(first, schedule.epochs):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(epoch)
            told = self._epoch(epoch, model, optimizer, batches, machine)
            if self.validation is not None:
                told += f", validation error {100 * error_of(model, self.validation, machine):.2f} %"
            self._save(epoch + 1, model, optimizer)
            left = (time.monotonic() - begun) / (epoch + 1 - first) * (schedule.epochs - epoch - 1)
            print(f"{self.name}: epoch {epoch + 1} of {schedule.epochs}, {told}, {_time(left)} left", flush=True)
        return model

    def _epoch(
        self, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader[Any], machine: Machine
    ) -> str:
        """Train for one epoch; what there is to tell of it."""
        model.train()
        measured = self.calculator if epoch >= self.skipped_epochs else None
        seen, wrong, total = 0, 0, 0.0
        for step, (inputs, targets, sample_ids) in enumerate(batches, 1):
            on_device = targets.to(machine.device)
            logits = model(inputs.to(machine.device))
            if measured is not None:
                measured.accumulate(logits.half() if self.half_logits else logits, on_device, sample_ids)
            loss = self._mean(self.loss(logits, on_device), sample_ids)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(targets)
            wrong += int((logits.detach().argmax(dim=1) != on_device).sum())
            total += loss.item() * len(targets)
            if sys.stderr.isatty():
                print(f"\r{self.name}: batch {step} of {len(batches)} ", end="", file=sys.stderr, flush=True)
        if not math.isfinite(total):
            raise NotFiniteError(
                f"{self.name}: the loss is not finite in epoch {epoch + 1}; try a lower --learning-rate"
            )
        if sys.stderr.isatty():
            print("\r", end="", file=sys.stderr)
        return f"loss {total / seen:.3f}, training error {100 * wrong / seen:.2f} %"

    def _mean(self, losses: torch.Tensor, sample_ids: torch.Tensor) -> torch.Tensor:
        if self.weights is None:
            return losses.mean()
        weights = self.weights[sample_ids].to(losses.device)
        return torch.dot(weights, losses) / weights.sum().clamp_min(1.0)  # a batch may be without any weight

    def _save(self, epochs: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Save the state after so many epochs; the checkpoint, written last, says which totals go with it."""
        if self.calculator is not None:
            self.calculator.totals.save(self._totals(epochs))
        state = {
            "epochs": epochs,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }
        with write_whole(self.folder / "checkpoint.pt", "wb") as file:
            torch.save(state, file)
        for old in self.folder.glob("totals_epoch*.npz"):
            if old != self._totals(epochs):
                old.unlink()

    def _resume(self, model: nn.Module, optimizer: torch.optim.Optimizer, machine: Machine) -> int:
        """Take up the last checkpoint; how many epochs are done."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return 0
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if machine.device.startswith("cuda"):
            torch.cuda.set_rng_state_all(state["random_cuda"])
        epochs: int = state["epochs"]
        if self.calculator is not None:
            self.calculator.add_totals(Totals.load(self._totals(epochs)))
        print(f"{self.name}: goes on after epoch {epochs} of {self.schedule.epochs}", flush=True)
        return epochs

    def _totals(self, epochs: int) -> Path:
        return self.folder / f"totals_epoch{epochs}.npz"


def error_of(model: nn.Module, samples: Samples, machine: Machine) -> float:
    """Share of the samples that the network gets wrong."""
    model.eval()
    wrong = 0
    with torch.no_grad():
        for inputs, targets, _ in machine.batches(samples, 512):
            wrong += int((model(inputs.to(machine.device)).argmax(dim=1).cpu() != targets).sum())
    return wrong / len(samples)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
