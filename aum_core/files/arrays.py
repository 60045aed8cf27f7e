"""Arrays in a file, checked before they are believed: ``.npz`` without pickle and without compression."""

from __future__ import annotations

import os
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from aum_core.files.whole import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["check_arrays", "load_arrays", "save_arrays"]


def save_arrays(path: str | os.PathLike[str], kind: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Save arrays of numbers to an ``.npz`` without pickle and without compression, whole or not at all.

    Parameters
    ----------
    path : str or path
    kind : str
        The mark that `load_arrays` asks for.
    arrays : mapping of str to ndarray of shape (K,) or (K, C), ints or floats

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/sums.npz"
    >>> save_arrays(path, "my sums", {"sums": np.array([1.0, 2.0])})
    >>> load_arrays(path, "my sums")["sums"]
    array([1., 2.])
    """
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
    schema : mapping of name to (dtype, ndim), optional
        The arrays that it must hold, exactly; without it, any 1-D arrays of numbers, for `check_arrays` to look at.

    Returns
    -------
    dict of str to ndarray of shape (K,) or (K, C), ints or floats

    Raises
    ------
    ValueError
        Where the file is truncated, foreign, of another kind, or lies about its contents.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/sums.npz"
    >>> save_arrays(path, "my sums", {"sums": np.array([1.0, 2.0])})
    >>> load_arrays(path, "my sums", {"sums": ("float64", 1)})
    {'sums': array([1., 2.])}
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
    """Check that arrays have the names and dtypes that somebody wants, before they are believed.

    Parameters
    ----------
    arrays : mapping of str to ndarray of shape (K,), ints or floats
        Such as `load_arrays` gives.
    schema : mapping of str to str
        A dtype, or several with "or" between, for each name.

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
