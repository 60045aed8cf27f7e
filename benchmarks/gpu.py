"""A GPU beside the CPU, for `aum.torch` and `aum.jax`: whether numbers agree, what travels, what a step pays.

Three questions, each with a table: whether margins, records and totals of a GPU are those of the CPU, to the bit; how
often a batch is copied to the host (one transfer is promised); and how much longer a step of a ResNet-50 takes. The
sides of a timing take turns, group by group, and each figure is a median.

python benchmarks/gpu.py                        # where there is no GPU it says so in one line, and ends
python benchmarks/gpu.py --device cpu --small   # a dry run of every line, which says nothing of GPUs

Needs ``aum[torch]``, ``aum[jax]``, flax and optax; what is missing is left out, and said so.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # both frameworks share the device


@dataclass(frozen=True)
class Size:
    """How large a run is: of the step, and of what it is compared by."""

    batch_size: int
    image_size: int
    width: int
    blocks: tuple[int, ...]
    steps: int
    groups: int
    agreement_batches: int


RESNET_50 = Size(64, 224, 64, (3, 4, 6, 3), steps=10, groups=15, agreement_batches=40)
SMALL = Size(4, 32, 8, (1, 1), steps=2, groups=3, agreement_batches=4)
NUM_CLASSES = 1000
TITLES = {
    "agreement": "| framework | logits | C | margins and records that differ | totals |\n|---|---|---:|---:|---|",
    "transfers": "| framework | call | copies to the host in a batch |\n|---|---|---:|",
    "overhead": "| framework | step | median | overhead |\n|---|---|---:|---:|",
}


def overhead_rows(framework: str, sides: dict[str, Callable[[], float]], groups: int) -> list[str]:
    """Rows on steps that take turns; the first is what the others are compared with, the last the same again."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(groups):
        for name, group in sides.items():
            seconds[name].append(group())
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    first = next(iter(medians.values()))
    return [
        f"| {framework} | {name} | {median * 1e3:.2f} ms | {(median / first - 1) * 100:+.1f} % |"
        for name, median in medians.items()
    ]


def agreement_row(setting: Sequence[str], differing: int, looked_at: int, *, same_totals: bool) -> str:
    """A row on one setting: framework, logits, C."""
    totals = "same bits" if same_totals else "**differ**"
    return f"| {' | '.join(setting)} | {differing:,} of {looked_at:,} | {totals} |"


def sides_of(frameworks: Iterable[str], device: str) -> tuple[list[Any], list[str]]:
    """The modules that measure on such a device, and a line on each framework that has none."""
    found, missing = [], []
    for name in frameworks:
        try:
            side = importlib.import_module(f"gpu_{name}")
        except ModuleNotFoundError as error:
            missing.append(f"{name}: {error}")
            continue
        described = side.describe(device)
        if described is None:
            missing.append(f"{name}: no GPU found")
        else:
            found.append(side)
    return found, missing


def main() -> None:
    """Measure, print, and write into the docs if wished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: a dry run")
    parser.add_argument("--framework", choices=("torch", "jax"), action="append", help="both by default")
    parser.add_argument("--small", action="store_true", help="a network and batches that a CPU can do in a minute")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    size = SMALL if arguments.small else RESNET_50
    sides, missing = sides_of(arguments.framework or ("torch", "jax"), arguments.device)
    if not sides:
        print(f"nothing was measured: {'; '.join(missing)}")
        return
    lines = ["A dry run on the CPU: it says nothing of GPUs."] if arguments.device == "cpu" else []
    lines += [f"Not measured: {each}." for each in missing]
    lines += [f"{side.describe(arguments.device)}." for side in sides]
    lines.append(f"Step: batches of {size.batch_size} images of {size.image_size} pixels, C={NUM_CLASSES:,}.")
    for table, title in TITLES.items():
        rows = [row for side in sides for row in getattr(side, table)(arguments.device, size)]
        lines += ["", title, *rows]
    text = "\n".join(lines)
    print(text)
    if arguments.write:
        if arguments.device == "cpu":
            raise SystemExit("--write: a dry run says nothing of GPUs, want --device gpu")
        pages.write("benchmarks.md", text, mark="measured: gpu")


if __name__ == "__main__":
    main()
