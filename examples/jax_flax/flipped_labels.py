"""What both examples do around their training function: data, flipped labels, two threshold runs, what was found."""

from __future__ import annotations

import argparse
import gzip
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aum.jax import AUMCalculator, find_mislabeled
from aum_core import flip_uniform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCH_SIZE = 64


def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Scikit-learn's 1,797 digits: images (N, 8, 8, 1) in [0, 1], labels (N,)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 # only where it is asked for

    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 8, 8, 1), labels


def fashion_mnist(folder: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The 60,000 training images (N, 28, 28, 1) in [0, 1], and labels (N,), from the data set's own files."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images.astype(np.float32) / 255, labels.astype(np.int64)


def batches(num_samples: int, seed: int) -> Iterator[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Rows of an epoch in random order, and which of them count: the last batch is padded, to compile as the others."""
    rows = np.random.default_rng(seed).permutation(num_samples).astype(np.int32)
    padded = np.pad(rows, (0, -num_samples % BATCH_SIZE))
    counts = np.arange(len(padded)) < num_samples
    yield from zip(padded.reshape(-1, BATCH_SIZE), counts.reshape(-1, BATCH_SIZE), strict=True)


def find(train: Callable[..., None], description: str | None, *, has_records: bool = False) -> None:
    """Flip, find, tell.

    `train` is called as ``train(images, options, targets, num_classes, calculator)``.
    """
    options = parse(description, has_records)
    images, labels = digits() if options.dataset == "digits" else fashion_mnist(options.folder)
    images, labels = images[: options.samples], labels[: options.samples]
    given, flipped = flip_uniform(labels, 10, options.flip_labels, options.seed)
    findings = find_mislabeled(
        partial(train, images, options),
        given,
        10,
        save_dir=options.out,
        seed=options.seed,
        calculator=partial(AUMCalculator, compressed=not options.records),
    )
    found = findings.flagged & flipped
    print(f"{flipped.sum()} of {len(labels)} labels flipped, {findings.flagged.sum()} flagged")
    print(f"precision {found.sum() / max(1, findings.flagged.sum()):.3f}, recall {found.sum() / flipped.sum():.3f}")
    for row in findings.most_suspicious(10):
        rather = f", rather {findings.suggested[row]}" if options.records else ""
        print(f"row {row}: labelled {given[row]}{rather}, AUM {findings.aums[row]:.2f}")


def parse(description: str | None, has_records: bool) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("digits", "fashion-mnist"), default="digits")
    parser.add_argument(
        "--folder", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="of Fashion-MNIST"
    )
    parser.add_argument("--samples", type=int, help="only the first so many")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--flip-labels", type=float, default=0.1, metavar="RATE")
    parser.add_argument("--out", default="aum_run")
    parser.add_argument("--seed", type=int, default=0)
    if has_records:
        parser.add_argument("--records", action="store_true", help="bring the record of every step home")
    parser.set_defaults(records=False)
    return parser.parse_args()
