"""Seconds to write the ranking, beside pandas writing the same table to the same bytes."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aum.torch import AUMCalculator

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "aum_values.csv"


def calculator_of(size: int, folder: Path) -> AUMCalculator:
    """A calculator that has measured `size` samples twice, in the order in which a shuffled epoch shows them."""
    generator = np.random.default_rng(0)
    calculator = AUMCalculator(folder)
    for _ in range(2):
        ids, margins = generator.permutation(size), generator.standard_normal(size, dtype=np.float32)
        calculator.totals.add(ids, margins)
    return calculator


def write_with_pandas(calculator: AUMCalculator, folder: Path) -> None:
    """Rank and write as the reference does, but with a stable sort: its own order of ties depends on the processor."""
    frame = pd.DataFrame({"sample_id": calculator.totals.sample_ids, "aum": calculator.totals.aums})
    frame = frame.sort_values("aum", ascending=False, kind="stable")
    frame.to_csv(folder / NAME, index=False)


def seconds(function: Callable[..., None], *arguments: Any) -> float:
    """Processor time of a call."""
    start = process_time()
    function(*arguments)
    return process_time() - start


def measure_ranking(size: int, rounds: int) -> dict[str, Any]:
    """Seconds of each round for `finalize` and for pandas, in turns; an error where the bytes differ."""
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Path(name, "ours"), Path(name, "pandas")
        theirs.mkdir()
        calculator = calculator_of(size, ours)
        found: dict[str, Any] = {"size": size, "ours": [], "pandas": []}
        for done in range(rounds):
            print(f"ranking: round {done + 1} of {rounds}", file=sys.stderr)
            found["ours"].append(seconds(calculator.finalize))
            found["pandas"].append(seconds(write_with_pandas, calculator, theirs))
        if (ours / NAME).read_bytes() != (theirs / NAME).read_bytes():
            raise SystemExit(f"{NAME}: not the bytes that pandas writes")
    return found


def ranking_table(ranked: dict[str, Any]) -> list[str]:
    """One row."""
    ours, theirs = min(ranked["ours"]), min(ranked["pandas"])
    return [
        "| samples | `finalize` | pandas, the same bytes | |",
        "|---:|---:|---:|---:|",
        f"| {ranked['size']:,} | {ours:.2f} s | {theirs:.2f} s | {theirs / ours:.1f}x |",
    ]
