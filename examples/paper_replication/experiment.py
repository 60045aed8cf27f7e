"""One row of the paper's tables: train on noisy labels, find the wrong ones, train again without them.

Each stage has a folder, and leaves ``result.json`` there when it is done: what has one is not done again.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from cutoffs import RULES, Verdict
from losses import LOSSES
from nets import make_net
from pictures import Samples
from training import Machine, Training, error_of

from aum.torch import AUMCalculator, ThresholdPlan, Totals
from aum_core import flip_pairs, flip_uniform, measure_detection
from aum_core.files.whole import write_json, write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from data import Data
    from numpy.typing import NDArray
    from recipes import Recipe, Schedule

__all__ = ["NOISES", "STAGES", "Choices", "Experiment", "Labels"]

STAGES = ("baseline", "aum", "oracle")
NOISES = {"uniform": flip_uniform, "flip": flip_pairs}
_RUNS = 2  # every sample is regular in one of them at least


@dataclass(frozen=True, slots=True)
class Labels:
    """The split of the training images, and the labels that are trained on.

    Attributes
    ----------
    places : ndarray of shape (N,), int64
        Which images are trained on. Sample ids are positions in this list.
    held_out : ndarray of shape (V,), int64
        Which are not; their labels stay right.
    truth, noisy : ndarray of shape (N,), int64
    """

    places: NDArray[np.int64]
    held_out: NDArray[np.int64]
    truth: NDArray[np.int64]
    noisy: NDArray[np.int64]

    @classmethod
    def draw(cls, data: Data, num_valid: int, noise: str, noise_rate: float, seed: int) -> Labels:
        """Hold out `num_valid` images, at most a tenth of them, and flip labels of the others."""
        targets = data.train.targets
        order = np.random.default_rng(seed).permutation(len(targets))
        num_valid = min(num_valid, len(targets) // 10)
        places, held_out = np.sort(order[num_valid:]), np.sort(order[:num_valid])
        truth = targets[places]
        noisy = truth if noise == "none" else NOISES[noise](truth, data.num_classes, noise_rate, seed)[0]
        return cls(places, held_out, truth, noisy)

    @property
    def flipped(self) -> NDArray[np.bool_]:
        """True, (N,), where the label is known to be wrong."""
        wrong: NDArray[np.bool_] = self.noisy != self.truth
        return wrong


@dataclass(frozen=True, slots=True)
class Choices:
    """Where the authors' runner, the paper and those who wrote it anew differ."""

    threshold_samples: str
    first_epoch: str
    logits: str
    rule: str
    percentile: float
    combine: str
    removal: str

    def size(self, num_samples: int, num_classes: int) -> int:
        """How many threshold samples a run has: N // C as the authors' runner, N // (C + 1) as the paper."""
        known = {"authors": num_samples // num_classes, "paper": num_samples // (num_classes + 1)}
        if self.threshold_samples in known:
            return known[self.threshold_samples]
        if not self.threshold_samples.isdecimal():
            raise ValueError(f"threshold-samples: {self.threshold_samples!r}, want authors, paper or a number")
        return int(self.threshold_samples)


class Experiment:
    """All stages of one row.

    Parameters
    ----------
    folder : path
        Of the row.
    data : Data
    labels : Labels
    recipe : Recipe
    choices : Choices
    loss : str
        One of `losses.LOSSES`.
    seed : int
        Of the weights and of the order of the samples, the same in all stages.
    machine : Machine
    """

    def __init__(
        self,
        folder: Path,
        data: Data,
        labels: Labels,
        *,
        recipe: Recipe,
        choices: Choices,
        loss: str,
        seed: int,
        machine: Machine,
    ) -> None:
        self._folder, self._data, self._labels, self._recipe = folder, data, labels, recipe
        self._choices, self._loss, self._seed, self._machine = choices, loss, seed, machine
        size = choices.size(len(labels.noisy), data.num_classes)
        self.plan = ThresholdPlan.draw(labels.noisy, data.num_classes, runs=_RUNS, size=size, seed=seed)
        self._cut = partial(RULES[choices.rule], self.plan, percentile=choices.percentile, combine=choices.combine)
        self._cut([np.zeros(len(labels.noisy))] * _RUNS)  # wrong choices show now, not after training
        make_net(recipe.net, data.num_classes, data.train.channels, data.first_stride)

    def baseline(self) -> float:
        """Train on the noisy labels; the test error."""
        return self._error("baseline")

    def oracle(self) -> float | None:
        """Train on the samples whose labels were not flipped; the test error, or None where none were."""
        if not self._labels.flipped.any():
            print("oracle: no label was flipped, so the baseline is the oracle")
            return None
        return self._error("oracle", rows=np.flatnonzero(~self._labels.flipped))

    def aum(self) -> tuple[float | None, dict[str, Any]]:
        """Measure AUMs in two runs, remove what they flag and train again; the test error, and what was removed.

        Where everything is removed there is no error.
        """
        aums = [self._measure(run) for run in range(_RUNS)]
        verdict = self._cut(aums)
        for run in range(_RUNS):
            self._write_details(run, aums[run], verdict)
        told = self._describe(aums, verdict)
        write_json(self._folder / "removed.json", told)
        print(f"aum: {told['removed']} of {len(verdict.flagged)} samples removed ({100 * told['removed_share']:.2f} %)")
        keep = ~verdict.flagged
        if not keep.any():
            print("aum: nothing is left to train again on; want longer runs or more samples")
            return None, told
        if self._choices.removal == "drop":
            return self._error("retrained", rows=np.flatnonzero(keep)), told
        return self._error("retrained", weights=torch.from_numpy(keep.astype(np.float32))), told

    def _error(self, stage: str, **chosen: Any) -> float:
        done = self._folder / stage / "result.json"
        if not done.exists():
            training = self._training(
                stage, self._recipe.training, self._labels.noisy, self._data.num_classes, **chosen
            )
            model = training.run(self._machine)
            write_json(done, {"test_error": error_of(model, self._test(), self._machine)})
        error: float = json.loads(done.read_text(encoding="utf-8"))["test_error"]
        print(f"{stage}: test error {100 * error:.2f} %", flush=True)
        return error

    def _measure(self, index: int) -> NDArray[np.float64]:
        """AUMs (N,) of one run with threshold samples."""
        stage, run = f"aum_run{index}", self.plan.runs[index]
        folder = self._folder / stage
        if not (folder / "result.json").exists():
            calculator = AUMCalculator(folder)
            training = self._training(
                stage,
                self._recipe.measuring,
                run.targets,
                run.num_classes,
                calculator=calculator,
                skipped_epochs=int(self._choices.first_epoch == "leave-out"),
                half_logits=self._choices.logits == "half",
            )
            training.run(self._machine)
            calculator.finalize()
            write_json(folder / "result.json", {"left_out": calculator.totals.left_out})
        totals = Totals.load(folder / "totals.npz")
        aums = np.full(len(run.targets), np.nan)
        aums[totals.sample_ids] = totals.aums
        return aums

    def _training(
        self, stage: str, schedule: Schedule, targets: NDArray[np.int64], num_classes: int, **chosen: Any
    ) -> Training:
        data, labels = self._data, self._labels
        held_out = labels.held_out
        return Training(
            stage,
            self._folder / stage,
            partial(make_net, self._recipe.net, num_classes, data.train.channels, data.first_stride),
            LOSSES[self._loss],
            schedule,
            Samples(data.train, labels.places, targets, changed=True),
            self._seed,
            validation=Samples(data.train, held_out, data.train.targets[held_out], changed=False)
            if len(held_out)
            else None,
            **chosen,
        )

    def _test(self) -> Samples:
        test = self._data.test
        return Samples(test, np.arange(len(test)), test.targets, changed=False)

    def _write_details(self, index: int, aums: NDArray[np.float64], verdict: Verdict) -> None:
        """Write ``aum_details.csv`` of a run, in the columns of the authors' runner."""
        run, labels = self.plan.runs[index], self._labels
        columns = {
            "Index": np.arange(len(aums)),
            "True Target": labels.truth,
            "Observed Target": run.targets,
            "Label Flipped": run.targets != labels.truth,
            "Is Threshold Sample": ~run.regular,
            "AUM": aums,
            "AUM_WTR": verdict.below[index].astype(np.float64),
        }
        with write_whole(self._folder / f"aum_run{index}" / "aum_details.csv") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(columns)
            lines.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))

    def _describe(self, aums: list[NDArray[np.float64]], verdict: Verdict) -> dict[str, Any]:
        """What was removed, how that was decided, and how right it was where labels were flipped."""
        removed, flipped = verdict.flagged, self._labels.flipped
        told = {"removed": int(removed.sum()), "removed_share": float(removed.mean()), "cut": verdict.choices}
        if flipped.any() and not flipped.all():
            used = np.array([run.regular for run in self.plan.runs]) & ~np.isnan(aums)
            mean = np.where(used, aums, 0.0).sum(axis=0) / np.maximum(used.sum(axis=0), 1)
            mean[~used.any(axis=0)] = np.nan
            told["detection"] = measure_detection(mean, flipped, flagged=removed).describe()
        return told
