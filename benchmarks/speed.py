"""How fast and how large, against PyPI `aum` 1.0.2 and against the bare NumPy work: ratios, measured in one run.

Two processes, one with the reference and one with ours, take turns on the same batches, so that a busy machine
slows both. A figure is the median of the calls of a round, in the best of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pages
import reference
import torch
from memory import memory_table

BATCH_SIZES, NUM_CLASSES = (64, 256, 1024), (10, 100, 1000, 50_000)
OURS = ("update", "accumulate", "accumulate_list", "bare", "margins", "argmax")


class Side:
    """A worker process."""

    def __init__(self, command: list[str | Path]) -> None:
        self._process = subprocess.Popen(
            [*command, Path(__file__).with_name("worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def ask(self, *words: object) -> float:
        """Send a line and wait for the answer."""
        assert self._process.stdin is not None  # noqa: S101 # for the type checker
        assert self._process.stdout is not None  # noqa: S101 # for the type checker
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer: float = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@dataclass
class Cell:
    """Microseconds per call for one shape."""

    batch_size: int
    num_classes: int
    reference: float
    ours: dict[str, float]


def measure(sides: tuple[Side, Side], batch_size: int, num_classes: int, rounds: int, seconds: float) -> Cell:
    """Time one shape on both sides, in turns."""
    theirs, ours = sides
    for side in sides:
        side.ask("shape", batch_size, num_classes)
    best = dict.fromkeys(("reference", *OURS), float("inf"))
    for _ in range(rounds):
        best["reference"] = min(best["reference"], theirs.ask("time", "update", seconds))
        for what in OURS:
            best[what] = min(best[what], ours.ask("time", what, seconds))
    micro = {what: value * 1e6 for what, value in best.items()}
    return Cell(batch_size, num_classes, micro.pop("reference"), micro)


def speed_table(cells: list[Cell]) -> list[str]:
    """Microseconds, and how many times the reference's speed."""
    lines = [
        "| B | C | reference `update` | `update` | | `accumulate` | | with a list of ids | | bare NumPy | of it |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in cells:
        row = [f"{cell.batch_size}", f"{cell.num_classes:,}", f"{cell.reference:,.0f} µs"]
        for what in ("update", "accumulate", "accumulate_list"):
            row += [f"{cell.ours[what]:,.0f} µs", f"{cell.reference / cell.ours[what]:.1f}x"]
        row += [f"{cell.ours['bare']:,.0f} µs", f"{cell.ours['accumulate'] / cell.ours['bare']:.2f}"]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def margins_table(cells: list[Cell]) -> list[str]:
    """Margins alone, against one bare pass."""
    lines = ["| B | C | one `argmax` | margins | of it |", "|---:|---:|---:|---:|---:|"]
    for cell in cells:
        argmax, margins = cell.ours["argmax"], cell.ours["margins"]
        lines.append(
            f"| {cell.batch_size} | {cell.num_classes:,} | {argmax:,.1f} µs | {margins:,.1f} µs "
            f"| {margins / argmax:.2f} |"
        )
    return lines


def targets_table(cells: list[Cell]) -> list[str]:
    """What is wanted, and what was measured."""
    at = {(cell.batch_size, cell.num_classes): cell for cell in cells}
    rows: list[tuple[str, str, float, bool]] = []
    for classes in (10, 100, 1000):
        speed = at[256, classes].reference / at[256, classes].ours["update"]
        rows.append((f"`update`, B=256, C={classes}: times the reference", ">= 8", speed, speed >= 8))
    for classes, wanted in ((10, 35), (100, 35), (1000, 25), (50_000, 10)):
        speed = at[256, classes].reference / at[256, classes].ours["accumulate"]
        rows.append((f"`accumulate`, B=256, C={classes}: times the reference", f">= {wanted}", speed, speed >= wanted))
    small = at[64, 10]
    fixed = small.ours["accumulate"] / small.ours["bare"]
    rows.append(("`accumulate`, B=64, C=10: times the bare NumPy work", "<= 2.5", fixed, fixed <= 2.5))
    wide = [cell for cell in cells if cell.batch_size * cell.num_classes >= 100_000]
    for cell in wide:
        passes = cell.ours["margins"] / cell.ours["argmax"]
        name = f"margins, B={cell.batch_size}, C={cell.num_classes}: times one `argmax`"
        rows.append((name, "<= 3", passes, passes <= 3))
    lines = ["| what | wanted | measured | |", "|---|---:|---:|---|"]
    return lines + [f"| {n} | {w} | {value:.1f} | {'met' if met else 'missed'} |" for n, w, value, met in rows]


def settings(arguments: argparse.Namespace) -> str:
    """What the figures were measured with."""
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}"
    rounds = f"best of {arguments.rounds} rounds of {arguments.seconds} s each"
    batches = "float32 logits, up to 16 batches of them in turn (64 MiB); 50,000 samples, all seen before"
    return f"{versions}, {cpu()}, one thread; {rounds}; {batches}."


def cpu() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Measure, print, and write into the docs if wished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15, help="of each figure in each round")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()

    sides = Side(reference.command()), Side([sys.executable])
    if [side.ask("is_ours") for side in sides] != [False, True]:
        raise SystemExit("the two sides are not the reference and ours")
    cells = []
    for num_classes in NUM_CLASSES:
        for batch_size in BATCH_SIZES:
            print(f"B={batch_size} C={num_classes}", file=sys.stderr)
            cells.append(measure(sides, batch_size, num_classes, arguments.rounds, arguments.seconds))
    for side in sides:
        side.close()
    print("memory", file=sys.stderr)
    tables = {
        "Targets": targets_table(cells),
        "A call, in microseconds": speed_table(cells),
        "Margins alone": margins_table(cells),
        "Memory": memory_table(),
    }
    text = "\n\n".join(
        [settings(arguments), *(f"## {title}\n\n" + "\n".join(lines) for title, lines in tables.items())]
    )
    print(text)
    if arguments.write:
        pages.write("benchmarks.md", text)


if __name__ == "__main__":
    main()
