"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import IO, TYPE_CHECKING, Any

from aum_core.files.encoding import AS_THE_SYSTEM_HAS_IT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = [
    "rename",
    "scratch_folder",
    "write_json",
    "write_whole",
    "write_whole_folder",
]

_WINDOWS = os.name == "nt"
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}  # what network file systems answer
_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between attempts to rename
_STILL = 3600.0  # seconds that nobody has written to a temporary file of which the writer is taken to be dead


@contextmanager
def write_whole(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under `path` when the block ends, and not at all where the block fails.

    It is written under a temporary name beside `path`, synced to the disk and then renamed, so a reader, or a
    process that is killed at any moment, finds the old file or the new one. What a killed process leaves under the
    temporary name is removed where the same file is written again, once an hour has passed.

    Parameters
    ----------
    path : str or path
        Its folder must exist.
    mode : {"w", "wb"}
        Text is UTF-8, with its line ends as they stand.

    Yields
    ------
    file
        Open for writing.

    Raises
    ------
    OSError
        Where it cannot be written, or, on Windows, replaced, since another program has it open. The old file is there.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "notes.txt")
    >>> with write_whole(path) as file:
    ...     _ = file.write("all of it")
    >>> path.read_text()
    'all of it'
    """
    target = Path(path)
    temporary = _temporary_name(target)
    # ids may be file names of any encoding
    text: dict[str, str] = {} if "b" in mode else {"encoding": "utf-8", "errors": AS_THE_SYSTEM_HAS_IT, "newline": ""}
    try:
        with open(temporary, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload] # mode is a variable
            _remove_left_behind(target, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, target)
    except BaseException:  # Ctrl-C among them
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _remove_left_behind(target: Path, temporary: Path) -> None:
    """Remove what others have left under temporary names of `target`, if it is older by an hour than our own.

    Both times are the file system's, so this holds whatever machine or container the others were on, and process
    numbers, which are others there, need not be looked at.
    """
    name = re.compile(rf"\.{re.escape(target.name)}\.\d+-[0-9a-f]{{8}}\.tmp")
    for other in target.parent.glob(".*.tmp"):
        if not name.fullmatch(other.name) or other == temporary:
            continue
        with suppress(OSError):  # somebody else was faster, or it is theirs: nothing depends on it
            newest = max(path.stat().st_mtime for path in (other, *other.rglob("*")))
            if temporary.stat().st_mtime - newest < _STILL:
                continue
            if other.is_dir():
                shutil.rmtree(other)
            else:
                other.unlink()


def rename(path: Path, target: Path) -> None:
    """Rename a file, over what is there, or a folder, where nothing is.

    Windows refuses that while any program has one of the two open; a virus scanner has it for a moment.
    """
    waits = iter(_WAITS if _WINDOWS else ())
    while True:
        try:
            path.replace(target)
        except PermissionError as error:
            wait = next(waits, None)
            if wait is not None:
                sleep(wait)
            elif _WINDOWS:
                remedy = "it may be open in another program; want it closed there, and this done again"
                raise PermissionError(error.errno, f"{error.strerror}: {remedy}", str(target)) from error
            else:
                raise
        else:
            return


def _sync_folder(folder: Path) -> None:
    """Bring new names in a folder to the disk, where that can be done."""
    if _WINDOWS:  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


@contextmanager
def write_whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder to write to that becomes `path` when the block ends, and is removed where the block fails.

    A process that is killed leaves `path` as it was, and a folder beside it whose name begins with a dot; see
    `write_whole` for what becomes of that.

    Parameters
    ----------
    path : str or path
        Not there yet, or an empty folder.

    Yields
    ------
    Path
        The folder to write to.

    Raises
    ------
    OSError
        Where it is there, with something in it.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp(), "report")
    >>> with write_whole_folder(target) as folder:
    ...     _ = (folder / "page.html").write_text("all of it")
    >>> (target / "page.html").read_text()
    'all of it'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_name(target)
    temporary.mkdir()
    try:
        _remove_left_behind(target, temporary)
        yield temporary
        _sync_folder(temporary)
        if target.is_dir():
            target.rmdir()
        rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    _sync_folder(target.parent)


@contextmanager
def scratch_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder beside `path` for what is needed while that is made; it is gone when the block ends.

    Parameters
    ----------
    path : str or path
        Its folder must exist.
    """
    target = Path(path)
    temporary = _temporary_name(target)
    temporary.mkdir()
    try:
        _remove_left_behind(target, temporary)
        yield temporary
    finally:
        shutil.rmtree(temporary)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a JSON file that appears whole or not at all.

    Parameters
    ----------
    path : str or path
    content : mapping of str to JSON values

    Raises
    ------
    ValueError
        Where a number is NaN or infinite: JSON has none.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "run.json")
    >>> write_json(path, {"samples": 3})
    >>> json.loads(path.read_text())
    {'samples': 3}
    """
    with write_whole(path) as file:
        file.write(json.dumps(content, indent=2, allow_nan=False) + "\n")
