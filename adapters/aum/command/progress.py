"""How far the training is: a bar on a terminal, a few plain lines elsewhere, always on stderr."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["progress"]

_LINES_PER_RUN = 4


@contextmanager
def progress(runs: int, epochs: int) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call after each epoch with the number of the run, from 0, and of the epoch, from 1."""
    console = Console(stderr=True, highlight=False)
    every = -(-epochs // _LINES_PER_RUN)

    def say(run: int, epoch: int) -> None:
        if epoch % every == 0 or epoch == epochs:
            console.print(f"{_title(run, runs)}: epoch {epoch} of {epochs}", soft_wrap=True)

    if not console.is_terminal:
        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        task = bars.add_task(_title(0, runs), total=runs * epochs)

        def advance(run: int, epoch: int) -> None:
            current = min(run + (epoch == epochs), runs - 1)
            bars.update(task, completed=run * epochs + epoch, description=_title(current, runs))

        yield advance


def _title(run: int, runs: int) -> str:
    return f"training, run {run + 1} of {runs}"
