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
from typing import Any

import numpy as np
import pages

from aum.command.cli import METHODS

FIGURES = ("auroc", "average_precision", "precision", "recall")


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
    """The first `samples` training images as an .npz."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28 * 28)[:samples]
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)[:samples]
    np.savez(target, X=images, y=labels)
    return str(target)


def of(method: str) -> list[str]:
    """The words that choose a method."""
    return ["--method", method]


def line(name: str, found: dict[str, Any]) -> str:
    """One row of the table."""
    figures = " | ".join(f"{found[each]:.4f}" for each in FIGURES)
    return f"| {name} | {found['wrong']} | {figures} | {found['seconds']:.1f} | {found['peak']:.0f} |"


def measured(name: str, words: list[str], seeds: int) -> list[str]:
    """Rows of a data set, one for each seed, and their mean."""
    rows, lines = [], []
    for seed in range(seeds):
        rows.append(find(*words, "--seed", str(seed)))
        lines.append(line(f"{name}, {seed}", rows[-1]))
        print(lines[-1], file=sys.stderr)
    means = {each: float(np.mean([row[each] for row in rows])) for each in (*FIGURES, "seconds", "peak")}
    return [*lines, line(f"{name}, mean", {**means, "wrong": rows[0]["wrong"]})]


def main() -> None:
    """Run all, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--fashion-seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20_000, help="of Fashion-MNIST")
    parser.add_argument("--folder", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--write", action="store_true", help="put the table into docs/quality.md")
    options = parser.parse_args()
    lines = [f"| data, flipped share, seed | flipped | {' | '.join(FIGURES)} | seconds | peak MB |"]
    lines.append("|---|" + "---:|" * 7)
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            lines += measured(f"{method}: digits, 10 %", ["digits", "--flip-labels", "0.1", *of(method)], options.seeds)
            if options.folder.exists():
                data = fashion_mnist(options.folder, options.samples, Path(folder) / "fashion.npz")
                name = f"{method}: Fashion-MNIST, first {options.samples:,}, 20 %"
                lines += measured(name, [data, "--flip-labels", "0.2", *of(method)], options.fashion_seeds)
    print("\n".join(lines))
    if options.write:
        pages.write("quality.md", "\n".join(lines))


if __name__ == "__main__":
    main()
