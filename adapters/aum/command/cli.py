"""The command `aum`: its words and options, and how it says what is wrong.

Nothing but NumPy is imported until a command runs, so that ``aum --help`` answers at once and on any machine.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from aum.command.errors import InputError
from aum.command.options import add_run_commands
from aum_core import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

_OPTIONAL = {"sklearn": "scikit-learn", "rich": "rich", "pyarrow": "pyarrow"}
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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, where argparse would print the usage first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its words; those of the process by default.

    Returns
    -------
    int
        The exit code.
    """
    arguments, unknown = _parser().parse_known_args(argv)
    if unknown:
        return _fail(arguments, f"unknown: {' '.join(unknown)} (see aum {arguments.command} --help)", 2)
    try:
        arguments.run(arguments)
        sys.stdout.flush()  # a pipe that is closed is found here, not when Python ends
    except BrokenPipeError:
        return _stop_writing()
    except InputError as error:
        return _fail(arguments, str(error), 2)
    except ModuleNotFoundError as error:
        if error.name not in _OPTIONAL:
            raise
        return _fail(arguments, f"needs {_OPTIONAL[error.name]}: pip install 'aum[find]'", 2)
    except KeyboardInterrupt as interrupt:
        # where it hits while nothing has been written yet it has no words of its own
        return _fail(arguments, str(interrupt) or "interrupted; nothing has been written", 130)
    return 0


def _stop_writing() -> int:
    """End without a word where whoever reads the output has closed it, as `head` does; 128 + SIGPIPE, as in shells."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would flush into the pipe once more
    return 141


def _fail(arguments: argparse.Namespace, message: str, code: int) -> int:
    kind = "error: " if code == 2 else ""
    one_line = " ".join(message.split())  # names of files and columns may have line breaks
    print(f"aum {arguments.command}: {kind}{one_line}", file=sys.stderr)  # noqa: T201 # what a command says
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="aum", description="Find wrong labels by the Area Under the Margin (AUM).")
    parser.add_argument("--version", action="version", version=f"aum {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_find(commands)
    add_run_commands(commands, _whole)
    return parser


def _add_find(commands: argparse._SubParsersAction[_Parser]) -> None:
    find = commands.add_parser(
        "find",
        help="find the wrong labels of a data set of features and labels",
        description=_FIND,
        epilog=_FIND_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    find.set_defaults(run=_find)
    find.add_argument("data", metavar="DATA", help="the word digits, or a .npz, .npy, .csv or .parquet file")

    data = find.add_argument_group("data")
    data.add_argument("--labels", metavar="FILE", help="labels (N,) that go with an .npy of features")
    data.add_argument("--label-column", metavar="NAME", help="column of the labels in a table")
    data.add_argument("--id-column", metavar="NAME", help="column of the sample ids in a table (default: row numbers)")

    search = find.add_argument_group("search")
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
    _add_cutoffs(find)

    results = find.add_argument_group("results")
    results.add_argument("--out", default="aum_run", metavar="FOLDER", help="where the files go (%(default)s)")
    results.add_argument(
        "--top", type=_whole(0), default=20, metavar="K", help="rows of the printed table (%(default)s)"
    )


def _add_cutoffs(find: _Parser) -> None:
    """Add the options that say where to cut. Those of one method are None until the method is known."""
    paper = find.add_argument_group("cut-off with threshold-samples")
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
    posterior = find.add_argument_group("cut-off with noise-posterior (default: more likely wrong than right)")
    rules = posterior.add_mutually_exclusive_group()
    rules.add_argument(
        "--precision", type=_between(0, 1), metavar="P", help="as many as can be with this share of them wrong"
    )
    rules.add_argument(
        "--budget", type=_budget, metavar="K", help="the most suspicious: a number of samples, or a share below 1"
    )
    rules.add_argument("--zero-margin", action="store_true", default=None, help="those with an AUM below zero")


def _budget(text: str) -> float:
    share = _between(0, 1)
    return share(text) if "." in text else _whole(1)(text)


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    wanted = f"a whole number of at least {low}" + ("" if high is None else f" and at most {high}")

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}, want {wanted}") from None
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text}, want {wanted}")
        return value

    return convert


def _between(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"{text!r}, want a number between {low} and {high}, both excluded")
        return value

    return convert


def _find(arguments: argparse.Namespace) -> None:
    from aum.command.find import find  # noqa: PLC0415 # loads scikit-learn

    find(arguments)
