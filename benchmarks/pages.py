"""The pages of the docs whose tables the benchmarks write."""

from __future__ import annotations

from pathlib import Path

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
