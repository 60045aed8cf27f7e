"""How fast and how large, against PyPI `aum` 1.0.2 and against the bare NumPy work: ratios, measured in one run.

Processes, one with the reference and one with ours, take turns on the same batches, so that a busy machine slows
both; ``--before FOLDER`` has a third one join with another checkout.

Tables have the best of the rounds; targets are shown with the median of the rounds beside it.
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
from statistics import median
from typing import Any

import pages
import reference
from memory import measure_memory, memory_table
from ranking import measure_ranking, ranking_table

BATCH_SIZES, NUM_CLASSES = (64, 256, 1024), (10, 100, 1000, 50_000)
OURS = ("update", "accumulate", "accumulate_list", "accumulate_records", "margins", "margins_and_class")
YARDSTICKS = ("bare", "argmax")


class Side:
    """A worker process."""

    def __init__(self, name: str, command: list[str | Path], path: str = "") -> None:
        self._name = name
        search = {"PYTHONPATH": path} if path else {}
        self._process = subprocess.Popen(
            [*command, Path(__file__).with_name("worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **search},
        )
        self.versions = self._checked()

    def _checked(self) -> dict[str, str]:
        told = self.ask("describe")
        if told["side"] != self._name or told["threads"] != 1:
            raise SystemExit(f"want {self._name} with one thread, found {told}")
        versions: dict[str, str] = told["versions"]
        return versions

    def ask(self, *words: object) -> Any:
        """Send a line and wait for the answer."""
        assert self._process.stdin is not None  # for the type checker
        assert self._process.stdout is not None  # for the type checker
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process of {self._name} ended, see its message above")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@dataclass
class Cell:
    """Seconds per call for one shape: of each thing that was timed, a figure of each round."""

    batch_size: int
    num_classes: int
    rounds: dict[str, list[float]]

    def micro(self, what: str) -> float:
        """Microseconds in the best round."""
        return min(self.rounds[what]) * 1e6

    def ratios(self, what: str, other: str) -> tuple[float, float]:
        """How many times the time of `other` it took: of the best rounds, and of the median ones."""
        one, two = self.rounds[what], self.rounds[other]
        return min(one) / min(two), median(one) / median(two)


@dataclass
class Target:
    """A figure to hold, and what was measured."""

    what: str
    sign: str
    wanted: float
    measured: float
    typical: float

    def line(self) -> str:
        """A row of the table."""
        met = self.measured >= self.wanted if self.sign == ">=" else self.measured <= self.wanted
        cells = [self.what, f"{self.sign} {self.wanted:g}", f"{self.measured:.1f}", f"{self.typical:.1f}"]
        return "| " + " | ".join([*cells, "met" if met else "**missed**"]) + " |"


def measure(sides: dict[str, Side], batch_size: int, num_classes: int, rounds: int, seconds: float) -> Cell:
    """Time one shape on all sides, in turns."""
    for side in sides.values():
        side.ask("shape", batch_size, num_classes)
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        times.setdefault("reference", []).append(sides["reference"].ask("time", "update", seconds))
        for what in OURS:
            times.setdefault(what, []).append(sides["ours"].ask("time", what, seconds))
            if "before" in sides:
                times.setdefault(f"{what} before", []).append(sides["before"].ask("time", what, seconds))
        for what in YARDSTICKS:
            times.setdefault(what, []).append(sides["ours"].ask("time", what, seconds))
    return Cell(batch_size, num_classes, times)


def measure_all(rounds: int, seconds: float, before: Path | None) -> tuple[list[Cell], str]:
    """Time all shapes; what the sides ran on."""
    sides = {"reference": Side("reference", reference.command()), "ours": Side("ours", [sys.executable])}
    if before is not None:
        path = os.pathsep.join(map(str, (before.resolve(), before.resolve() / "adapters")))
        sides["before"] = Side("ours", [sys.executable], path)
    cells = []
    for num_classes in NUM_CLASSES:
        for batch_size in BATCH_SIZES:
            print(f"B={batch_size} C={num_classes}", file=sys.stderr)
            cells.append(measure(sides, batch_size, num_classes, rounds, seconds))
    for side in sides.values():
        side.close()
    return cells, both_versions(sides["ours"].versions, sides["reference"].versions)


def both_versions(ours: dict[str, str], theirs: dict[str, str]) -> str:
    """Versions, and where the reference has another."""
    return ", ".join(
        f"{name} {ours[name]}" + (f" (reference: {theirs[name]})" if theirs[name] != ours[name] else "")
        for name in ours
    )


def speed_table(cells: list[Cell]) -> list[str]:
    """Microseconds, and how many times the reference's speed."""
    lines = [
        "| B | C | reference | `update` | | `accumulate` | | ids as a list | | with records | | NumPy | times it |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in cells:
        row = [f"{cell.batch_size}", f"{cell.num_classes:,}", f"{cell.micro('reference'):,.0f} µs"]
        for what in ("update", "accumulate", "accumulate_list", "accumulate_records"):
            row += [f"{cell.micro(what):,.0f} µs", f"{cell.ratios('reference', what)[0]:.1f}x"]
        row += [f"{cell.micro('bare'):,.0f} µs", f"{cell.ratios('accumulate', 'bare')[0]:.2f}"]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def margins_table(cells: list[Cell]) -> list[str]:
    """Margins alone, against one bare pass."""
    lines = [
        "| B | C | one `argmax` | margins | times it | and the class | times it |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in cells:
        row = [f"{cell.batch_size}", f"{cell.num_classes:,}", f"{cell.micro('argmax'):,.1f} µs"]
        for what in ("margins", "margins_and_class"):
            row += [f"{cell.micro(what):,.1f} µs", f"{cell.ratios(what, 'argmax')[0]:.2f}"]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def before_table(cells: list[Cell]) -> list[str]:
    """Microseconds of another checkout of this project, how long ours takes beside it, and the same of the medians."""
    lines = ["| B | C | what | before | now | now / before | of the medians |", "|---:|---:|---|---:|---:|---:|---:|"]
    for cell in cells:
        for what in OURS:
            best, typical = cell.ratios(what, f"{what} before")
            old, new = f"{cell.micro(f'{what} before'):,.1f} µs", f"{cell.micro(what):,.1f} µs"
            row = [
                f"{cell.batch_size}",
                f"{cell.num_classes:,}",
                f"`{what}`",
                old,
                new,
                f"{best:.2f}",
                f"{typical:.2f}",
            ]
            lines.append("| " + " | ".join(row) + " |")
    return lines


def targets(cells: list[Cell]) -> list[Target]:
    """What is wanted, and what was measured."""
    at = {(cell.batch_size, cell.num_classes): cell for cell in cells}
    found = []
    for what, num_classes, wanted in (
        ("update", 10, 12),
        ("update", 100, 12),
        ("update", 1000, 12),
        ("accumulate", 10, 60),
        ("accumulate", 100, 50),
        ("accumulate", 1000, 30),
        ("accumulate", 50_000, 10),
    ):
        cell = at[256, num_classes]
        name = f"`{what}`, B=256, C={num_classes:,}: times the reference's speed"
        found.append(Target(name, ">=", wanted, *cell.ratios("reference", what)))
    name = "`accumulate`, B=64, C=10: times the reference's speed"
    found.append(Target(name, ">=", 25, *at[64, 10].ratios("reference", "accumulate")))
    name = "`accumulate`, B=64, C=10: times the bare NumPy work"
    found.append(Target(name, "<=", 2.5, *at[64, 10].ratios("accumulate", "bare")))
    for cell in cells:
        if cell.batch_size * cell.num_classes >= 100_000:
            name = f"margins, B={cell.batch_size}, C={cell.num_classes:,}: times one `argmax`"
            found.append(Target(name, "<=", 3, *cell.ratios("margins", "argmax")))
    return found


def all_targets(cells: list[Cell], memory: list[tuple[str, float, float]], ranked: dict[str, Any]) -> list[Target]:
    """Those of speed, of memory and of the ranking."""
    found = targets(cells)
    kept = {kind: ours for kind, ours, _ in memory}
    for kind in ("dense", "sparse"):
        found.append(Target(f"totals, {kind} int ids: bytes per sample", "<=", 40, kept[kind], kept[kind]))
    times = min(ranked["pandas"]) / min(ranked["ours"])
    typical = median(ranked["pandas"]) / median(ranked["ours"])
    name = f"ranking of {ranked['size']:,} samples: times the speed of pandas"
    return [*found, Target(name, ">=", 3, times, typical)]


def settings(arguments: argparse.Namespace, versions: str) -> str:
    """What the figures were measured with."""
    how = f"{versions}; {cpu()}, one thread, processor time; `compressed=True` on both sides"
    rounds = (
        f"Best of {arguments.rounds} rounds of {arguments.seconds:g} s for each figure; in a round, the median of "
        "groups of calls that make 4,096 samples"
    )
    batches = (
        "float32 logits and random targets, up to 16 batches in turn (64 MiB, but at least two batches), so mostly not "
        "in the nearest cache; 50,000 samples, all seen before"
    )
    return f"{how}. {rounds}. {batches}."


def cpu() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Measure, print, and write into the docs if wished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15, help="of each figure in each round")
    parser.add_argument(
        "--ranked", type=int, default=1_000_000, metavar="N", help="samples to rank; the target is for 10M"
    )
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="another checkout, timed in the same turns")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()

    cells, versions = measure_all(arguments.rounds, arguments.seconds, arguments.before)
    print("memory", file=sys.stderr)
    memory = measure_memory()
    print("ranking", file=sys.stderr)
    ranked = measure_ranking(arguments.ranked, min(arguments.rounds, 3))
    tables = {
        "Targets": [
            "| what | wanted | measured | median of the rounds | |",
            "|---|---:|---:|---:|---|",
            *(each.line() for each in all_targets(cells, memory, ranked)),
        ],
        "A call": speed_table(cells),
        "Margins alone": margins_table(cells),
        "Memory": memory_table(memory),
        "Ranking": ranking_table(ranked),
    }
    sections = [f"## {title}\n\n" + "\n".join(lines) for title, lines in tables.items()]
    text = "\n\n".join([settings(arguments, versions), *sections])
    print(text)
    if arguments.before is not None:  # of two checkouts, so of no page
        print("\n## Before and now\n\n" + "\n".join(before_table(cells)))
    if arguments.write:
        pages.write("benchmarks.md", text)


if __name__ == "__main__":
    main()
