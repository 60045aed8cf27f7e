"""What is left when `aum merge` is killed: the folder --out whole or not there, and the shards as they were.

Usage: kill_merge.py [--kills 100] [--samples 300000]. Exit code 1 where something was lost or broken.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from aum_core import Totals

NUM_SHARDS = 4
FILES = ["aum_values.csv", "run.json", "totals.npz"]
_KILLED = 1 if sys.platform == "win32" else -9  # the exit code after `Popen.kill`


def make_shards(folder: Path, num_samples: int) -> list[Path]:
    """Files of totals, as the ranks of a job leave them."""
    generator = np.random.default_rng(0)
    paths = []
    for rank in range(NUM_SHARDS):
        totals = Totals()
        ids = generator.permutation(num_samples)[: num_samples // 2]
        totals.add(ids, generator.standard_normal(len(ids), dtype=np.float32))
        paths.append(folder / f"totals_rank{rank}.npz")
        totals.save(paths[-1])
    return paths


def checksums(paths: list[Path]) -> list[str]:
    """Of the contents of files."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def start(shards: list[Path], out: Path) -> subprocess.Popen[bytes]:
    """The command, in a process that is ours to kill."""
    words = [sys.executable, "-m", "aum", "merge", *map(str, shards), "--out", str(out)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def state_of(out: Path, wanted: list[str]) -> str:
    """What is there: nothing, all of it, or what must not be."""
    if not out.exists():
        return "not there"
    if sorted(path.name for path in out.iterdir()) != FILES:
        return "BROKEN: files are missing"
    # run.json names the paths of the shards, which are the same in each run
    return "whole" if checksums([out / name for name in FILES]) == wanted else "BROKEN: other contents"


def kill_at_random(folder: Path, kills: int, num_samples: int) -> Counter[str]:
    """Kill the command at random moments of its life; what was found, and how often."""
    shards = make_shards(folder, num_samples)
    before = checksums(shards)
    began = time.monotonic()
    if start(shards, folder / "undisturbed").wait():
        raise SystemExit("aum merge failed without being killed")
    lasts = time.monotonic() - began
    wanted = checksums([folder / "undisturbed" / name for name in FILES])
    found: Counter[str] = Counter()
    generator = np.random.default_rng()
    for number in range(kills):
        out = folder / f"out{number}"
        process = start(shards, out)
        time.sleep(generator.uniform(0, 1.1 * lasts))
        process.kill()
        ended = "killed" if process.wait() == _KILLED else "had ended"
        found[f"{ended}, folder {state_of(out, wanted)}"] += 1
        if checksums(shards) != before:
            found["BROKEN: a shard was changed"] += 1
        if not out.exists() and (start(shards, out).wait() or state_of(out, wanted) != "whole"):
            found["BROKEN: could not be done again"] += 1
        shutil.rmtree(out, ignore_errors=True)
    found["temporary folders left behind"] = sum(path.name.endswith(".tmp") for path in folder.iterdir())
    return found


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--samples", type=int, default=300_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_at_random(Path(folder), options.kills, options.samples)
    for what, times in sorted(found.items()):
        print(f"{times:4} {what}")
    if any("BROKEN" in what for what in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
