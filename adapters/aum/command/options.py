"""The words and options of the commands on runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["add_run_commands"]

_RUNS = """\
RUN is the folder of a run, of which totals.npz is taken or, where that is not there, totals_rank0.npz and so on; or a
single file of totals (.npz of any framework, or .parquet as aum export writes it)."""

_MERGE = f"""\
Add up what several processes or machines have measured of one training, and write its ranking by AUM. Totals have
neither other scores nor what the noise posterior needs; in PyTorch finalize() on every rank writes those of all.

{_RUNS} Order does not matter.

Refused, unless --force is given: a file given twice or with one that it is a part of, a rank that is missing, options
or numbers of classes that differ, ids that are ints in one file and strings in another."""


def add_run_commands(commands: argparse._SubParsersAction[Any], whole: Callable[[int], Callable[[str], int]]) -> None:
    """Add `aum merge`, `rank`, `records`, `info` and `export`; `whole` makes the type of a number from its least."""
    merge = _command(commands, "merge", "add up what several processes or machines measured", _MERGE, _merge)
    _add_runs(merge)
    merge.add_argument(
        "--out", required=True, metavar="FOLDER", help="new folder for totals.npz, aum_values.csv, run.json"
    )

    rank = _command(
        commands, "rank", "print or write the ranking of a run", f"Rank a run by its totals.\n\n{_RUNS}", _rank
    )
    _add_runs(rank)
    rank.add_argument("--top", type=whole(0), default=20, metavar="K", help="samples to print (%(default)s)")
    rank.add_argument("--best", action="store_true", help="print the best first, not the most suspicious")
    rank.add_argument("--out", metavar="FILE", help="write the whole ranking to a CSV file instead, best first")

    records = _command(
        commands,
        "records",
        "show every measurement of one sample",
        "Show how one sample was learnt, from the records of a run (compressed=False).",
        _records,
    )
    records.add_argument("run_folder", metavar="RUN", help="folder of the run")
    records.add_argument(
        "sample_id", metavar="SAMPLE_ID", help="as it is in aum_values.csv; after -- if it begins with -"
    )
    records.add_argument("--str", action="store_true", help="SAMPLE_ID is a str, where an int of the run reads alike")
    records.add_argument("--last", type=whole(1), metavar="K", help="the last K measurements only")

    info = _command(
        commands, "info", "tell what is in the folder of a run", "Tell what is in the folder of a run.", _info
    )
    info.add_argument("run_folder", metavar="RUN", help="folder of the run, or a file of totals")

    export = _command(
        commands,
        "export",
        "write totals as Parquet, for engines that merge a billion samples",
        f"Write each file of totals as Parquet: sample_id, sum, count.\n\n{_RUNS}",
        _export,
    )
    export.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or a file of totals")
    export.add_argument("--out", required=True, metavar="FOLDER", help="new folder, one file for each")


def _command(
    commands: argparse._SubParsersAction[Any],
    name: str,
    short: str,
    long: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=short, description=long, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.set_defaults(run=run)
    return command


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or a file of totals")
    command.add_argument("--force", action="store_true", help="add up although something speaks against it")


def _merge(arguments: argparse.Namespace) -> None:
    from aum.command.merge import merge  # noqa: PLC0415 # each command loads what it needs

    merge(arguments)


def _rank(arguments: argparse.Namespace) -> None:
    from aum.command.runs.ranking import rank  # noqa: PLC0415 # as above

    rank(arguments)


def _records(arguments: argparse.Namespace) -> None:
    from aum.command.runs.trajectory import show  # noqa: PLC0415 # as above

    show(arguments)


def _info(arguments: argparse.Namespace) -> None:
    from aum.command.runs.info import info  # noqa: PLC0415 # as above

    info(arguments)


def _export(arguments: argparse.Namespace) -> None:
    from aum.command.runs.exporting import export  # noqa: PLC0415 # as above

    export(arguments)
