"""From the words of the command line to an exit code, and one line on stderr where something is wrong."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from aum.command.errors import InputError
from aum.command.options import parser

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_PACKAGES = {"sklearn": "scikit-learn", "rich": "rich", "pyarrow": "pyarrow"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its words; those of the process by default.

    Returns
    -------
    int
        The exit code.
    """
    options, unknown = parser().parse_known_args(argv)
    name = options.command
    try:
        if unknown:
            raise InputError(f"unknown: {' '.join(unknown)} (see aum {name} --help)")
        import_module(f"aum.command.{name}").run(options)
        sys.stdout.flush()  # a pipe that is closed is found here, not when Python ends
    except InputError as error:
        return _fail(name, f"error: {error}", 2)
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        package = _PACKAGES[error.name]
        wanted = "'aum[find]'" if name == "find" else package
        return _fail(name, f"error: needs {package}: pip install {wanted}", 2)
    except KeyboardInterrupt as interrupt:
        # where it hits while nothing has been written yet it has no words of its own
        return _fail(name, str(interrupt) or "interrupted; nothing has been written", 130)
    except OSError as error:
        if not _is_closed_pipe(error, os.name):
            raise
        return _stop_writing()
    return 0


def _fail(name: str, message: str, code: int) -> int:
    one_line = " ".join(message.split())  # names of files and columns may have line breaks
    print(f"aum {name}: {one_line}", file=sys.stderr)  # noqa: T201 # what a command says
    return code


def _is_closed_pipe(error: OSError, system: str) -> bool:
    """Whether whoever read the output has closed it, as `head` does; Windows calls that an invalid argument."""
    return isinstance(error, BrokenPipeError) or (system == "nt" and error.errno == errno.EINVAL)


def _stop_writing() -> int:
    """End without a word; 128 + SIGPIPE, as in shells."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would flush into the pipe once more
    return 141
