"""How many flipped labels does `aum find` find? On digits, and on Fashion-MNIST if it is there, by several seeds."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pages

from aum.command.options import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FIGURES = ("auroc", "average_precision", "precision", "recall")
COLUMNS = ("method", "data", "flipped_share", "seed", "flipped", *FIGURES, "seconds", "peak_mb")


def find(*words: str) -> dict[str, Any]:
    """Run `aum find` as a user would; its self-check, seconds, and peak memory in MB."""
    with tempfile.TemporaryDirectory() as out:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "aum", "find", *words, "--out", out],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"aum find {' '.join(words)} ended with {status}")
        check = json.loads(Path(out, "run.json").read_text())["self_check"]
    return {**check, "seconds": time.monotonic() - started, "peak": usage.ru_maxrss * _RSS_UNIT / 1e6}


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # what getrusage counts in


def fashion_mnist(folder: Path, samples: int, target: Path) -> str:
    """The first `samples` training images as an .npz; its path."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28 * 28)[:samples]
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:samples]
    np.savez(target, X=images, y=labels)
    return str(target)


def measured(method: str, name: str, data: str, share: float, seeds: int) -> list[list[str]]:
    """Lines of the data file, one for each seed."""
    lines = []
    for seed in range(seeds):
        found = find(data, "--flip-labels", str(share), "--method", method, "--seed", str(seed))
        figures = [f"{found[each]:.4f}" for each in FIGURES]
        told = [*figures, f"{found['seconds']:.1f}", f"{found['peak']:.0f}"]
        lines.append([method, name, str(share), str(seed), str(found["wrong"]), *told])
        print(", ".join(lines[-1]), file=sys.stderr)
    return lines


def means(lines: Iterable[Sequence[str]]) -> str:
    """The table of the page: means over the seeds, by method and data."""
    together: dict[tuple[str, ...], list[list[float]]] = {}
    for method, data, share, _, _, *figures in lines:
        together.setdefault((method, data, f"{100 * float(share):.0f} %"), []).append([float(each) for each in figures])
    rows = [f"| method | data | flipped | seeds | {' | '.join(FIGURES)} | seconds |", "|---|---|" + "---:|" * 7]
    for place, of_seeds in together.items():
        *shares, seconds, _ = np.mean(of_seeds, axis=0)
        told = [str(len(of_seeds)), *(f"{each:.3f}" for each in shares), f"{seconds:.1f}"]
        rows.append(f"| {' | '.join([*place, *told])} |")
    return "\n".join(rows)


def main() -> None:
    """Run all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--fashion-seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20_000, help="of Fashion-MNIST")
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/quality.md, and its data beside it"
    )
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            lines += measured(method, "digits", "digits", 0.1, options.seeds)
            if options.folder.exists():
                data = fashion_mnist(options.folder, options.samples, Path(folder) / "fashion.npz")
                lines += measured(method, "fashion-mnist", data, 0.2, options.fashion_seeds)
    print(means(lines))
    if options.write:
        pages.write_table(pages.DOCS / "quality/find.csv", [COLUMNS, *lines])
        pages.write("quality.md", means(lines), mark="measured: aum find")


if __name__ == "__main__":
    main()
