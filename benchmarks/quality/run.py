"""How often is AUM right? Flips labels of several data sets on purpose, and measures who finds them.

python benchmarks/quality/run.py --size small    # a minute, to see that it works
python benchmarks/quality/run.py --size full     # hours; goes on where it was stopped
python benchmarks/quality/report.py --size full  # tables and plots of what there is, into docs/quality.md

Each finished experiment is a line in the file of results. One that is there already is not done again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import results
import sets
import torch
from experiments import SIZES, Experiment, experiments
from measure import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

RELATIVE_COST = {"mlp": 1.0, "cnn": 6.0, "wide": 12.0}
SAMPLES = {"digits": 1300, "vowel": 700, "dna": 1700, "satellite": 2800, "letters": 14_000, "fashion-mnist": 60_000}


def cost(experiment: Experiment) -> float:
    """Time that an experiment takes, in a unit of its own: enough to tell how much is left."""
    samples = min(experiment.samples or SAMPLES[experiment.data], SAMPLES[experiment.data])
    trainings = 10 if experiment.retrain else 5
    return RELATIVE_COST[experiment.net] * samples * experiment.epochs * trainings


class Remaining:
    """Tells how far it is, and for how long it goes on."""

    def __init__(self, todo: Sequence[Experiment]) -> None:
        self._costs, self._done, self._started = [cost(each) for each in todo], 0, time.monotonic()

    def step(self, experiment: Experiment, words: str) -> None:
        """One more is done."""
        self._done += 1
        elapsed = time.monotonic() - self._started
        left = elapsed * sum(self._costs[self._done :]) / sum(self._costs[: self._done])
        place = f"{self._done} of {len(self._costs)}"
        print(f"{place}, {_clock(left)} left | {experiment} | {words}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def available(wanted: Sequence[Experiment], folders: sets.Folders) -> list[Experiment]:
    """Those whose data is there; tells which are left out."""
    missing = {name: folders.missing(name) for name in {each.data for each in wanted}}
    counts = Counter(each.data for each in wanted)
    for name, file in sorted(missing.items()):
        if file is not None:
            print(f"left out: {name}, {counts[name]} experiments, for want of {file}", file=sys.stderr)
    return [each for each in wanted if missing[each.data] is None]


def run(todo: Sequence[Experiment], folders: sets.Folders, path: Path) -> None:
    """Do the experiments one by one, and write each to the file."""
    remaining = Remaining(todo)
    for each in todo:
        started = time.process_time()
        data = sets.load(each.data, folders, samples=each.samples, imbalance=each.imbalance, seed=each.seed)
        figures = measure(each, data)
        results.append(path, each, figures, time.process_time() - started)
        ranking = figures["rankings"].get("AUM, plain run")
        words = "no label wrong" if ranking is None else f"AUROC of AUM {ranking['auroc']:.3f}"
        remaining.step(each, words)


def main() -> None:
    """Do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--results", type=Path, help="file of results; quality-SIZE.jsonl by default")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="only these data sets")
    parser.add_argument(
        "--fashion-mnist", type=Path, default=sets.FASHION, metavar="FOLDER", help="of the four .gz files"
    )
    parser.add_argument("--mlbench", type=Path, default=sets.MLBENCH, metavar="FOLDER", help="of R's mlbench: *.rda")
    options = parser.parse_args()

    torch.set_num_threads(1)
    path = options.results or Path(f"quality-{options.size}.jsonl")
    folders = sets.Folders(options.fashion_mnist, options.mlbench)
    wanted = [each for each in experiments(options.size) if options.data is None or each.data in options.data]
    done = results.read(path)
    todo = [each for each in available(wanted, folders) if each not in done]
    print(f"{len(wanted)} experiments, {len(todo)} to do; results in {path}", file=sys.stderr)
    try:
        run(todo, folders, path)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
