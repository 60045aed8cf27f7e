"""Lines and columns for a terminal or a pipe, in plain text: these commands run where little is installed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["counted", "number", "print_table", "printable", "say", "sparkline"]

_BARS = "▁▂▃▄▅▆▇█"


def say(text: str = "") -> None:
    """Print a line; what the terminal cannot show is written out."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201 # what a command says


def printable(text: str) -> str:
    """Write out what would move a terminal's cursor or break a line."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def counted(count: int, noun: str) -> str:
    """Give a number of things: ``1 shard``, ``2,000 shards``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """Give a logit, margin or AUM with six digits."""
    return f"{value:.6g}"


def print_table(columns: dict[str, Sequence[str]], left: Sequence[str] = ()) -> None:
    """Print columns of texts under their names, on the right of their column but for those named in `left`."""
    cells = [[name, *values] for name, values in columns.items()]
    widths = [max(map(len, column)) for column in cells]
    sides = ["<" if name in left else ">" for name in columns]
    for row in zip(*cells, strict=True):
        line = (f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True))
        say("  ".join(line).rstrip())


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Draw values as bars, each the mean of its share where there are more than `width`; a gap where one is not finite.

    Examples
    --------
    >>> sparkline([-1.0, 0.0, 1.0, 3.0])
    '▁▂▄█'
    """
    size = min(width, len(values))
    shares = [values[len(values) * i // size : len(values) * (i + 1) // size] for i in range(size)]
    means = [sum(share) / len(share) for share in shares]
    finite = [mean for mean in means if abs(mean) < float("inf")]
    low, span = min(finite, default=0.0), (max(finite, default=0.0) - min(finite, default=0.0)) or 1.0
    steps = len(_BARS) - 1
    return "".join(_BARS[int((mean - low) / span * steps)] if abs(mean) < float("inf") else " " for mean in means)
