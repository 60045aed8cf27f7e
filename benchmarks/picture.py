"""The picture of the README: a real run on scikit-learn's digits, a tenth of which were given a wrong label.

python benchmarks/picture.py   # writes docs/picture.png; needs aum[torch], scikit-learn and matplotlib; a few seconds
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pages
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from aum.torch import AUMCalculator, DatasetWithIndex, ThresholdPlan
from aum_core import flip_uniform

mpl.use("Agg")  # files, no windows

from matplotlib import pyplot as plt  # after the choice of how to draw

if TYPE_CHECKING:
    from numpy.typing import NDArray

X, TRUTH = load_digits(return_X_y=True)
INPUTS = torch.tensor(X / 16, dtype=torch.float32)
DOTS_PER_INCH = 100
RIGHT, WRONG, THRESHOLD = "#0072B2", "#D55E00", "#999999"  # told apart by colour-blind people too (Okabe and Ito)


def train(targets: NDArray[np.int64], num_classes: int, calculator: AUMCalculator) -> None:
    """Train a small network on the labels; sample ids are row numbers."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, num_classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    samples = DatasetWithIndex(TensorDataset(INPUTS, torch.from_numpy(targets)))
    for _ in range(10):
        for inputs, labels, rows in DataLoader(samples, batch_size=32, shuffle=True):
            logits = model(inputs)
            calculator.accumulate(logits, labels, rows)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()


def main() -> None:
    """Flip, search, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=pages.DOCS / "picture.png")
    options = parser.parse_args()
    targets, wrong = flip_uniform(TRUTH, 10, 0.1, 0)
    plan = ThresholdPlan.draw(targets, 10, runs=1, seed=0)
    [run] = plan.runs
    calculator = AUMCalculator("aum_run")  # nothing is written: it is not finalized
    train(run.targets, 11, calculator)
    aums = np.empty(len(targets))
    aums[calculator.totals.sample_ids] = calculator.totals.aums
    flagged, threshold = plan.cut([aums], 99).flagged, ~run.regular
    groups = {
        "right labels": (aums[~threshold & ~wrong], RIGHT),
        "threshold samples": (aums[threshold], THRESHOLD),
        "wrong labels (flipped)": (aums[~threshold & wrong], WRONG),
    }
    lowest = np.where(threshold, np.inf, aums).argsort()[:8]
    figure = plt.figure(figsize=(10, 4), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[1.45, 1])
    left, right = parts
    histogram(left.subplots(), groups, float(np.percentile(aums[threshold], 99)))
    digits(right, lowest, targets)
    figure.savefig(options.out, dpi=DOTS_PER_INCH, metadata={"Software": None})
    there = (wrong & ~threshold).sum()
    print(f"{flagged.sum()} flagged, {(flagged & wrong).sum()} of them of the {there} wrong labels")


def histogram(axis: Any, groups: dict[str, tuple[NDArray[np.float64], str]], cut: float) -> None:
    """How many samples of each group have which AUM, and where the cut is."""
    every = np.concatenate([aums for aums, _ in groups.values()])
    edges = np.linspace(every.min(), every.max(), 50)
    for label, (aums, colour) in groups.items():
        axis.hist(aums, edges, color=colour, alpha=0.75, label=label)
    axis.axvline(cut, color="black", lw=1.5, ls="--", label="99th percentile of threshold samples")
    axis.set_xlabel("Area Under the Margin (AUM)", fontsize=11)
    axis.set_ylabel("samples", fontsize=11)
    axis.figure.legend(loc="outside upper center", ncols=2, fontsize=10, frameon=False)


def digits(figure: Any, rows: NDArray[np.intp], targets: NDArray[np.int64]) -> None:
    """The samples, under the labels that were given."""
    figure.suptitle("The 8 lowest AUMs", fontsize=11)
    for axis, row in zip(figure.subplots(2, 4).flat, rows, strict=True):
        axis.imshow(X[row].reshape(8, 8), cmap="gray_r")
        axis.set_title(f"labelled {targets[row]}", fontsize=11, color=WRONG)
        axis.axis("off")


if __name__ == "__main__":
    main()
