"""What `AUMState.update` adds to a training step in TensorFlow, compiled by XLA and not.

The same step with and without it, in turns; one thread. The step is small, so that what is added can be seen beside it:
one linear layer and its gradient. It must not depend on the number of samples N.
"""

from __future__ import annotations

import argparse
import platform
import sys
from itertools import product
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pages
import tensorflow as tf

from aum.tf import AUMState, Needs

if TYPE_CHECKING:
    from collections.abc import Callable

NUM_FEATURES = 64
SCORED_SAMPLES = 60_000
SCORED: dict[str, Needs | None] = {
    "the AUM alone": None,
    "correctness": Needs(("correct",)),
    "confidence": Needs(("confidence",)),
    "all scores": Needs(("confidence", "correct", "error_norm")),
    "noise posterior": Needs(("correct",), softmax=True, logits=True),
    "all": Needs(("confidence", "correct", "error_norm"), softmax=True, logits=True),
}


def make_step(num_classes: int, jit_compile: bool, state: AUMState | None) -> Callable[..., Any]:
    """A training step of a linear model; measured where there is a state."""
    weights = tf.Variable(tf.zeros([NUM_FEATURES, num_classes]))

    @tf.function(jit_compile=jit_compile)
    def step(features: Any, targets: Any, sample_ids: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = features @ weights
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_mean(losses)
        if state is not None:
            state.update(logits, targets, sample_ids)
        weights.assign_sub(0.1 * tape.gradient(loss, weights))
        return loss

    return step  # type: ignore[no-any-return] # TensorFlow ships no types


def seconds_per_step(step: Callable[..., Any], batch: tuple[Any, ...], seconds: float) -> float:
    """Mean time of a step, over about `seconds`."""
    count, start = 0, perf_counter()
    while perf_counter() - start < seconds or count == 0:
        for _ in range(10):
            loss = step(*batch)
        loss.numpy()
        count += 10
    return (perf_counter() - start) / count


def measure(
    state: AUMState, num_classes: int, jit_compile: bool, options: argparse.Namespace
) -> tuple[float, float, float]:
    """Milliseconds of a step without and with the update (best rounds), and the median difference of the rounds."""
    generator = np.random.default_rng(0)
    batch_size = options.batch_size
    batch = (
        tf.constant(generator.standard_normal((batch_size, NUM_FEATURES), np.float32)),
        tf.constant(generator.integers(0, num_classes, batch_size)),
        tf.constant(generator.integers(0, state.num_samples, batch_size)),
    )
    steps = [make_step(num_classes, jit_compile, state) for state in (None, state)]
    for step in steps:
        step(*batch)
    plain, tracked = zip(
        *([1e3 * seconds_per_step(step, batch, options.seconds) for step in steps] for _ in range(options.rounds)),
        strict=True,
    )
    added = median(with_it - without for without, with_it in zip(plain, tracked, strict=True))
    return min(plain), min(tracked), added


def scores_table(options: argparse.Namespace) -> list[str]:
    """What `AUMState.update` adds to a step, for what is asked for, and megabytes of the state."""
    lines = ["| jit_compile | C | scores | median difference | state |", "|---|---:|---|---:|---:|"]
    for jit_compile, num_classes in product((False, True), (10, 100, 1000)):
        for name, needs in SCORED.items():
            state = AUMState(SCORED_SAMPLES, num_classes, needs)
            print(f"{name} C={num_classes} jit_compile={jit_compile}", file=sys.stderr)
            added = measure(state, num_classes, jit_compile, options)[2]
            size = sum(each.dtype.size * each.shape.num_elements() for each in state.variables) / 1e6
            lines.append(f"| {jit_compile} | {num_classes:,} | {name} | {added:.3f} ms | {size:,.1f} MB |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each figure in each round")
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 1_280_000, 10_000_000], metavar="N")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 1000], metavar="C")
    parser.add_argument("--batch-size", type=int, default=256, metavar="B")
    parser.add_argument("--scores", action="store_true", help="of the other scores instead; printed only")
    parser.add_argument("--write", action="store_true", help="put the table into docs/tensorflow.md")
    options = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    how = f"Python {platform.python_version()}, TensorFlow {tf.__version__}; one thread, B={options.batch_size}"
    rounds = f"Best of {options.rounds} rounds of {options.seconds:g} s, and the median of the rounds' differences"
    if options.scores:
        rounds = f"the median difference of {options.rounds} rounds of {options.seconds:g} s"
        text = "\n".join([f"{how}, N={SCORED_SAMPLES:,}; {rounds}.", "", *scores_table(options)])
        print(text)
        return
    lines = [
        f"{how}. {rounds}.",
        "",
        "| jit_compile | C | N | step | with `update` | best - best | median difference |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for jit_compile, num_classes, num_samples in product((False, True), options.classes, options.samples):
        print(f"N={num_samples} C={num_classes} jit_compile={jit_compile}", file=sys.stderr)
        plain, tracked, added = measure(AUMState(num_samples), num_classes, jit_compile, options)
        row = [str(jit_compile), f"{num_classes:,}", f"{num_samples:,}", f"{plain:.3f} ms", f"{tracked:.3f} ms"]
        lines.append("| " + " | ".join([*row, f"{tracked - plain:.3f} ms", f"{added:.3f} ms"]) + " |")
    text = "\n".join(lines)
    print(text)
    if options.write:
        pages.write("tensorflow.md", text)


if __name__ == "__main__":
    main()
