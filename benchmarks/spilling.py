"""Merging and ranking with DuckDB where memory is too small: seconds, peak memory, disk.

Usage: spilling.py [--samples 20000000] [--shards 4] [--memory 1GB] [--folder FOLDER] [--write]. ``--write`` puts the
line into docs/scale.md. FOLDER needs about 150 bytes of disk for each sample.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

EXAMPLE = Path(__file__).resolve().parents[1] / "examples/big_data/with_duckdb.py"
BLOCK = 1_000_000


def make_shard(path: Path, num_samples: int, seed: int) -> None:
    """A shard that has measured all samples once, as `aum export` writes it, a block of rows at a time."""
    generator = np.random.default_rng(seed)
    schema = pa.schema([("sample_id", pa.int64()), ("sum", pa.float64()), ("count", pa.int64())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, num_samples, BLOCK):
            rows = np.arange(start, min(start + BLOCK, num_samples))
            margins = generator.standard_normal(len(rows), dtype=np.float32).astype(np.float64)
            writer.write_table(pa.table([rows, margins, np.ones(len(rows), np.int64)], schema=schema))


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def largest_while(process: subprocess.Popen[bytes], folder: Path) -> int:
    """Most bytes that a folder had while the process ran."""
    largest = 0
    while process.poll() is None:
        time.sleep(0.2)
        try:
            largest = max(largest, size_of(folder))
        except FileNotFoundError:  # it was removed while we looked
            continue
    return largest


def measure(folder: Path, num_samples: int, num_shards: int, memory: str) -> str:
    """One sentence on what it took."""
    shards = folder / "shards"
    shards.mkdir()
    for number in range(num_shards):
        make_shard(shards / f"{number}.parquet", num_samples, number)
    started = time.perf_counter()
    words = [sys.executable, *map(str, (EXAMPLE, shards, "--out", folder / "out", "--memory", memory, "--threads", 1))]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    spilled = largest_while(process, folder / "out/spilled")
    seconds = time.perf_counter() - started
    if process.wait():
        raise SystemExit("the example failed")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    row, written = size_of(shards) / num_samples / num_shards, size_of(folder / "out") / num_samples
    return (
        f"{num_shards} shards of {num_samples:,} samples each, {row:.0f} bytes a row as Parquet, were merged and "
        f"ranked by DuckDB with `--memory {memory}` and one thread in {seconds:.0f} s; it had at most "
        f"{peak / 1e9:.1f} GB of memory and {spilled / 1e9:.1f} GB on the disk, and wrote {written:.0f} bytes a sample."
    )


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20_000_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        sentence = measure(Path(name), options.samples, options.shards, options.memory)
    print(sentence)
    if options.write:
        import pages  # noqa: PLC0415 # beside this script

        pages.write("scale.md", sentence, mark="spilling")


if __name__ == "__main__":
    main()
