"""The pages of the docs whose tables the benchmarks write, and the data files beside them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DOCS = Path(__file__).resolve().parents[1] / "docs"
END = "<!-- end -->"


def write(page: str | Path, text: str, mark: str = "measured") -> None:
    """Put what was measured between the marks of a page, by its name in the docs or its path."""
    path = DOCS / page
    begin = f"<!-- {mark} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise SystemExit(f"{path} has no marks {begin} and {END}")
    path.write_text(f"{before}{begin}\n{text}\n{END}{after}", encoding="utf-8")


def write_table(path: Path, lines: Iterable[Sequence[str]]) -> None:
    """A data file beside a page, the header first."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
