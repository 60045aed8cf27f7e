"""Files that appear whole or not at all, and arrays in them that are checked before they are believed."""

from __future__ import annotations

import json
import os
import secrets
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["load_arrays", "read_arrays", "save_arrays", "write_arrays", "write_json", "write_whole"]


@contextmanager
def write_whole(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under `path` when the block ends, and not at all where the block fails.

    It is written under a temporary name beside `path`, synced to the disk and then renamed, so a reader, or a
    process that is killed at any moment, finds the old file or the new one.

    Parameters
    ----------
    path : str or path
        Its folder must exist.
    mode : {"w", "wb"}
        Text is UTF-8, with its line ends as they stand.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    # surrogateescape: ids that are file names of another encoding come out as the bytes they went in as
    text: dict[str, str] = {} if "b" in mode else {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
    try:
        with open(temporary, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload] # mode is a variable
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write `content` as a JSON file that appears whole or not at all."""
    with write_whole(path) as file:
        file.write(json.dumps(content, indent=2, allow_nan=False) + "\n")


def save_arrays(path: str | os.PathLike[str], kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Save 1-D and 2-D number arrays to an uncompressed ``.npz`` without pickle, marked as being a `kind`."""
    with write_whole(path, "wb") as file:
        write_arrays(file, kind, arrays)


def write_arrays(file: IO[bytes], kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write what `save_arrays` saves to an open file."""
    np.savez(file, allow_pickle=False, kind=np.frombuffer(kind.encode(), np.uint8), **arrays)


def load_arrays(
    path: str | os.PathLike[str], kind: str, schema: Mapping[str, tuple[str, int]]
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
        The arrays that it must hold, exactly.

    Raises
    ------
    ValueError
        Where the file is truncated, foreign, of another kind, or lies about its contents.
    """
    with open(path, "rb") as file:
        return read_arrays(file, os.fspath(path), kind, schema)


def read_arrays(
    file: IO[bytes], name: str, kind: str, schema: Mapping[str, tuple[str, int]]
) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote, as `load_arrays` does; errors speak of it by its `name`."""
    try:
        arrays = _read_arrays(file, {"kind": ("uint8", 1), **schema})
        if arrays.pop("kind").tobytes() != kind.encode():
            raise ValueError("it is marked as something else")
    # OSError: the archive sends the reader to a place before its start
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{name}: not a file of {kind}, or damaged ({error})") from error
    return arrays


def _read_arrays(file: IO[bytes], wanted: Mapping[str, tuple[str, int]]) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if set(members) != set(wanted) or len(archive.infolist()) != len(wanted):
            raise ValueError(f"it holds {sorted(members)}, not {sorted(wanted)}")
        return {name: _read_array(archive, members[name], *wanted[name]) for name in wanted}


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, dtype: str, ndim: int) -> NDArray[Any]:
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"{info.filename} is of another version")
        shape, fortran, found = np.lib.format.read_array_header_1_0(member)
        if found != np.dtype(dtype) or len(shape) != ndim or fortran:
            raise ValueError(f"{info.filename} is {found} with {len(shape)} dimensions, want {dtype} with {ndim}")
        content = member.read()  # to the end, where the checksum is compared
    if len(content) != found.itemsize * int(np.prod(shape, dtype=object)):
        raise ValueError(f"{info.filename} has {len(content)} bytes for shape {shape}")
    return np.frombuffer(bytearray(content), found).reshape(shape)
