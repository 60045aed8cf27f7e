"""What is wrong with what the user gave, as opposed to what is wrong with this program."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["InputError", "by_option", "one_line", "reading", "writing_to"]


class InputError(Exception):
    """Something that the user can put right; its message is one line for them to read."""


@contextmanager
def by_option(*arguments: str) -> Iterator[None]:
    """Say what the library refuses of these arguments by the options they come from; other errors pass untouched.

    Examples
    --------
    >>> with by_option("runs"):
    ...     raise ValueError("runs: 0, want at least 1")
    Traceback (most recent call last):
    aum.command.errors.InputError: --runs: 0, want at least 1
    """
    try:
        yield
    except ValueError as error:
        argument, _, words = str(error).partition(": ")
        if argument not in arguments:
            raise
        raise InputError(f"--{argument}: {words}") from None


@contextmanager
def reading(path: object, trouble: str, *kinds: type[Exception]) -> Iterator[None]:
    """Say which file it is that is damaged or foreign, where the block raises an error of these kinds."""
    try:
        yield
    except kinds as error:
        raise InputError(f"{path}: {trouble} ({one_line(error)})") from None


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Make one line of it where the disk is full, say, or a folder cannot be written to."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--out: {out}: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """Give the words of an error without line breaks: of one of the operating system what it calls it."""
    words = (isinstance(error, OSError) and error.strerror) or str(error)
    return " ".join(words.split()) or type(error).__name__
