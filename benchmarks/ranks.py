"""Seconds of `merge_ranks`, and of the end of an epoch, by the number of ranks: real processes that gloo connects.

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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist

from aum.torch import AUMCalculator, Totals, merge_ranks

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("rows", "hashes", "strings")
RANKS = (2, 4)
EPOCH = "end of an epoch, with the noise posterior"
NUM_CLASSES, BATCH = 10, 8192


def measured(kind: str, num_samples: int, rank: int) -> Totals:
    """What a rank has measured: all samples once, as after some epochs."""
    generator = np.random.default_rng(rank)
    rows = generator.permutation(num_samples)
    totals = Totals()
    ids = rows if kind == "rows" else rows * 0x1E3779B97F4A7C15 % 2**62
    names = [f"{each:x}.png" for each in ids.tolist()] if kind == "strings" else ids
    totals.add(names, generator.standard_normal(num_samples, dtype=np.float32))
    return totals


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds of a call that all ranks begin together."""
    dist.barrier()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def time_epochs(num_samples: int, rounds: int) -> float:
    """The best end of an epoch in which the ranks have shared the samples."""
    generator = np.random.default_rng(0)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        calculator = AUMCalculator(folder, noise_posterior=True)
        for _ in range(rounds):
            own = generator.permutation(num_samples)[dist.get_rank() :: dist.get_world_size()]
            for start in range(0, len(own), BATCH):
                rows = torch.from_numpy(own[start : start + BATCH])
                calculator.accumulate(torch.randn(len(rows), NUM_CLASSES), rows % NUM_CLASSES, rows)
            seconds.append(seconds_of(calculator.end_epoch))
    return min(seconds)


def time_ranks(num_samples: int, rounds: int) -> None:
    """What each rank does; rank 0 prints the best of the rounds for each kind of ids."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    best = {}
    for kind in KINDS:
        own = measured(kind, num_samples, dist.get_rank())
        best[kind] = min(seconds_of(partial(merge_ranks, own)) for _ in range(rounds))
    best[EPOCH] = time_epochs(num_samples, rounds)
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
    measured_by = f"{options.samples:,} samples that every rank has measured"
    ended = f"`end_epoch` after the ranks have measured each once, C={NUM_CLASSES}"
    lines = [
        f"`merge_ranks` of {measured_by}, and {ended}; {setting}.",
        "",
        f"| ranks | {' | '.join((*KINDS, EPOCH))} |",
        f"|---:|{'---:|' * (len(KINDS) + 1)}",
    ]
    for num_ranks, best in zip(RANKS, found, strict=True):
        lines.append(f"| {num_ranks} | " + " | ".join(f"{best[kind]:.2f} s" for kind in (*KINDS, EPOCH)) + " |")
    print("\n".join(lines))
    if options.write:
        import pages  # noqa: PLC0415 # beside this script

        pages.write("scale.md", "\n".join(lines), mark="ranks")


if __name__ == "__main__":
    main()
