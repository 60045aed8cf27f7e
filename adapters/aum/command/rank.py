"""`aum rank`: the most suspicious samples of a run, or its whole ranking as a file, from its totals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aum._ranking import write_ranking
from aum.command.errors import writing_to
from aum.command.merge import add_up
from aum.command.printer import print_table, say
from aum.command.shards import find_shards
from aum.command.text import counted, number

if TYPE_CHECKING:
    import argparse

    from aum_core import Totals

__all__ = ["run"]


def run(options: argparse.Namespace) -> None:
    """Do what `aum rank` was asked to do."""
    totals = add_up(find_shards(options.runs), force=options.force).totals
    if options.out is None:
        _print(totals, options.top, best=options.best)
        return
    with writing_to(Path(options.out)):
        write_ranking(options.out, totals.sample_ids, totals.aums)
    say(f"{counted(len(totals), 'sample')} in {options.out}, best first")


def _print(totals: Totals, top: int, *, best: bool) -> None:
    aums, counts = totals.aums, totals.counts
    order = np.argsort(-aums if best else aums, kind="stable")[:top]  # NaN comes last
    ids = totals.sample_ids[order].tolist()
    print_table(
        {
            "rank": [str(place) for place in range(1, len(order) + 1)],
            "sample id": [str(each) for each in ids],
            "AUM": [number(aum) for aum in aums[order].tolist()],
            "measurements": [str(count) for count in counts[order].tolist()],
        },
        left=["sample id"],
    )
