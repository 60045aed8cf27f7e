"""What tracking costs inside a jitted JAX step: the update alone by N, and a small Flax network with and without it.

Each figure is the median of groups of calls; the two sides of a comparison take turns group by group, so that a busy
machine slows both. States are donated. Needs ``aum[jax]``, flax and optax.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pages
from flax import linen
from speed import cpu

from aum.jax import AUMState, Needs, init, update

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_SIZE = 256
NUM_BATCHES = 8
SCORED_SAMPLES = 60_000
SCORED = {
    "the AUM alone": None,
    "correctness": Needs(("correct",)),
    "confidence": Needs(("confidence",)),
    "all of a few numbers a sample": Needs(("confidence", "correct", "error_norm")),
    "noise posterior": Needs(("correct",), softmax=True, logits=True),
    "all": Needs(("confidence", "correct", "error_norm"), softmax=True, logits=True),
}


class Side:
    """A jitted step ``carry, *batch -> carry`` whose carry is donated, and its batches in turn."""

    def __init__(self, step: Callable[..., Any], carry: Any, batches: list[tuple[jax.Array, ...]], calls: int) -> None:
        self._step, self._carry = jax.jit(step, donate_argnums=0), carry
        self._batches, self._calls = batches, calls
        self.group()
        self.times: list[float] = []

    def group(self) -> float:
        """Seconds of a call, over one group."""
        start = perf_counter()
        for call in range(self._calls):
            self._carry = self._step(self._carry, *self._batches[call % NUM_BATCHES])
        jax.block_until_ready(self._carry)
        return (perf_counter() - start) / self._calls


def medians(sides: list[Side], groups: int) -> list[float]:
    """Median seconds of a call of each side; they take turns."""
    for _ in range(groups):
        for side in sides:
            side.times.append(side.group())
    return [statistics.median(side.times) for side in sides]


def batches_of(num_samples: int, num_classes: int, repeats: bool) -> list[tuple[jax.Array, ...]]:
    """Logits, targets and ids; with `repeats` the last id is the first again."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(NUM_BATCHES):
        ids = generator.choice(min(num_samples, 2**20), BATCH_SIZE, replace=False)
        if repeats:
            ids[-1] = ids[0]
        logits = generator.standard_normal((BATCH_SIZE, num_classes), dtype=np.float32)
        arrays = logits, generator.integers(0, num_classes, BATCH_SIZE, np.int32), ids.astype(np.int32)
        found.append(tuple(map(jnp.asarray, arrays)))
    return found


def untracked(state: AUMState, logits: jax.Array, targets: jax.Array, ids: jax.Array) -> AUMState:
    """The same arguments, donated and given back, of which next to nothing is used: what a call costs anyway."""
    used = logits[0, 0].astype(jnp.int32) + targets[0] + ids[0]
    return replace(state, invalid=state.invalid + used)


def update_table(groups: int, sizes: list[int]) -> list[str]:
    """Microseconds of a step with nothing but the update in it, and without."""
    lines = [
        "| N | C | ids | step without | step with | the update |",
        "|---:|---:|---|---:|---:|---:|",
    ]
    for num_samples in sizes:
        for num_classes, repeats in ((10, False), (10, True), (100, False)):
            batches = batches_of(num_samples, num_classes, repeats)
            sides = [Side(step, init(num_samples), batches, calls=20) for step in (untracked, update)]
            without, with_it = (seconds * 1e6 for seconds in medians(sides, groups))
            cells = [f"{num_samples:,}", str(num_classes), "one twice" if repeats else "distinct"]
            cells += [f"{micro:,.0f} µs" for micro in (without, with_it, with_it - without)]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def scores_table(groups: int) -> list[str]:
    """Microseconds of an `update` alone, for what is asked for, and megabytes of the state."""
    lines = ["| C | scores | the update | state |", "|---:|---|---:|---:|"]
    for num_classes in (10, 100, 1000):
        batches = batches_of(SCORED_SAMPLES, num_classes, repeats=False)
        states = [init(SCORED_SAMPLES, num_classes, needs) for needs in SCORED.values()]
        sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(state)) for state in states]
        sides = [Side(untracked, init(SCORED_SAMPLES), batches, calls=20)]
        sides += [Side(update, state, batches, calls=20) for state in states]
        without, *others = (seconds * 1e6 for seconds in medians(sides, groups))
        for name, size, micro in zip(SCORED, sizes, others, strict=True):
            lines.append(f"| {num_classes:,} | {name} | {micro - without:,.0f} µs | {size / 1e6:,.1f} MB |")
    return lines


