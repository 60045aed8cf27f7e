"""What the other scores and the noise posterior cost: time per step and memory, beside `accumulate` alone. Linux.

python benchmarks/scores_cost.py --write   # into docs/scores.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import memory
import numpy as np
import pages

from aum_core import AUMCalculator, flip_pairs
from aum_core.scores import SCORES

SAMPLES, BATCH = 60_000, 256
CLASSES = (10, 100, 1000)
COMPUTED = ((60_000, 10), (60_000, 100), (6_000, 1000))
ALL = "all of these"
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    **{name: {"scores": [name]} for name in SCORES},
    ALL: {"scores": list(SCORES)},
    "noise posterior": {"noise_posterior": True},
    "noise posterior, on disk": {"noise_posterior": "on_disk"},
}
MARK = "measured: cost"


def measure(name: str, num_classes: int) -> dict[str, float]:
    """Microseconds per step and megabytes kept; in a process of its own."""
    generator = np.random.default_rng(0)
    logits = [generator.normal(size=(BATCH, num_classes)).astype(np.float32) for _ in range(8)]
    labels = generator.integers(0, num_classes, SAMPLES)
    with tempfile.TemporaryDirectory() as folder:
        before = memory.resident()
        calculator = AUMCalculator(folder, **OPTIONS[name])
        steps = []
        for _ in range(2):
            order = generator.permutation(SAMPLES)
            for step, start in enumerate(range(0, SAMPLES, BATCH)):
                rows = order[start : start + BATCH]
                started = time.process_time()
                calculator.accumulate(logits[step % 8][: len(rows)], labels[rows], rows)
                len(calculator.totals)  # so that no measurement is still waiting
                steps.append(time.process_time() - started)
        kept = (memory.resident() - before) / 1e6
    second = steps[len(steps) // 2 :]
    return {"step": 1e6 * float(np.percentile(second, 10)), "memory": kept}


def seconds_to_compute(num_samples: int, num_classes: int) -> float:
    """What the noise posterior takes at the end, where errors follow from the class: the dearer of its two kinds."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, num_classes, num_samples)
    labels, _ = flip_pairs(truth, num_classes, 0.2)
    with tempfile.TemporaryDirectory() as folder:
        calculator = AUMCalculator(folder, noise_posterior=True)
        for _ in range(4):
            for rows in np.array_split(np.arange(num_samples), -(-num_samples // BATCH)):
                noise = generator.normal(size=(len(rows), num_classes))
                calculator.accumulate(noise + 6.0 * np.eye(num_classes)[truth[rows]], labels[rows], rows)
        calculator.end_epoch()
        started = time.process_time()
        calculator.noise_posterior()
        return time.process_time() - started


def in_own_process(name: str, num_classes: int) -> dict[str, float]:
    """What `measure` says there."""
    command = [sys.executable, __file__, "--one", name, str(num_classes)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def table() -> str:
    """A row for each option."""
    header = [f"C = {each:,}" for each in CLASSES]
    lines = [f"| kept | {' | '.join(header)} |", f"|---|{'---:|' * len(header)}"]
    figures = {}
    for name in OPTIONS:
        print(name, file=sys.stderr)
        figures[name] = [in_own_process(name, each) for each in CLASSES]
        times = [each["step"] / bare["step"] for each, bare in zip(figures[name], figures["nothing"], strict=True)]
        cells = [
            f"{each['step']:,.0f} us ({ratio:.1f}x), {each['memory']:,.0f} MB"
            for each, ratio in zip(figures[name], times, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    last = ", ".join(f"{seconds_to_compute(n, c):,.1f} s for N = {n:,} and C = {c:,}" for n, c in COMPUTED)
    settings = (
        f"`accumulate` of batches of {BATCH} with N = {SAMPLES:,}, one thread, processor time: the fastest tenth of "
        "the second epoch's steps, and how many times that without scores; the memory by which the process has grown. "
        f"To compute the noise posterior at the end, where errors follow from the class, took {last}."
    )
    return settings + "\n\n" + "\n".join(lines)


def main() -> None:
    """Measure, print, and write if wished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scores.md")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "C"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    text = table()
    print(text)
    if options.write:
        pages.write("scores.md", text, mark=MARK)


if __name__ == "__main__":
    main()
