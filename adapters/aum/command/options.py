"""The words and options of every command, and what each says of itself with --help."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any, NoReturn

from aum_core import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["METHODS", "parser"]

METHODS = ("noise-posterior", "threshold-samples")
_MAX_SEED = 2**32 - 2**16  # what scikit-learn takes, with room for one more per run

_FIND = """\
Find the wrong labels of a classification data set, given as features and labels.

A small neural network is trained, and at every step the margin of each sample is taken: how far the score of its label
is above the best of the others. Their mean over training is the sample's Area Under the Margin (AUM)."""

_FIND_NOTES = """\
DATA is one of
  digits            scikit-learn's handwritten digits, to try this out
  FILE.npz          with arrays X (N, ...) and y (N,)
  FILE.npy          with features, and their labels in --labels FILE.npy
  FILE.csv          with a header, numbers for features, and --label-column NAME
  FILE.parquet      the same

METHOD is one of
  noise-posterior   one network is trained on the labels as they are; which kind of errors there are, and how many, is
                    estimated from what it believes early on, and from that the chance that each label is wrong. The
                    default: in the project's benchmark it found more with less, and left clean data alone. It finds
                    hardly any of the wrong labels of ambiguous samples, and at times says that it cannot tell.
  threshold-samples two networks are trained, each with some labels made wrong on purpose; a sample whose AUM is as low
                    as theirs is flagged. The paper's method: twice the time, and it assumes nothing about how labels
                    come to be wrong. It finds about half of those of ambiguous samples, and flags more right labels.

Files in the folder --out
  flagged.csv       labels held to be wrong: sample_id, given_label, suggested_label, aum (and probability_wrong, with
                    noise-posterior); most suspicious first
  aum_values.csv    all samples: sample_id, aum; best first
  run.json          what was done and how the cut-off came about
  noise_posterior.csv, transition.csv        the chance that each label is wrong, and the estimated chance that a sample
                    of one class is labelled as another; with that method
  totals.npz, or threshold_plan.npz, totals_run0.npz, ...   the state of the run or runs
Results of an earlier run in that folder are removed when the new one starts, once the data have been read and checked.

Exit code: 0 done; 2 something does not fit, with one line that says what; 130 interrupted.

examples:
  aum find digits
  aum find digits --flip-labels 0.1
  aum find table.csv --label-column species --id-column name --out species_run
  aum find table.csv --label-column species --precision 0.9
  aum find table.csv --label-column species --method threshold-samples --percentile 95"""

_RUNS = """\
RUN is the folder of a run, of which totals.npz is taken or, where that is not there, totals_rank0.npz and so on; or a
single file of totals (.npz of any framework, or .parquet as aum export writes it)."""

