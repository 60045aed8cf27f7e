"""Tables and plots of what `run.py` has measured so far, into the page of the docs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nets
import results
import tables
from experiments import SIZES, experiments
from measure import FOLDS, WEAK_SHARE
from plots import draw_all
from summary import Summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experiments import Experiment

sys.path.append(str(Path(__file__).resolve().parents[1]))

import pages  # the benchmarks' own, one folder up

MARK = "measured: noise"


def text(size: str, rows: Mapping[Experiment, Mapping[str, Any]], plots: list[tuple[str, str]], folder: str) -> str:
    """What stands between the marks of the page."""
    summary, planned = Summary(rows), experiments(size)
    pictures = {name: f"![{title}, by data set and net]({folder}/{name})" for name, title in plots}
    parts = [
        f"### What was run\n\n{settings(size, rows)}",
        tables.what_was_run(summary, planned),
        "What each way to flag labels costs, where E is the number of epochs in the table above:",
        tables.cost_table(),
        "### Ranking",
        *_means(summary, tables.ranking_table),
        pictures["ranking.png"],
        "### Cut-offs",
        *_means(summary, tables.cut_table),
        pictures["cutoffs.png"],
        "### What the noise posterior predicts of itself",
        *_means(summary, tables.prediction_table),
        pictures["predictions.png"],
        "### On clean data",
        pictures["clean.png"],
        "### Retraining",
        *_means(summary, tables.mean_error_table),
        pictures["retraining.png"],
        _folded("Test errors of each data set and net", tables.error_table(summary, summary.cases())),
        "### Each data set and net",
    ]
    for case in summary.cases():
        both = [tables.ranking_table(summary, [case]), tables.cut_table(summary, [case])]
        parts.append(_folded(str(case), "\n\n".join(both)))
    return "\n\n".join(parts)


def settings(size: str, rows: Mapping[Experiment, Mapping[str, Any]]) -> str:
    """How everything was trained, and with what."""
    versions = sorted({f"{name} {number}" for row in rows.values() for name, number in row["versions"].items()})
    minutes = sum(row["seconds"] for row in rows.values()) / 60
    return (
        f"`--size {size}`: {len(rows)} experiments, {minutes:.0f} minutes of one processor; {', '.join(versions)}. "
        f"SGD, learning rate {nets.LEARNING_RATE}, Nesterov momentum {nets.OPTIMIZER['momentum']}, "
        f"weight decay {nets.OPTIMIZER['weight_decay']}, batches of {nets.BATCH_SIZE}, no augmentation. "
        "Margins are measured in the epochs before the plus sign; those behind it, at a tenth of the learning rate, "
        "are trained unmeasured wherever the net is to predict: for test errors and for cleanlab's folds. "
        f"`cnn` and `wide` have three convolutions ({_channels('cnn')} and {_channels('wide')} channels), "
        f"`mlp` two hidden layers of {nets.HIDDEN}, all with batch normalisation. "
        f"Ambiguous noise follows the scores of a net that saw {100 * WEAK_SHARE:.0f} % of the samples, rightly "
        f"labelled. cleanlab out of sample has {FOLDS} folds; in sample, its input is the softmax averaged over the "
        "measured epochs of the plain run. Test errors are averaged over the classes. Tables tell means over the "
        "seeds, plots their lowest and highest too. A - as a precision: nothing was flagged."
    )


def _channels(net: str) -> str:
    return "-".join(map(str, nets.CHANNELS[net]))


def _means(summary: Summary, make: Any) -> list[str]:
    """A table of means for each kind of class sizes, and what it is the mean of."""
    parts = []
    for imbalance in sorted({case.imbalance for case in summary.cases()}):
        cases = summary.full_cases(imbalance)
        names = "; ".join(f"{case.data}, {case.net}" for case in cases)
        sizes = "Balanced classes" if imbalance == 1 else f"Class sizes {imbalance}:1"
        parts += [f"{sizes}, mean over {names}:", make(summary, cases)]
    return parts


def _folded(title: str, content: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{content}\n\n</details>"


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--results", type=Path, help="file of results; quality-SIZE.jsonl by default")
    parser.add_argument("--page", type=Path, default=pages.DOCS / "quality.md", help="a page with the marks")
    options = parser.parse_args()
    path = options.results or Path(f"quality-{options.size}.jsonl")
    found = results.read(path)
    rows = {each: found[each] for each in experiments(options.size) if each in found}
    if not rows:
        raise SystemExit(f"{path} has no result of --size {options.size}; first: run.py --size {options.size}")
    folder = options.page.with_suffix("")
    pages.write(options.page, text(options.size, rows, draw_all(Summary(rows), folder), folder.name), mark=MARK)
    print(f"{len(rows)} of {len(experiments(options.size))} experiments in {options.page} and {folder}")


if __name__ == "__main__":
    main()
