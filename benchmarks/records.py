"""What the records of a long run cost on disk. Records a second, bytes each, peak memory, export, one trajectory.

Records of a made-up training with ImageNet's numbers of samples and classes go through `RecordsOnDisk`; then the parts
are exported to full_aum_records.csv, and compared to what pandas writes of the same records (which it has to hold in
memory: `--pandas` is how many). Each is a process of its own, whose peak is told. Linux.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import pages
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from aum.parquet import RecordsOnDisk, read_records
from aum_core.records import RECORD_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aum_core.records import Columns

BATCH, NUM_SAMPLES, NUM_CLASSES = 256, 1_281_167, 1000
POOL = 1000


class Training:
    """Batches as `update` would log them: epochs in another order each, running counts and AUMs."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)
        self._sums, self._counts = np.zeros(NUM_SAMPLES), np.zeros(NUM_SAMPLES, np.int64)
        self._labels = self._generator.integers(0, NUM_CLASSES, NUM_SAMPLES)
        self._pool = [self._values() for _ in range(POOL)]

    def batches(self, size: int) -> Iterator[tuple[Any, Columns]]:
        """Rows and columns of at least `size` records."""
        made = 0
        while made < size:
            order = self._generator.permutation(NUM_SAMPLES)
            for start in range(0, NUM_SAMPLES, BATCH):
                rows = order[start : start + BATCH]
                yield rows, self._columns(rows, self._pool[int(self._generator.integers(POOL))])
                made += len(rows)
                if made >= size:
                    return

    def _values(self) -> Columns:
        target_val = self._generator.normal(8, 4, BATCH).astype(np.float32)
        other_val = self._generator.normal(5, 2, BATCH).astype(np.float32)
        other_logit = self._generator.integers(0, NUM_CLASSES, BATCH)
        return {"target_val": target_val, "other_val": other_val, "other_logit": other_logit}

    def _columns(self, rows: Any, values: Columns) -> Columns:
        columns = {name: column[: len(rows)] for name, column in values.items()}
        columns["margin"] = columns["target_val"] - columns["other_val"]
        self._sums[rows] += columns["margin"]
        self._counts[rows] += 1
        columns["num_measurements"], columns["target_logit"] = self._counts[rows], self._labels[rows]
        columns["aum"] = self._sums[rows] / self._counts[rows]
        return columns


def log(folder: Path, size: int) -> dict[str, float]:
    """Log so many records; only what the log does is timed."""
    ids = np.arange(NUM_SAMPLES)
    records = RecordsOnDisk(lambda: ids, folder)
    took = 0.0
    for rows, columns in Training().batches(size):
        began = process_time()
        records.append(rows, columns)
        took += process_time() - began
    began = process_time()
    records.flush()
    took += process_time() - began
    size = len(records)
    stored = sum(path.stat().st_size for path in records.files)
    return {"records": size, "seconds": took, "bytes": stored / size}


def export(folder: Path, _: int) -> dict[str, float]:
    """Write the full CSV of the parts."""
    began = process_time()
    read_records(folder).write_csv(folder / "full_aum_records.csv")
    return {"seconds": process_time() - began}


def trajectories(folder: Path, _: int) -> dict[str, float]:
    """Milliseconds to read one sample's records: the median of several samples."""
    records, took = read_records(folder), []
    known = pq.read_table(records.files[0], columns=["sample_id"])["sample_id"].to_pylist()
    for sample_id in known[:: len(known) // 11]:
        began = perf_counter()
        records.trajectory(sample_id)
        took.append(perf_counter() - began)
    return {"milliseconds": 1000 * statistics.median(took)}


def with_pandas(folder: Path, _: int) -> dict[str, float]:
    """Write the full CSV as the reference does: all records in a frame, sorted, written."""
    parts = ds.dataset([str(path) for path in read_records(folder).files])
    frame = parts.to_table(columns=list(RECORD_FIELDS), use_threads=False).to_pandas()
    began = process_time()
    frame = frame.sort_values(["sample_id", "num_measurements"])
    frame.to_csv(folder / "pandas.csv", index=False)
    return {"seconds": process_time() - began}


STAGES: dict[str, Callable[[Path, int], dict[str, float]]] = {
    each.__name__: each for each in (log, export, trajectories, with_pandas)
}


def measured(stage: str, folder: Path, size: int) -> dict[str, float]:
    """Run a stage in a process of its own; what it told, and its peak of memory in MB."""
    print(f"{stage}, {size:,} records", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, __file__, "--stage", stage, "--folder", str(folder), "--size", str(size)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def measure(size: int, pandas_size: int) -> list[str]:
    """All stages, as the lines of two tables."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        logged = measured("log", folder, size)
        exported = measured("export", folder, size)
        found = measured("trajectories", folder, size)
        compared = folder
        if pandas_size != size:
            compared = folder / "fewer"
            measured("log", compared, pandas_size)
            measured("export", compared, pandas_size)
        theirs = measured("with_pandas", compared, pandas_size)
        if not filecmp.cmp(compared / "full_aum_records.csv", compared / "pandas.csv", shallow=False):
            raise SystemExit("full_aum_records.csv: not the bytes that pandas writes")
    records = logged["records"]
    versions = (
        f"Python {platform.python_version()}, pyarrow {pa.__version__}, NumPy {np.__version__}, pandas {pd.__version__}"
    )
    return [
        f"{versions}; one thread, N={NUM_SAMPLES:,}, C={NUM_CLASSES:,}, B={BATCH}. Seconds are the processor's.",
        "",
        f"| {records:,.0f} records | |",
        "|---|---:|",
        f"| logged, records a second | {records / logged['seconds'] / 1e6:.1f} million |",
        f"| on disk, a record | {logged['bytes']:.1f} bytes |",
        f"| peak memory of the process that logs, {NUM_SAMPLES:,} samples in it | {logged['peak']:,.0f} MB |",
        f"| `full_aum_records.csv` | {exported['seconds']:,.0f} s |",
        f"| peak memory of the process that writes it | {exported['peak']:,.0f} MB |",
        f"| one sample's trajectory | {found['milliseconds']:.0f} ms of the clock |",
        f"| pandas, the same bytes of {pandas_size:,} records | {theirs['seconds']:,.0f} s |",
        f"| its peak memory | {theirs['peak']:,.0f} MB |",
    ]


def main() -> None:
    """Measure, or be one stage of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=50_000_000, metavar="N", help="records")
    parser.add_argument(
        "--pandas", type=int, metavar="N", help="records to compare with pandas; all of them by default"
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/records.md")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        told = STAGES[options.stage](options.folder, options.size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({**told, "peak": peak}))
        return
    text = "\n".join(measure(options.size, options.pandas or options.size))
    print(text)
    if options.write:
        pages.write("records.md", text)


if __name__ == "__main__":
    main()
