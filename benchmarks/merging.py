"""Totals of ten million samples in four shards: memory, time to merge, and to rank beside pandas.

Usage: merging.py [--samples 10000000] [--shards 4] [--write]. ``--write`` puts the tables into docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aum._ranking import write_ranking
from aum_core import Totals
from aum_core.files.tables import write_aum_values

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("rows", "hashes")


def ids_of(kind: str, num_samples: int) -> Any:
    """Different ids: positions in a data set, or 62-bit numbers."""
    rows = np.arange(num_samples)
    return rows if kind == "rows" else rows * 0x1E3779B97F4A7C15 % 2**62


def make_shards(folder: Path, kind: str, num_samples: int, num_shards: int) -> list[Path]:
    """Files of totals: each process has measured every sample once, in an order of its own."""
    paths = []
    for rank in range(num_shards):
        generator = np.random.default_rng(rank)
        totals = Totals()
        ids = ids_of(kind, num_samples)
        generator.shuffle(ids)
        totals.add(ids, generator.standard_normal(num_samples, dtype=np.float32))
        paths.append(folder / f"totals_rank{rank}.npz")
        totals.save(paths[-1])
    return paths


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Processor time of a call, and what it gives."""
    start = time.process_time()
    given = function(*arguments)
    return time.process_time() - start, given


def command(shards: list[Path], out: Path) -> dict[str, float]:
    """Processor time and peak memory of `aum merge`, the only child of this process."""
    words = [sys.executable, "-m", "aum", "merge", *map(str, shards), "--out", str(out)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024}


def with_pandas(totals: Totals, path: Path) -> None:
    """Rank and write as the reference does, with a stable sort: the order of ties is then the same."""
    import pandas as pd  # noqa: PLC0415 # the processes that are measured have no use for it

    frame = pd.DataFrame({"sample_id": totals.sample_ids, "aum": totals.aums})
    frame.sort_values("aum", ascending=False, kind="stable").to_csv(path, index=False)


def rankings(totals: Totals, folder: Path) -> dict[str, float]:
    """Seconds to write the ranking in three ways; an error where the bytes differ."""
    ways: dict[str, Callable[[Path], None]] = {
        "pyarrow": lambda path: write_ranking(path, totals.sample_ids, totals.aums),
        "engine": lambda path: write_aum_values(path, totals.sample_ids, totals.aums),
        "pandas": lambda path: with_pandas(totals, path),
    }
    write_ranking(folder / "warm.csv", totals.sample_ids[:200_000], totals.aums[:200_000])
    found = {name: timed(way, folder / f"{name}.csv")[0] for name, way in ways.items()}
    contents = {(folder / f"{name}.csv").read_bytes() for name in ways}
    if len(contents) != 1:
        raise SystemExit("the rankings are not the same bytes")
    return found


def measure(kind: str, num_samples: int, num_shards: int) -> dict[str, Any]:
    """What is measured of ids of a kind; meant for a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = make_shards(folder, kind, num_samples, num_shards)
        merged = command(shards, folder / "out")
        loading, totals = timed(Totals.load, folder / "out/totals.npz")
        found = {
            "kind": kind,
            "file": (folder / "out/totals.npz").stat().st_size / num_samples,
            "merge": merged,
            "loading": loading,
            "rankings": rankings(totals, folder),
        }
        if (folder / "pyarrow.csv").read_bytes() != (folder / "out/aum_values.csv").read_bytes():
            raise SystemExit("aum merge wrote another ranking")
        return found


def table(found: list[dict[str, Any]], num_samples: int, num_shards: int) -> list[str]:
    """One row for each kind of ids."""
    version = f"Python {platform.python_version()}, NumPy {np.__version__}; one thread; processor time."
    lines = [
        f"{version} Each of {num_shards} shards has measured all of {num_samples:,} samples.",
        "",
        "| ids | file of totals | `aum merge`, and ranking | its peak memory | ranking | by engine | by pandas | |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in found:
        ways = each["rankings"]
        lines.append(
            f"| {each['kind']} | {each['file']:.0f} bytes a sample | {each['merge']['seconds']:.1f} s "
            f"| {each['merge']['peak'] / 1e9:.2f} GB, {each['merge']['peak'] / num_samples:.0f} bytes a sample "
            f"| {ways['pyarrow']:.1f} s | {ways['engine']:.1f} s | {ways['pandas']:.1f} s "
            f"| {ways['pandas'] / ways['pyarrow']:.1f}x |"
        )
    return lines


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--kind", help=argparse.SUPPRESS)  # the process that measures it
    options = parser.parse_args()
    if options.kind:
        print(json.dumps(measure(options.kind, options.samples, options.shards)))
        return
    found = []
    for kind in KINDS:
        words = [sys.executable, __file__, "--kind", kind, "--samples", str(options.samples)]
        words += ["--shards", str(options.shards)]
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environ)
        found.append(json.loads(done.stdout))
    lines = table(found, options.samples, options.shards)
    print("\n".join(lines))
    if options.write:
        import pages  # noqa: PLC0415 # beside this script

        pages.write("scale.md", "\n".join(lines), mark="merging")


if __name__ == "__main__":
    main()
