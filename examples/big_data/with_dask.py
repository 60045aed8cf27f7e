"""Merge and rank more samples than one machine holds: Dask, on this machine or on a cluster.

Reads totals as `aum export` writes them, or the records of runs as they are. Writes the ranking in parts, which end to
end are the bytes that `aum merge` writes, and the merged totals as Parquet.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd


def merged(files: list[str], parts: int) -> Any:
    """Sum and count of each sample. float64 adds margins of float32 logits without rounding, in any order."""
    frame = dd.read_parquet(files)
    if "margin" in frame.columns:  # records
        frame = frame[["sample_id", "margin"]].rename(columns={"margin": "sum"})
        frame["count"] = 1
    totals = frame.groupby("sample_id", sort=False)[["sum", "count"]].sum(split_out=parts)
    return totals.reset_index()


def ranked(totals: Any) -> Any:
    """Best first; tied AUMs by id, as `aum merge` has them."""
    totals["aum"] = totals["sum"] / totals["count"]
    totals["lowest_first"] = -totals["aum"]
    return totals.sort_values(["lowest_first", "sample_id"])[["sample_id", "aum"]]


def main() -> None:
    """Merge what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="with .parquet files in it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=4, help="in which the samples are kept (%(default)s)")
    parser.add_argument("--scheduler", help="address of a cluster, such as tcp://node0:8786; this machine by default")
    options = parser.parse_args()
    if options.scheduler:
        from dask.distributed import Client  # noqa: PLC0415 # only clusters need it

        Client(options.scheduler)
    options.out.mkdir(parents=True)
    files = sorted(str(path) for folder in options.folders for path in folder.glob("*.parquet"))
    with dask.config.set({"dataframe.shuffle.method": None if options.scheduler else "disk"}):
        merged(files, options.parts).to_parquet(options.out / "totals")
        totals = dd.read_parquet(options.out / "totals")
        ranked(totals).to_csv(str(options.out / "aum_values-*.csv"), index=False, header_first_partition_only=True)
    print(f"{len(files)} files merged and ranked in {options.out}")


if __name__ == "__main__":
    main()
