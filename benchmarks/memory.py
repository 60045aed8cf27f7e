"""Bytes that a calculator keeps per sample and per record, as the growth of a fresh process. Linux only.

Growth of the process and not of Python's own allocations: what is lost to room in reserve and between blocks counts.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCH = 2000
KINDS = ("dense", "sparse", "strings", "records")
OUR_SIZE, REFERENCE_SIZE = 1_000_000, 300_000


def resident() -> int:
    """Bytes of this process that are in memory, once what was freed has been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ids_of(kind: str, start: int, passes: int) -> list[Any]:
    """Ids of one batch."""
    numbers = range(start, start + BATCH)
    if kind == "sparse":
        return [number * 1_000_003 % 2**61 for number in numbers]
    if kind == "strings":
        return [f"images/train/{number:08}.png" for number in numbers]
    return [number % passes for number in numbers] if kind == "records" else list(numbers)


def grow(kind: str, size: int) -> float:
    """Bytes per sample (per record, for records) that a calculator keeps after `size` of them."""
    import torch  # noqa: PLC0415 # the measured process alone needs these

    from aum import AUMCalculator  # noqa: PLC0415 # as above

    torch.set_num_threads(1)
    logits, targets = torch.randn(BATCH, 2), torch.zeros(BATCH, dtype=torch.int64)
    AUMCalculator("unused").update(logits, targets, list(range(BATCH)))
    calculator = AUMCalculator(tempfile.mkdtemp(), compressed=kind != "records")
    measure = getattr(calculator, "accumulate", calculator.update)
    before = resident()
    for start in range(0, size, BATCH):
        measure(logits, targets, ids_of(kind, start, passes=BATCH * 5))
    len(calculator.sums)  # so that no measurement is still waiting
    return (resident() - before) / size


def measured(command: list[str | Path], kind: str, size: int) -> float:
    """What `grow` says in a process of its own."""
    done = subprocess.run(
        [*command, __file__, kind, str(size)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return float(json.loads(done.stdout))


def measure_memory() -> list[tuple[str, float, float]]:
    """Kind, ours and the reference's."""
    import reference  # noqa: PLC0415 # the measured process has no use for it

    theirs = reference.command()
    return [
        (kind, measured([sys.executable], kind, OUR_SIZE), measured(theirs, kind, REFERENCE_SIZE)) for kind in KINDS
    ]


def memory_table(memory: list[tuple[str, float, float]]) -> list[str]:
    """Ours and the reference's, side by side."""
    lines = [
        f"| bytes kept | ours, {OUR_SIZE:,} of them | reference, {REFERENCE_SIZE:,} |",
        "|---|---:|---:|",
    ]
    for kind, ours, theirs in memory:
        name = f"per sample, {kind} ids"
        if kind == "records":
            name = "per record, `compressed=False`; ours no more after this, see [records](records.md)"
        name += ", the text included" if kind == "strings" else ""
        lines.append(f"| {name} | {ours:.0f} | {theirs:.0f} |")
    return lines


if __name__ == "__main__":
    print(json.dumps(grow(sys.argv[1], int(sys.argv[2]))))