_MERGE = f"""\
Add up what several processes or machines have measured of one training, and write its ranking by AUM. Totals have
neither other scores nor what the noise posterior needs; in PyTorch finalize() on every rank writes those of all.

{_RUNS} Order does not matter.

Refused, unless --force is given: a file given twice or with one that it is a part of, a rank that is missing, options
or numbers of classes that differ, ids that are ints in one file and strings in another."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse would print the usage first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Give what reads the words of all commands: their name is ``command``, which is a module here too."""
    top = _Parser(prog="aum", description="Find wrong labels by the Area Under the Margin (AUM).")
    top.add_argument("--version", action="version", version=f"aum {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_add_find, _add_merge, _add_rank, _add_records, _add_info, _add_export):
        add(commands)
    return top


def _command(commands: Any, name: str, short: str, long: str, notes: str | None = None) -> _Parser:
    command: _Parser = commands.add_parser(
        name, help=short, description=long, epilog=notes, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return command


def _add_find(commands: Any) -> None:
    find = _command(commands, "find", "find the wrong labels of a data set of features and labels", _FIND, _FIND_NOTES)
    find.add_argument("data", metavar="DATA", help="the word digits, or a .npz, .npy, .csv or .parquet file")
    data = find.add_argument_group("data")
    data.add_argument("--labels", metavar="FILE", help="labels (N,) that go with an .npy of features")
    data.add_argument("--label-column", metavar="NAME", help="column of the labels in a table")
    data.add_argument("--id-column", metavar="NAME", help="column of the sample ids in a table (default: row numbers)")
    _add_search(find.add_argument_group("search"))
    _add_percentile(find.add_argument_group("cut-off with threshold-samples"))
    _add_rules(find.add_argument_group("cut-off with noise-posterior (default: more likely wrong than right)"))
    results = find.add_argument_group("results")
    results.add_argument("--out", default="aum_run", metavar="FOLDER", help="where the files go (%(default)s)")
    results.add_argument(
        "--top", type=_whole(0), default=20, metavar="K", help="rows of the printed table (%(default)s)"
    )


def _add_search(search: Any) -> None:
    search.add_argument(
        "--method", choices=METHODS, default=METHODS[0], metavar="METHOD", help=f"{' or '.join(METHODS)} (%(default)s)"
    )
    search.add_argument("--epochs", type=_whole(1), default=20, metavar="K", help="passes over the data (%(default)s)")
    search.add_argument(
        "--seed", type=_whole(0, _MAX_SEED), default=0, metavar="S", help="same seed, same findings (%(default)s)"
    )
    search.add_argument(
        "--flip-labels",
        type=_between(0, 1),
        metavar="RATE",
        help="self-check: flip this share of the labels first, and tell how many of them are found",
    )


def _add_percentile(paper: Any) -> None:
    """Add the options of one method; as those of the other they are None until the method is known."""
    paper.add_argument(
        "--runs", type=_whole(1), metavar="R", help="networks to train; with one, some labels go unjudged (2)"
    )
    paper.add_argument(
        "--percentile",
        type=_between(0, 100),
        metavar="P",
        help="of the AUMs of the labels made wrong on purpose: where to cut; lower flags less (99)",
    )
    paper.add_argument(
        "--combine", choices=("all", "any", "mean"), help="flag what all runs flag, any run, or their mean (all)"
    )


def _add_rules(posterior: Any) -> None:
    rules = posterior.add_mutually_exclusive_group()
    rules.add_argument(
        "--precision",
        type=_between(0, 1, last=True),
        metavar="P",
        help="as many as can be with this share of them wrong",
    )
    rules.add_argument(
        "--budget", type=_budget, metavar="K", help="the most suspicious: a number of samples, or a share below 1"
    )
    rules.add_argument("--zero-margin", action="store_true", default=None, help="those with an AUM below zero")


def _add_merge(commands: Any) -> None:
    merge = _command(commands, "merge", "add up what several processes or machines measured", _MERGE)
    _add_runs(merge, can_force=True)
    merge.add_argument(
        "--out", required=True, metavar="FOLDER", help="new folder for totals.npz, aum_values.csv, run.json"
    )


def _add_rank(commands: Any) -> None:
    rank = _command(commands, "rank", "print or write the ranking of a run", f"Rank a run by its totals.\n\n{_RUNS}")
    _add_runs(rank, can_force=True)
    rank.add_argument("--top", type=_whole(0), default=20, metavar="K", help="samples to print (%(default)s)")
    rank.add_argument("--best", action="store_true", help="print the best first, not the most suspicious")
    rank.add_argument("--out", metavar="FILE", help="write the whole ranking to a CSV file instead, best first")


def _add_records(commands: Any) -> None:
    long = "Show how one sample was learnt, from the records of a run (compressed=False)."
    records = _command(commands, "records", "show every measurement of one sample", long)
    records.add_argument("run_folder", metavar="RUN", help="folder of the run")
    records.add_argument(
        "sample_id", metavar="SAMPLE_ID", help="as it is in aum_values.csv; after -- if it begins with -"
    )
    records.add_argument("--str", action="store_true", help="SAMPLE_ID is a str, where an int of the run reads alike")
    records.add_argument("--last", type=_whole(1), metavar="K", help="the last K measurements only")


def _add_info(commands: Any) -> None:
    info = _command(commands, "info", "tell what is in the folder of a run", "Tell what is in the folder of a run.")
    info.add_argument("run_folder", metavar="RUN", help="folder of the run, or a file of totals")


def _add_export(commands: Any) -> None:
    short = "write totals as Parquet, for engines that merge a billion samples"
    long = f"Write each file of totals as Parquet: sample_id, sum, count.\n\n{_RUNS}"
    export = _command(commands, "export", short, long)
    _add_runs(export)
    export.add_argument("--out", required=True, metavar="FOLDER", help="new folder, one file for each")


def _add_runs(command: _Parser, *, can_force: bool = False) -> None:
    command.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or a file of totals")
    if can_force:
        command.add_argument("--force", action="store_true", help="add up although something speaks against it")


def _budget(text: str) -> Any:
    return (_between(0, 1) if "." in text else _whole(1))(text)


def _whole(low: int, high: int | None = None) -> Callable[[str], Any]:
    wanted = f"a whole number of at least {low}" + ("" if high is None else f" and at most {high}")
    return _number(int, lambda value: low <= value and (high is None or value <= high), wanted)


def _between(low: float, high: float, *, last: bool = False) -> Callable[[str], Any]:
    """Make the type of a number above `low` and below `high`, which it may be where it is the `last`."""
    wanted = f"a number above {low} and {'at most' if last else 'below'} {high}"
    return _number(float, lambda value: low < value < high or (last and value == high), wanted)


def _number(kind: type[float], fits: Callable[[float], bool], wanted: str) -> Callable[[str], Any]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan  # which fits nowhere
        if not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r}, want {wanted}")
        return value

    return convert
