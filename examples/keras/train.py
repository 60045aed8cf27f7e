"""Find the flipped labels of digits or Fashion-MNIST with `model.fit` on any backend of Keras, and two threshold runs.

KERAS_BACKEND=jax python examples/keras/train.py --flip-labels 0.1
KERAS_BACKEND=torch python examples/keras/train.py --dataset fashion-mnist --samples 20000 --flip-labels 0.2
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from aum.keras import AUMCalculator, AUMCallback, find_mislabeled, with_ids
from aum_core import flip_uniform


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


def network(shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Two convolutions and a softmax, ready to be fitted."""
    model = keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(16, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


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

    keras.utils.set_random_seed(options.seed)
    images, labels = digits() if options.dataset == "digits" else fashion_mnist(options.folder)
    images, labels = images[: options.samples], labels[: options.samples]
    given, flipped = flip_uniform(labels, 10, options.flip_labels, options.seed)

    def train(targets: np.ndarray[Any, Any], num_classes: int, calculator: AUMCalculator) -> None:
        model = network(images.shape[1:], num_classes)
        callback = AUMCallback(calculator, model, num_samples=len(targets))
        model.fit(with_ids(images), targets, batch_size=64, epochs=options.epochs, callbacks=[callback], verbose=2)

    findings = find_mislabeled(train, given, 10, save_dir=options.out, seed=options.seed)

    found = findings.flagged & flipped
    print(f"{flipped.sum()} of {len(labels)} labels flipped, {findings.flagged.sum()} flagged")
    print(f"precision {found.sum() / max(1, findings.flagged.sum()):.3f}, recall {found.sum() / flipped.sum():.3f}")
    for row in findings.most_suspicious(10):
        print(f"row {row}: labelled {given[row]}, AUM {findings.aums[row]:.2f}")


if __name__ == "__main__":
    main()
