"""Merge and rank more samples than fit into memory, on one machine: DuckDB, which spills to the disk.

Reads totals as `aum export` writes them, or the records of runs as they are. Writes the ranking, byte for byte as
`aum merge` would, and the merged totals as Parquet, which `aum rank` and `aum merge` read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb

TOTALS = "SELECT sample_id, sum(sum) AS sum, sum(count)::BIGINT AS count FROM read_parquet($files) GROUP BY sample_id"
RECORDS = "SELECT sample_id, sum(margin) AS sum, count(*) AS count FROM read_parquet($files) GROUP BY sample_id"


def columns(connection: duckdb.DuckDBPyConnection, files: list[str]) -> set[str]:
    """Names of the columns that the files have."""
    connection.execute("SELECT * FROM read_parquet($files) LIMIT 0", {"files": files})
    return {column[0] for column in connection.description}


def merge(connection: duckdb.DuckDBPyConnection, files: list[str], out: Path) -> None:
    """Write the merged totals, and the ranking made of them."""
    totals, ranking = str(out / "totals.parquet"), str(out / "aum_values.csv")
    query = RECORDS if "margin" in columns(connection, files) else TOTALS
    connection.execute(f"COPY ({query}) TO '{totals}' (FORMAT parquet, COMPRESSION zstd)", {"files": files})
    # tied AUMs by id, as `aum merge` has them
    ranked = f"SELECT sample_id, sum / count AS aum FROM '{totals}' ORDER BY aum DESC, sample_id"  # noqa: S608 # our own path
    connection.execute(f"COPY ({ranked}) TO '{ranking}' (FORMAT csv, HEADER)")


def main() -> None:
    """Merge what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="with .parquet files in it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--memory", default="4GB", help="what DuckDB may take; it spills beyond (%(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    files = sorted(str(path) for folder in options.folders for path in folder.glob("*.parquet"))
    settings = {
        "memory_limit": options.memory,
        "threads": options.threads,
        "temp_directory": str(options.out / "spilled"),
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=settings) as connection:
        merge(connection, files, options.out)
    print(f"{len(files)} files merged and ranked in {options.out}")


if __name__ == "__main__":
    main()
