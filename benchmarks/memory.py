"""Bytes that a calculator keeps per sample and per record, as the growth of a fresh process."""

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


def resident() -> int:
    """Bytes of this process that are in memory, once what was freed has been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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
    AUMCalculator(tempfile.mkdtemp()).update(logits, targets, list(range(BATCH)))
    calculator = AUMCalculator(tempfile.mkdtemp(), compressed=kind != "records")
    measure = getattr(calculator, "accumulate", calculator.update)
    before = resident()
    for start in range(0, size, BATCH):
        measure(logits, targets, ids_of(kind, start, passes=BATCH * 5))
    if hasattr(calculator, "totals"):
        len(calculator.totals)  # so that no measurement is still waiting
    return (resident() - before) / size


def measured(command: list[str | Path], kind: str, size: int) -> float:
    """What `grow` says in a process of its own."""
    done = subprocess.run([*command, __file__, kind, str(size)], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


def memory_table() -> list[str]:
    """Ours and the reference's."""
    import reference  # noqa: PLC0415 # the measured process has no use for it

    theirs = reference.command()
    lines = ["| bytes kept | wanted | ours | reference |", "|---|---:|---:|---:|"]
    for kind in KINDS:
        name = "per record (samples seen many times)" if kind == "records" else f"per sample, {kind} ids"
        wanted = {"strings": "", "records": "about 40"}.get(kind, "<= 40")
        ours, other = measured([sys.executable], kind, 2_000_000), measured(theirs, kind, 300_000)
        lines.append(f"| {name} | {wanted} | {ours:.0f} | {other:.0f} |")
    return lines


if __name__ == "__main__":
    print(json.dumps(grow(sys.argv[1], int(sys.argv[2]))))
