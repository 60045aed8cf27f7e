"""Data files, plots and short tables of what `run.py` has measured so far, into the page of the docs and its folder."""

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


def write(page: Path, size: str, rows: Mapping[Experiment, Mapping[str, Any]]) -> None:
    """The data files, the plots, and what stands between the marks of the page."""
    summary, folder = Summary(rows), page.with_suffix("")
    draw_all(summary, folder)
    for name, lines in tables.data_files(summary, experiments(size)).items():
        pages.write_table(folder / name, lines)
    cases = summary.full_cases(1) or summary.cases()
    over = f"Mean over {len(cases)} data sets ({'; '.join(map(str, cases))})."
    pages.write(page, f"{over}\n\n{tables.ranking_table(summary, cases)}", mark="measured: rankings")
    pages.write(page, f"{over}\n\n{tables.cut_table(summary, cases)}", mark="measured: cut-offs")
    pages.write(page, settings(size, rows), mark="measured: settings")


def settings(size: str, rows: Mapping[Experiment, Mapping[str, Any]]) -> str:
    """How everything was trained, and with what."""
    versions = sorted({f"{name} {number}" for row in rows.values() for name, number in row["versions"].items()})
    minutes = sum(row["seconds"] for row in rows.values()) / 60
    return (
        f"- `--size {size}`: {len(rows)} of {len(experiments(size))} experiments, {minutes:.0f} minutes of one "
        f"processor; {', '.join(versions)}.\n"
        f"- SGD, learning rate {nets.LEARNING_RATE}, Nesterov momentum {nets.OPTIMIZER['momentum']}, weight decay "
        f"{nets.OPTIMIZER['weight_decay']}, batches of {nets.BATCH_SIZE}, no augmentation.\n"
        f"- `mlp`: two hidden layers of {nets.HIDDEN}. `cnn` and `wide`: three convolutions ({_channels('cnn')} and "
        f"{_channels('wide')} channels). All with batch normalisation.\n"
        "- After the measured epochs a net is trained for a few more, at a tenth of the learning rate, where it has "
        "to predict: for test errors and for cleanlab's folds.\n"
        f"- Instance-dependent noise follows the scores of a net that saw {100 * WEAK_SHARE:.0f} % of the samples with "
        "right labels.\n"
        f"- cleanlab with {FOLDS} folds sees predictions for samples that the net was not trained on; "
        '"the same run" gives it the mean softmax of the measured epochs.\n'
        "- Test errors are averaged over the classes."
    )


def _channels(net: str) -> str:
    return "-".join(map(str, nets.CHANNELS[net]))


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
    write(options.page, options.size, rows)
    print(f"{len(rows)} of {len(experiments(options.size))} experiments in {options.page} and the folder beside it")


if __name__ == "__main__":
    main()
