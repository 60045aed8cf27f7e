"""Files that appear whole or not at all, and arrays in them that are checked before they are believed."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = [
    "check_arrays",
    "load_arrays",
    "save_arrays",
    "scratch_folder",
    "write_json",
    "write_whole",
    "write_whole_folder",
]

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
    """
    target = Path(path)
    temporary = _temporary_name(target)
    # surrogateescape: ids that are file names of another encoding come out as the bytes they went in as
    text: dict[str, str] = {} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    try:
        with open(temporary, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload] # mode is a variable
            _remove_left_behind(target, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
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


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
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

    Raises
    ------
    OSError
        Where it is there, with something in it.
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
        temporary.rename(target)
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
    """Write `content` as a JSON file that appears whole or not at all."""
    with write_whole(path) as file:
        file.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def save_arrays(path: str | os.PathLike[str], kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Save 1-D and 2-D number arrays to an uncompressed ``.npz`` without pickle, marked as being a `kind`."""
    with write_whole(path, "wb") as file:
        np.savez(file, allow_pickle=False, kind=np.frombuffer(kind.encode(), np.uint8), **arrays)


def load_arrays(
    path: str | os.PathLike[str], kind: str, schema: Mapping[str, tuple[str, int]] | None = None
) -> dict[str, NDArray[Any]]:
    """Load what `save_arrays` saved, refusing everything else.

    No array is made before the file has been seen to hold as many bytes as the array's header claims.

    Parameters
    ----------
    path : str or path
        The ``.npz`` file.
    kind : str
        The mark that the file must bear.
    schema : mapping of name to (dtype, ndim)
        The arrays that it must hold, exactly; without it, any 1-D arrays of numbers, for `check_arrays` to look at.

    Raises
    ------
    ValueError
        Where the file is truncated, foreign, of another kind, or lies about its contents.
    """
    wanted = None if schema is None else {"kind": ("uint8", 1), **schema}
    with open(path, "rb") as file:
        try:
            arrays = _read_arrays(file, wanted)
            if arrays.pop("kind", np.empty(0)).tobytes() != kind.encode():
                raise ValueError("it is marked as something else")
        # OSError: the archive sends the reader to a place before its start
        except (ValueError, OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{os.fspath(path)}: not a file of {kind}, or damaged ({error})") from error
    return arrays


def check_arrays(arrays: Mapping[str, NDArray[Any]], schema: Mapping[str, str]) -> None:
    """Check that `arrays` are those of `schema`, which has a dtype, or several with "or" between, for each name.

    Raises
    ------
    ValueError
        Where one is missing, too many, of another dtype, or not 1-D.

    Examples
    --------
    >>> check_arrays({"sums": np.zeros(3)}, {"sums": "float64 or float32"})
    """
    if set(arrays) != set(schema):
        raise ValueError(f"it holds {sorted(arrays)}, not {sorted(schema)}")
    for name, dtypes in schema.items():
        if arrays[name].dtype not in map(np.dtype, dtypes.split(" or ")) or arrays[name].ndim != 1:
            raise ValueError(f"{name} is {arrays[name].dtype} of shape {arrays[name].shape}, want {dtypes}, 1-D")


def _read_arrays(file: IO[bytes], wanted: Mapping[str, tuple[str, int]] | None) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        expected = set(members) if wanted is None else set(wanted)
        if set(members) != expected or len(archive.infolist()) != len(expected):
            raise ValueError(f"it holds {sorted(members)}, not {sorted(expected)}")
        form: Mapping[str, tuple[str | None, int]] = wanted or dict.fromkeys(members, (None, 1))
        return {name: _read_array(archive, members[name], *form[name]) for name in form}


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: str | None, ndim: int) -> NDArray[Any]:
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{info.filename} is of another version")
        shape, fortran, found = np.lib.format.read_array_header_1_0(member)
        fits = found.kind in "iuf" if dtype is None else found == np.dtype(dtype)
        if not fits or len(shape) != ndim or fortran:
            wanted = dtype or "numbers"
            raise ValueError(f"{info.filename} is {found} with {len(shape)} dimensions, want {wanted} with {ndim}")
        content = member.read()  # to the end, where the checksum is compared
    if len(content) != found.itemsize * int(np.prod(shape, dtype=object)):
        raise ValueError(f"{info.filename} has {len(content)} bytes for shape {shape}")
    return np.frombuffer(bytearray(content), found).reshape(shape)
