"""Pieces of text that are the same wherever they are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BARS", "counted", "number", "printable", "sparkline"]

BARS = "▁▂▃▄▅▆▇█"


def printable(text: str, encoding: str = "utf-8") -> str:
    r"""Write out what would move a terminal's cursor or break a line, and what its encoding cannot show.

    Examples
    --------
    >>> print(printable("two\nlines, Ł"), printable("two\nlines, Ł", "cp1252"))
    two\nlines, Ł two\nlines, \u0141
    """
    if not text.isprintable():
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def counted(count: int, noun: str) -> str:
    """Give a number of things: ``1 shard``, ``2,000 shards``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """Give a logit, margin or AUM with six digits."""
    return f"{value:.6g}"


def sparkline(values: Sequence[float], width: int = 60, bars: str = BARS) -> str:
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
    steps = len(bars) - 1
    return "".join(bars[int((mean - low) / span * steps)] if abs(mean) < float("inf") else " " for mean in means)
