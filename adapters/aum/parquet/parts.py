"""One part file: about a million records, sorted by sample id so that one sample's are found without the others.

Whatever reads Parquet reads it. Ids are int64 where all ids of the part are, else text; where ints stand beside
strs, or are beyond 64 bits, a column tells which texts are ints. All floats are float64, which holds float32 exactly
and, in split bytes, costs no more: a reader's own sum over a float32 column would be wrong from the seventh digit on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aum.parquet.names import ids_of_table
from aum_core.files.whole import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "COLUMNS",
    "part_name",
    "part_paths",
    "rank_of",
    "read_part",
    "size_and_mark",
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
_MARK = b"aum_part"
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


def write_part(path: Path, ids: dict[str, pa.Array], columns: dict[str, NDArray[Any]], mark: str) -> None:
    """Write a part that is there whole or not at all: id columns, and those of `COLUMNS`, sorted, and its mark."""
    others = {name: pa.array(columns[name].astype(dtype, copy=False)) for name, dtype in COLUMNS.items()}
    table = pa.table({**ids, **others}).replace_schema_metadata({_MARK: mark})
    encoding = "DELTA_BINARY_PACKED" if ids["sample_id"].type == pa.int64() else "DELTA_BYTE_ARRAY"
    with write_whole(path, "wb") as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            compression_level=1,  # level 3 is 4 % smaller and a tenth slower
            use_dictionary=[name for name in others if name not in _FLOATS],
            column_encoding={"sample_id": encoding, **dict.fromkeys(_FLOATS, "BYTE_STREAM_SPLIT")},
            row_group_size=_GROUP_ROWS,
        )


def size_and_mark(path: Path) -> tuple[int, str]:
    """How many records a part has, and the mark that no other part has."""
    footer = pq.read_metadata(path)
    return footer.num_rows, (footer.metadata or {}).get(_MARK, b"").decode()


def read_part(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of a part in the order in which its records were made; ids are int64, or objects."""
    table = pq.read_table(path, use_threads=False)
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    made = np.lexsort((columns["place"], columns["step"]))
    return {name: column[made] for name, column in {"sample_id": ids_of_table(table), **columns}.items()}
