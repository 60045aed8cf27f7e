"""`aum export`: each file of totals as Parquet, for engines that add up more samples than a machine holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aum.command.errors import writing_to
from aum.command.merge import check_free
from aum.command.parquet_totals import write_totals
from aum.command.printer import say
from aum.command.shards import find_shards, load_totals
from aum.command.text import counted
from aum_core.files.whole import write_whole_folder

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]


def run(options: argparse.Namespace) -> None:
    """Do what `aum export` was asked to do."""
    out = Path(options.out)
    check_free(out)
    shards = find_shards(options.runs)
    with writing_to(out), write_whole_folder(out) as folder:
        for number, shard in enumerate(shards):
            write_totals(folder / f"{number:05}-{shard.path.stem}.parquet", load_totals(shard.path), source=shard.path)
    say(f"{counted(len(shards), 'file')} of totals in {out}: sample_id, sum, count")
