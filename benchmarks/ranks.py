"""Seconds of `merge_ranks` by the number of ranks, real processes that gloo connects on this machine.

Usage: ranks.py [--samples 1000000] [--rounds 3] [--write]. ``--write`` puts the table into docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from aum.torch import Totals, merge_ranks

KINDS = ("rows", "hashes", "strings")
RANKS = (2, 4)


def measured(kind: str, num_samples: int, rank: int) -> Totals:
    """What a rank has measured: all samples once, as after some epochs."""
    generator = np.random.default_rng(rank)
    rows = generator.permutation(num_samples)
    totals = Totals()
    ids = rows if kind == "rows" else rows * 0x1E3779B97F4A7C15 % 2**62
    names = [f"{each:x}.png" for each in ids.tolist()] if kind == "strings" else ids
    totals.add(names, generator.standard_normal(num_samples, dtype=np.float32))
    return totals


def time_ranks(num_samples: int, rounds: int) -> None:
    """What each rank does; rank 0 prints the best of the rounds for each kind of ids."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    best = {}
    for kind in KINDS:
        own = measured(kind, num_samples, dist.get_rank())
        seconds = []
        for _ in range(rounds):
            dist.barrier()
            start = time.perf_counter()
            merge_ranks(own)
            seconds.append(time.perf_counter() - start)
        best[kind] = min(seconds)
    if not dist.get_rank():
        Path(os.environ["FOUND"]).write_text(json.dumps(best), encoding="utf-8")
    dist.destroy_process_group()


def measure(num_ranks: int, num_samples: int, rounds: int) -> dict[str, float]:
    """Start the ranks, and read what they found."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    words = [*launcher, __file__, "--samples", str(num_samples), "--rounds", str(rounds), "--rank"]
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "found.json")
        subprocess.run(words, check=True, env={**os.environ, "FOUND": str(found), "OMP_NUM_THREADS": "1"})
        best: dict[str, float] = json.loads(found.read_text(encoding="utf-8"))
    return best


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)  # one of those that are measured
    options = parser.parse_args()
    if options.rank:
        time_ranks(options.samples, options.rounds)
        return
    found = [measure(num_ranks, options.samples, options.rounds) for num_ranks in RANKS]
    setting = f"gloo, {os.cpu_count()} processors, seconds by the clock, best of {options.rounds}"
    lines = [
        f"`merge_ranks` of {options.samples:,} samples, all of them measured by every rank; {setting}.",
        "",
        f"| ranks | {' | '.join(KINDS)} |",
        f"|---:|{'---:|' * len(KINDS)}",
    ]
    for num_ranks, best in zip(RANKS, found, strict=True):
        lines.append(f"| {num_ranks} | " + " | ".join(f"{best[kind]:.2f} s" for kind in KINDS) + " |")
    print("\n".join(lines))
    if options.write:
        import pages  # noqa: PLC0415 # beside this script

        pages.write("scale.md", "\n".join(lines), mark="ranks")


if __name__ == "__main__":
    main()
