"""Find the flipped labels of digits or Fashion-MNIST with a small flax.nnx network and two threshold runs.

python examples/jax_flax/train_nnx.py --flip-labels 0.1
python examples/jax_flax/train_nnx.py --dataset fashion-mnist --samples 20000 --epochs 10 --flip-labels 0.2
python examples/jax_flax/train_nnx.py --records
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flipped_labels
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from aum.jax import AUMCalculator, AUMState, Margins, init, measure, to_totals, update

if TYPE_CHECKING:
    import argparse

    import numpy as np


class Network(nnx.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, num_classes: int, size: int, rngs: nnx.Rngs) -> None:
        self.first, self.first_norm = nnx.Conv(1, 16, (3, 3), rngs=rngs), nnx.BatchNorm(16, rngs=rngs)
        self.second, self.second_norm = nnx.Conv(16, 32, (3, 3), rngs=rngs), nnx.BatchNorm(32, rngs=rngs)
        self.head = nnx.Linear((size // 2) ** 2 * 32, num_classes, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (B, C) of images (B, size, size, 1)."""
        hidden = nnx.max_pool(nnx.relu(self.first_norm(self.first(images))), (2, 2), (2, 2))
        hidden = nnx.relu(self.second_norm(self.second(hidden)))
        return self.head(hidden.reshape(len(hidden), -1))


def learn(
    model: Network, optimizer: nnx.Optimizer[Network], images: jax.Array, targets: jax.Array, counts: jax.Array
) -> jax.Array:
    """One step on a batch; the logits (B, C) from before it."""

    def loss(model: Network) -> tuple[jax.Array, jax.Array]:
        logits = model(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(where=counts), logits

    logits: jax.Array
    gradient, logits = nnx.grad(loss, has_aux=True)(model)
    optimizer.update(model, gradient)
    return logits


@nnx.jit(donate_argnums=2)
def step(model: Any, optimizer: Any, state: AUMState, images: Any, targets: Any, rows: Any, counts: Any) -> AUMState:  # noqa: PLR0917 # a step has all of these
    """Learn, and measure into the state: nothing leaves the device."""
    logits = learn(model, optimizer, images[rows], targets[rows], counts)
    return update(state, logits, targets[rows], rows, where=counts)


@nnx.jit
def step_with_records(model: Any, optimizer: Any, images: Any, targets: Any, rows: Any, counts: Any) -> Margins:  # noqa: PLR0917 # as above
    """Learn, and return what was measured, (B,) columns."""
    return measure(learn(model, optimizer, images[rows], targets[rows], counts), targets[rows])


def train(
    images: np.ndarray[Any, Any],
    options: argparse.Namespace,
    targets: np.ndarray[Any, Any],
    num_classes: int,
    calculator: AUMCalculator,
) -> None:
    """Train a fresh network on `targets` (N,), with row numbers as sample ids."""
    model = Network(num_classes, images.shape[1], nnx.Rngs(options.seed))
    sgd = optax.sgd(0.05, momentum=0.9, nesterov=True)
    optimizer = nnx.Optimizer(model, optax.chain(optax.add_decayed_weights(1e-4), sgd), wrt=nnx.Param)
    data = jnp.asarray(images), jnp.asarray(targets)
    epochs = (flipped_labels.batches(len(targets), options.seed + epoch) for epoch in range(options.epochs))
    if options.records:
        train_with_records(model, optimizer, data, epochs, calculator)
        return
    state = init(len(targets))
    for epoch in epochs:
        for rows, counts in epoch:
            state = step(model, optimizer, state, *data, rows, counts)
    calculator.add_totals(to_totals(state))


def train_with_records(model: Any, optimizer: Any, data: Any, epochs: Any, calculator: AUMCalculator) -> None:
    """The record of every step, taken one step late: while the host books a batch, the device is at the next."""
    waiting: Any = None
    for epoch in epochs:
        for rows, counts in epoch:
            measured = step_with_records(model, optimizer, *data, rows, counts)  # type: ignore[call-arg] # its stub takes one argument less
            book(waiting, calculator)
            waiting = measured, rows, counts
    book(waiting, calculator)
    print(f"{len(calculator.records)} records; the last: {calculator.records[-1]}")


def book(waiting: Any, calculator: AUMCalculator) -> None:
    """Give a measured batch to the calculator, without its padding."""
    if waiting is None:
        return
    measured, rows, counts = waiting
    calculator.accumulate_measured(jax.device_get(measured)[counts], rows[counts])


if __name__ == "__main__":
    flipped_labels.find(train, __doc__, has_records=True)
