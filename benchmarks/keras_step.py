"""What a training step of Keras costs with and without the callback, on each backend, in an interpreter of its own.

python benchmarks/keras_step.py --samples 1280000 --backends jax tensorflow torch

The step is an epoch's time over its steps, of a small network with 1,000 classes; the sums come home once an epoch,
outside the step, and are told by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

BACKENDS = ("tensorflow", "jax", "torch")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a step without and with the callback, by turns, and of an epoch's end."""
    import keras  # noqa: PLC0415 # only in an interpreter with the backend chosen
    import numpy as np  # noqa: PLC0415 # the same

    from aum.keras import AUMCallback, with_ids  # noqa: PLC0415 # the same

    class Clock(keras.callbacks.Callback):
        """Time from the first batch's end to the last's, by epoch."""

        def __init__(self) -> None:
            super().__init__()
            self.epochs: list[float] = []

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            now = time.perf_counter()
            if batch == 0:
                self.start = now
            self.last = now

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.epochs.append(1e3 * (self.last - self.start) / (arguments.steps - 1))

    rows = arguments.batch_size * arguments.steps
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 128)).astype(np.float32)
    y = generator.integers(0, arguments.classes, rows)
    ids = generator.choice(arguments.samples, rows, replace=rows > arguments.samples).astype(np.int32)
    hidden = keras.layers.Dense(256, "relu")
    model = keras.Sequential([keras.Input((128,)), hidden, keras.layers.Dense(arguments.classes)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    times: dict[str, list[float]] = {"without": [], "with": []}
    with tempfile.TemporaryDirectory() as folder:
        callback = AUMCallback(folder, model, arguments.samples)
        for _ in range(arguments.rounds):
            for name in times:
                clock = Clock()
                inputs, callbacks = (with_ids(x, ids), [clock, callback]) if name == "with" else (x, [clock])
                model.fit(inputs, y, batch_size=arguments.batch_size, epochs=3, callbacks=callbacks, verbose=0)
                times[name] += clock.epochs[1:]  # the first one compiles
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--samples", nargs="+", type=int, default=[60_000, 1_280_000], metavar="N")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        (arguments.samples,) = arguments.samples
        print(json.dumps(measure(arguments)))
        return
    print("| backend | N | step, ms | with the callback | added, ms | added |")
    print("|---|---:|---:|---:|---:|---:|")
    for backend in arguments.backends:
        for samples in arguments.samples:
            options = {name: getattr(arguments, name) for name in ("batch_size", "classes", "steps", "rounds")}
            words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
            done = subprocess.run(
                [sys.executable, __file__, "--worker", f"--samples={samples}", *words],
                env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            times = json.loads(done.stdout.splitlines()[-1])
            plain, tracked = times["without"], times["with"]
            print(
                f"| {backend} | {samples:,} | {plain:.2f} | {tracked:.2f} | {tracked - plain:.2f} | "
                f"{100 * (tracked / plain - 1):.0f} % |",
                flush=True,
            )


if __name__ == "__main__":
    main()
