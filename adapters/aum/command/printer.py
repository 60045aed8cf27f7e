"""What a command says on stdout: lines and tables, for a terminal, a pipe or a file.

Names of samples, classes and files come out whole and do nothing: brackets are no colours, line breaks and the codes
that move a cursor are written out, and so is what the encoding cannot show, as cp1252 of a Windows console.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aum.command.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

__all__ = ["can_show", "print_table", "say"]


class _Stdout(Console):
    """Leaves a closed pipe to whoever called the command, where rich would end the process."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 # called where the error is handled


def say(text: str = "") -> None:
    """Print a line."""
    console = _Stdout()
    console.print(Text(printable(text, console.encoding)), soft_wrap=True)


def can_show(text: str) -> bool:
    """Whether stdout has these characters."""
    return printable(text, _Stdout().encoding) == text


def print_table(columns: Mapping[str, Sequence[str]], left: Collection[str] = ()) -> None:
    """Print columns of cells under their names, on the right of their column but for those named in `left`.

    On a terminal what is too wide is folded within its column; a pipe or a file has no edge.
    """
    console = _Stdout()
    cells = {name: [printable(cell, console.encoding) for cell in column] for name, column in columns.items()}
    if console.is_terminal:
        console.print(_folded(cells, left))
    else:
        console.file.writelines(_lines(cells, left))  # rich would take a minute for 200,000 rows


def _folded(cells: Mapping[str, Sequence[str]], left: Collection[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in cells:
        table.add_column(Text(name), justify="left" if name in left else "right", overflow="fold")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _lines(cells: Mapping[str, Sequence[str]], left: Collection[str]) -> Iterator[str]:
    columns = [[name, *column] for name, column in cells.items()]
    widths = [max(map(cell_len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        padded = []
        for name, cell, width in zip(cells, row, widths, strict=True):
            space = " " * (width - cell_len(cell))
            padded.append(cell + space if name in left else space + cell)
        yield "  ".join(padded).rstrip() + "\n"