class Network(linen.Module):
    """Two convolutions and a linear layer."""

    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Logits (B, 10) of images (B, H, W, 1)."""
        hidden = linen.max_pool(linen.relu(linen.Conv(16, (3, 3))(images)), (2, 2), (2, 2))
        hidden = linen.max_pool(linen.relu(linen.Conv(32, (3, 3))(hidden)), (2, 2), (2, 2))
        return linen.Dense(10)(hidden.reshape(len(hidden), -1))


def training(num_samples: int, tracked: bool, batches: list[tuple[jax.Array, ...]]) -> Side:
    """A side that trains the network by SGD, measured or not."""
    model, optimizer = Network(), optax.sgd(0.01, momentum=0.9)
    params = model.init(jax.random.key(0), batches[0][0])

    def step(carry: Any, images: jax.Array, targets: jax.Array, ids: jax.Array) -> Any:
        params, memory, state = carry

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            logits: Any = model.apply(params, images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), logits

        gradient, logits = jax.grad(loss, has_aux=True)(params)
        updates, memory = optimizer.update(gradient, memory, params)
        measured = update(state, logits, targets, ids) if tracked else state
        return optax.apply_updates(params, updates), memory, measured

    return Side(step, (params, optimizer.init(params), init(num_samples)), batches, calls=4)


def training_table(groups: int, image_sizes: list[int]) -> list[str]:
    """Milliseconds of a step of the network, without tracking and with it."""
    lines = [
        "| training step, C=10 | N | without | with | overhead | the same step twice: noise |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    num_samples = 1_280_000
    for size in image_sizes:
        images = jax.random.normal(jax.random.key(0), (BATCH_SIZE, size, size, 1))
        batches: list[tuple[jax.Array, ...]] = [
            (images, targets, ids) for _, targets, ids in batches_of(num_samples, 10, repeats=False)
        ]
        sides = [training(num_samples, tracked, batches) for tracked in (False, True, False)]
        without, with_it, again = medians(sides, groups)
        cells = [f"small CNN, {size}x{size}", f"{num_samples:,}", f"{without * 1e3:.2f} ms", f"{with_it * 1e3:.2f} ms"]
        cells += [f"{(each / without - 1) * 100:+.1f} %" for each in (with_it, again)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, print, and write into the docs if wished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=101, help="of 20 calls each, for the update alone")
    parser.add_argument("--training-groups", type=int, default=25, help="of 4 calls each")
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 1_280_000, 10_000_000], metavar="N")
    parser.add_argument("--images", type=int, nargs="+", default=[8, 28], metavar="PIXELS", help="width and height")
    parser.add_argument("--scores", action="store_true", help="the other scores instead of the AUM alone")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/jax.md")
    arguments = parser.parse_args()
    settings = (
        f"JAX {jax.__version__}, Flax {flax.__version__}; {cpu()}, {jax.device_count()} CPU device; B={BATCH_SIZE}, "
        f"float32, donated; medians of {arguments.groups} groups of 20 calls"
    )
    if arguments.scores:
        text = "\n".join([f"{settings}; N={SCORED_SAMPLES:,}.", "", *scores_table(arguments.groups)])
        print(text)
        if arguments.write:
            pages.write("jax.md", text, "measured: scores")
        return
    tables = {
        "The update alone": update_table(arguments.groups, arguments.samples),
        "A training step": training_table(arguments.training_groups, arguments.images),
    }
    settings += f", in training of {arguments.training_groups} groups of 4."
    text = "\n\n".join([settings, *(f"## {title}\n\n" + "\n".join(lines) for title, lines in tables.items())])
    print(text)
    if arguments.write:
        pages.write("jax.md", text)


if __name__ == "__main__":
    main()
