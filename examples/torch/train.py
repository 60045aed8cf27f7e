"""Find the flipped labels of digits or Fashion-MNIST with a small convolutional network and two threshold runs.

python examples/torch/train.py --flip-labels 0.1
python examples/torch/train.py --dataset fashion-mnist --samples 20000 --epochs 10 --flip-labels 0.2
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from aum.torch import AUMCalculator, DatasetWithIndex, find_mislabeled
from aum_core import flip_uniform


def digits() -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Scikit-learn's 1,797 digits: images (N, 1, 8, 8) in [0, 1], labels (N,)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 # only where it is asked for

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), labels


def fashion_mnist(folder: Path) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """The 60,000 training images (N, 1, 28, 28) in [0, 1], and labels (N,), from the data set's own files."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return torch.tensor(images, dtype=torch.float32) / 255, labels.astype(np.int64)


def network(num_classes: int) -> nn.Module:
    """Two convolutions and a linear layer, for images of any size."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, num_classes),
    )


class Training:
    """The training function for `find_mislabeled`: a fresh network each time, measured at every step."""

    def __init__(self, images: torch.Tensor, epochs: int) -> None:
        self._images, self._epochs = images, epochs

    def __call__(self, targets: np.ndarray[Any, Any], num_classes: int, calculator: AUMCalculator) -> None:
        """Train on `targets` (N,), with row numbers as sample ids."""
        model = network(num_classes)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        train_set = DatasetWithIndex(TensorDataset(self._images, torch.from_numpy(targets)))
        loader = DataLoader(train_set, batch_size=64, shuffle=True)
        for epoch in range(self._epochs):
            losses = []
            for inputs, labels, rows in loader:
                logits = model(inputs)
                calculator.accumulate(logits, labels, rows)
                loss = nn.functional.cross_entropy(logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            print(f"epoch {epoch + 1} of {self._epochs}: loss {np.mean(losses):.3f}")


def main() -> None:
    """Flip, find, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("digits", "fashion-mnist"), default="digits")
    parser.add_argument(
        "--folder", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="of Fashion-MNIST"
    )
    parser.add_argument("--samples", type=int, help="only the first so many")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--flip-labels", type=float, default=0.1, metavar="RATE")
    parser.add_argument("--out", default="aum_run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    images, labels = digits() if options.dataset == "digits" else fashion_mnist(options.folder)
    images, labels = images[: options.samples], labels[: options.samples]
    given, flipped = flip_uniform(labels, 10, options.flip_labels, options.seed)
    findings = find_mislabeled(Training(images, options.epochs), given, 10, save_dir=options.out, seed=options.seed)

    found = findings.flagged & flipped
    print(f"{flipped.sum()} of {len(labels)} labels flipped, {findings.flagged.sum()} flagged")
    print(f"precision {found.sum() / max(1, findings.flagged.sum()):.3f}, recall {found.sum() / flipped.sum():.3f}")
    for row in findings.most_suspicious(10):
        print(f"row {row}: labelled {given[row]}, rather {findings.suggested[row]}, AUM {findings.aums[row]:.2f}")


if __name__ == "__main__":
    main()
