"""Find the flipped labels of digits or Fashion-MNIST with a small flax.linen network and two threshold runs.

python examples/jax_flax/train_linen.py --flip-labels 0.1
python examples/jax_flax/train_linen.py --dataset fashion-mnist --samples 20000 --epochs 10 --flip-labels 0.2
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import flipped_labels
import jax
import jax.numpy as jnp
import optax
from flax import linen
from flax.training import train_state

from aum.jax import AUMCalculator, AUMState, init, to_totals, update

if TYPE_CHECKING:
    import argparse

    import numpy as np


class Network(linen.Module):
    """Two convolutions and a linear layer."""

    num_classes: int

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (B, C) of images (B, H, W, 1), in training."""
        hidden = linen.Conv(16, (3, 3))(images)
        hidden = linen.relu(linen.BatchNorm(use_running_average=False)(hidden))
        hidden = linen.Conv(32, (3, 3))(linen.max_pool(hidden, (2, 2), (2, 2)))
        hidden = linen.relu(linen.BatchNorm(use_running_average=False)(hidden))
        return linen.Dense(self.num_classes)(hidden.reshape(len(hidden), -1))


class TrainState(train_state.TrainState):
    """Flax's, with the statistics of the batch normalisation, and the AUM state beside the optimizer's."""

    batch_stats: Any
    aum: AUMState


@partial(jax.jit, donate_argnums=0)
def step(state: TrainState, images: jax.Array, targets: jax.Array, rows: jax.Array, counts: jax.Array) -> TrainState:
    """Learn, and measure into the state: nothing leaves the device."""

    def loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, changed = state.apply_fn(variables, images[rows], mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets[rows])
        return losses.mean(where=counts), (logits, changed["batch_stats"])

    gradient, (logits, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
    aum = update(state.aum, logits, targets[rows], rows, where=counts)
    return state.apply_gradients(grads=gradient, batch_stats=batch_stats, aum=aum)  # type: ignore[no-any-return, no-untyped-call] # as Flax wrote it


def train(
    images: np.ndarray[Any, Any],
    options: argparse.Namespace,
    targets: np.ndarray[Any, Any],
    num_classes: int,
    calculator: AUMCalculator,
) -> None:
    """Train a fresh network on `targets` (N,), with row numbers as sample ids."""
    model = Network(num_classes)
    variables = model.init(jax.random.key(options.seed), images[:1])
    sgd = optax.sgd(0.05, momentum=0.9, nesterov=True)
    state = TrainState.create(  # type: ignore[no-untyped-call] # as Flax wrote it
        apply_fn=model.apply,
        params=variables["params"],
        tx=optax.chain(optax.add_decayed_weights(1e-4), sgd),
        batch_stats=variables["batch_stats"],
        aum=init(len(targets)),
    )
    data = jnp.asarray(images), jnp.asarray(targets)
    for epoch in range(options.epochs):
        for rows, counts in flipped_labels.batches(len(targets), options.seed + epoch):
            state = step(state, *data, rows, counts)
    calculator.add_totals(to_totals(state.aum))


if __name__ == "__main__":
    flipped_labels.find(train, __doc__)
