"""One part file: about a million records, sorted by sample id so that one sample's are found without the others.

Whatever reads Parquet reads it. Ids are int64 where all ids of the part are, else text; where ints stand beside
strs, or are beyond 64 bits, a column tells which texts are ints. All floats are float64, which holds float32 exactly
and, in split bytes, costs no more: a reader's own sum over a float32 column would be wrong from the seventh digit on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa  # noqa: TID251 # of this package
import pyarrow.parquet as pq  # noqa: TID251 # of this package

from aum_core.files import write_whole
from aum_core.records import record_order
from aum_core.sample_index import SampleId, as_ids

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "COLUMNS",
    "id_columns",
    "ids_of_table",
    "part_name",
    "part_paths",
    "rank_of",
    "read_part",
    "sort_by_id",
    "write_part",
]

COLUMNS = {
    "num_measurements": "int32",
    "target_logit": "int32",
    "target_val": "float64",
    "other_logit": "int32",
    "other_val": "float64",
    "margin": "float64",
    "aum": "float64",
    "step": "int64",
    "rank": "int32",
    "place": "int32",
}
"""What a part has beside the sample ids."""

_FLOATS = [name for name, dtype in COLUMNS.items() if dtype == "float64"]
_NAME = re.compile(r"rank(\d+)-part(\d+)\.parquet")
_GROUP_ROWS = 16_384  # read as one: so many records of each part are in memory where parts are merged


def part_name(rank: int, number: int) -> str:
    """Name of a part in its folder."""
    return f"rank{rank}-part{number:06}.parquet"


def part_paths(folder: Path) -> list[Path]:
    """All parts in a folder, by rank and then in the order they were written."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return [path for _, path in sorted(((int(m[1]), int(m[2])), path) for m, path in found if m)]


def rank_of(path: Path) -> int:
    """The rank whose part this is."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(f"{path}: want a name such as {part_name(0, 0)}")
    return int(found[1])


def sort_by_id(rows: NDArray[Any], known: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.int64] | list[SampleId]]:
    """Order (K,) that sorts records by sample id, those of one sample as they come, and the sorted ids.

    Parameters
    ----------
    rows : ndarray of shape (K,), integers
        Of the records' samples in `known`.
    known : ndarray of shape (N,)
        All sample ids.
    """
    if known.dtype != object:
        ids = known[rows]
        order = np.argsort(ids, kind="stable")
        return order, ids[order]
    own, which = np.unique(rows, return_inverse=True)
    names = known[own].tolist()
    ranked = record_order(names)
    rank = {name: i for i, name in enumerate(ranked)}
    ranks = np.array([rank[name] for name in names], np.int64)[which]
    order = np.argsort(ranks, kind="stable")
    in_order = np.empty(len(ranked), object)
    in_order[:] = ranked
    return order, as_ids(in_order[ranks[order]].tolist())


def write_part(path: Path, sample_ids: NDArray[np.int64] | list[SampleId], columns: dict[str, NDArray[Any]]) -> None:
    """Write a part that is there whole or not at all; `columns` are those of `COLUMNS`."""
    others = {name: pa.array(columns[name].astype(dtype, copy=False)) for name, dtype in COLUMNS.items()}
    table = pa.table({**id_columns(sample_ids), **others})
    ids = "DELTA_BINARY_PACKED" if isinstance(sample_ids, np.ndarray) else "DELTA_BYTE_ARRAY"
    with write_whole(path, "wb") as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            compression_level=3,
            use_dictionary=[name for name in others if name not in _FLOATS],
            column_encoding={"sample_id": ids, **dict.fromkeys(_FLOATS, "BYTE_STREAM_SPLIT")},
            row_group_size=_GROUP_ROWS,
        )


def read_part(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of a part in the order in which its records were made; ids are int64, or objects."""
    table = pq.read_table(path, use_threads=False)
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    made = np.lexsort((columns["place"], columns["step"]))
    return {name: column[made] for name, column in {"sample_id": ids_of_table(table), **columns}.items()}


def ids_of_table(table: pa.Table) -> NDArray[Any]:
    """Sample ids of a table (K,): int64, or objects (int and str)."""
    column = table["sample_id"]
    if column.type == pa.int64():
        numbers: NDArray[Any] = column.to_numpy()
        return numbers
    texts = column.to_pylist()
    if pa.types.is_binary(column.type):
        texts = [text.decode("utf-8", "surrogatepass") for text in texts]
    if "id_is_int" in table.column_names:
        kinds = table["id_is_int"].to_pylist()
        texts = [int(text) if is_int else text for text, is_int in zip(texts, kinds, strict=True)]
    ids = np.empty(len(texts), object)
    ids[:] = texts
    return ids


def id_columns(ids: NDArray[np.int64] | list[SampleId]) -> dict[str, pa.Array]:
    """Give checked ids as the columns of a part that hold them."""
    if isinstance(ids, np.ndarray):
        return {"sample_id": pa.array(ids)}
    is_int = [not isinstance(each, str) for each in ids]
    texts = list(map(str, ids)) if any(is_int) else ids
    kinds = {"id_is_int": pa.array(is_int)} if any(is_int) else {}
    try:
        return {"sample_id": pa.array(texts, pa.string()), **kinds}
    except UnicodeEncodeError:  # file names of another encoding, which Parquet's own strings cannot hold
        encoded = [str(text).encode("utf-8", "surrogatepass") for text in texts]
        return {"sample_id": pa.array(encoded, pa.binary()), **kinds}
