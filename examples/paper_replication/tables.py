"""The rows that are finished, as tables."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

from aum_core.files.whole import write_whole

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["COLUMNS", "write_tables"]

COLUMNS = (
    "dataset",
    "net",
    "noise",
    "noise_rate",
    "loss",
    "seed",
    "scale",
    "samples",
    "baseline_error",
    "aum_error",
    "oracle_error",
    "removed_share",
    "precision",
    "recall",
    "auroc",
)
_SHARES = frozenset(("baseline_error", "aum_error", "oracle_error", "removed_share"))


def write_tables(results: Path) -> str:
    """Write ``table.csv`` and ``table.md`` of all finished rows below `results`; the latter's text.

    Errors and shares are in percent in ``table.md`` and in [0, 1] in ``table.csv``; what was not measured is empty.
    """
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*/row.json"))]
    with write_whole(results / "table.csv") as file:
        lines = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
    titles = [f"{name} %" if name in _SHARES else name for name in COLUMNS]
    text = [titles, ["---"] * len(COLUMNS), *([_cell(name, row[name]) for name in COLUMNS] for row in rows)]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in text)
    with write_whole(results / "table.md") as file:
        file.write(table)
    return table


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _SHARES:
        return f"{100 * value:.2f}"
    return f"{value:.3f}" if name in ("precision", "recall", "auroc") else str(value)
