"""Find the flipped labels of digits or Fashion-MNIST with a compiled TensorFlow step and two threshold runs.

python examples/tensorflow/train.py --flip-labels 0.1
python examples/tensorflow/train.py --dataset fashion-mnist --samples 20000 --epochs 10 --flip-labels 0.2
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aum.tf import AUMCalculator, AUMState, find_mislabeled, with_index
from aum_core import flip_uniform

Array = np.ndarray[Any, Any]


def digits() -> tuple[Array, Array]:
    """Scikit-learn's 1,797 digits: images (N, 8, 8, 1) in [0, 1], labels (N,)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 # only where it is asked for

    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 8, 8, 1), labels


def fashion_mnist(folder: Path) -> tuple[Array, Array]:
    """The 60,000 training images (N, 28, 28, 1) in [0, 1], and labels (N,), from the data set's own files."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images.astype(np.float32) / 255, labels.astype(np.int64)


def network(num_classes: int) -> keras.Model:
    """Two convolutions and a linear layer that gives logits, for images of any size."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(num_classes),
        ]
    )


class Training:
    """The training function for `find_mislabeled`: a fresh network each time, measured inside the compiled step."""

    def __init__(self, images: Array, epochs: int) -> None:
        self._images, self._epochs = images, epochs

    def __call__(self, targets: Array, num_classes: int, calculator: AUMCalculator) -> None:
        """Train on `targets` (N,), with row numbers as sample ids."""
        model = network(num_classes)
        model.build((None, *self._images.shape[1:]))
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
        optimizer.build(model.trainable_variables)
        state = AUMState(len(targets))

        @tf.function
        def step(inputs: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                logits = model(inputs, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss = tf.reduce_mean(losses)
            state.update(logits, labels, rows)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            return loss

        samples = with_index(tf.data.Dataset.from_tensor_slices((self._images, targets)))
        batches = samples.shuffle(len(targets)).batch(64).prefetch(tf.data.AUTOTUNE)
        for epoch in range(self._epochs):
            losses = [step(*batch) for batch in batches]
            print(f"epoch {epoch + 1} of {self._epochs}: loss {np.mean(losses):.3f}")
        calculator.add_totals(state.to_totals())


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
    findings = find_mislabeled(Training(images, options.epochs), given, 10, save_dir=options.out, seed=options.seed)

    found = findings.flagged & flipped
    print(f"{flipped.sum()} of {len(labels)} labels flipped, {findings.flagged.sum()} flagged")
    print(f"precision {found.sum() / max(1, findings.flagged.sum()):.3f}, recall {found.sum() / flipped.sum():.3f}")
    assert findings.cut.cutoffs is not None  # since threshold samples were drawn
    print("cut-offs of the two runs:", ", ".join(f"{cutoff:.2f}" for cutoff in findings.cut.cutoffs))
    for row in findings.most_suspicious(10):
        print(f"row {row}: labelled {given[row]}, AUM {findings.aums[row]:.2f}")


if __name__ == "__main__":
    main()
