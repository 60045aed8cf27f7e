"""One row of the tables of Pleiss et al. 2020 (arXiv 2001.10528): baseline, AUM and oracle, in one command.

python examples/paper_replication/replicate.py digits --noise uniform --noise-rate 0.2 --scale 0.05 --net conv4

An interrupted command, given again, goes on after the last finished epoch. The README has the commands of all tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from cutoffs import RULES
from data import DATASETS, load_data
from experiment import NOISES, STAGES, Choices, Experiment, Labels
from losses import LOSSES
from recipes import RECIPES, Recipe
from tables import COLUMNS, write_tables
from training import Machine, NotFiniteError

from aum_core import __version__
from aum_core.files.whole import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_LARGE = ("webvision50", "clothing100k")
_NOT_OF_THE_RESULT = ("folder", "results", "stages", "device", "workers")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages that are not done yet, and write the tables."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        folder, experiment, description = _prepare(options)
    except (ValueError, TypeError, ModuleNotFoundError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    try:
        _run_stages(options.stages, experiment, description)
    except (NotFiniteError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    write_json(folder / "run.json", description)
    write_json(folder / "row.json", description["row"])
    print(write_tables(options.results), end="")


def _run_stages(stages: Sequence[str], experiment: Experiment, description: dict[str, Any]) -> None:
    """Run the stages, and fill the row and what was removed into the description."""
    row = description["row"]
    if "baseline" in stages:
        row["baseline_error"] = experiment.baseline()
    if "aum" in stages:
        row["aum_error"], told = experiment.aum()
        row["removed_share"] = told["removed_share"]
        row |= {name: told.get("detection", {}).get(name) for name in ("precision", "recall", "auroc")}
        description["removed"] = told
    if "oracle" in stages:
        row["oracle_error"] = experiment.oracle()


def _prepare(options: argparse.Namespace) -> tuple[Path, Experiment, dict[str, Any]]:
    """Check everything that can be wrong before the first training; the row's folder, its stages, its ``run.json``."""
    if (options.noise == "none") != (options.noise_rate is None):
        raise ValueError(f"noise-rate: {options.noise_rate} with --noise {options.noise}, want both or none")
    recipe = _recipe(options)
    data = load_data(options.dataset, options.folder, options.samples, options.test_samples)
    labels = Labels.draw(data, recipe.num_valid, options.noise, options.noise_rate or 0.0, options.seed)
    choices = Choices(**{name: getattr(options, name) for name in Choices.__dataclass_fields__})
    noise = "none" if options.noise == "none" else f"{options.noise}{options.noise_rate:g}"
    folder = options.results / f"{options.dataset}_{recipe.net}_{noise}_{options.loss}_seed{options.seed}"
    experiment = Experiment(
        folder,
        data,
        labels,
        recipe=recipe,
        choices=choices,
        loss=options.loss,
        seed=options.seed,
        machine=Machine(options.device, options.workers),
    )
    description = {
        "job": "paper_replication",
        "aum_version": __version__,
        "options": {name: value for name, value in vars(options).items() if name not in _NOT_OF_THE_RESULT},
        "recipe": recipe.describe(),
        "choices": asdict(choices),
        "row": {
            **dict.fromkeys(COLUMNS),
            "dataset": options.dataset,
            "net": recipe.net,
            "noise": options.noise,
            "noise_rate": options.noise_rate,
            "loss": options.loss,
            "seed": options.seed,
            "scale": options.scale,
            "samples": len(labels.places),
        },
    }
    return folder, experiment, _opened(folder, description)


def _opened(folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Begin a row, or take up one that was begun with the same options: its ``run.json`` so far."""
    path = folder / "run.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, description)
        return description
    earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, value in description["options"].items():
        if earlier["options"].get(name) != value:
            raise ValueError(
                f"{name}: {value}, but {folder} was begun with {earlier['options'].get(name)}; "
                "want the same options, or another --results"
            )
    return earlier


def _recipe(options: argparse.Namespace) -> Recipe:
    """The recipe of the data set's size, made short, with what was asked for in its place."""
    recipe = RECIPES[options.recipe or ("large" if options.dataset in _LARGE else "small")].scaled(options.scale)
    training, measuring = recipe.training, recipe.measuring
    if options.batch_size is not None:
        training = replace(training, batch_size=options.batch_size)
    if options.aum_batch_size is not None:
        measuring = replace(measuring, batch_size=options.aum_batch_size)
    if options.learning_rate is not None:
        training = replace(training, learning_rate=options.learning_rate)
        measuring = replace(measuring, learning_rate=options.learning_rate)
    num_valid = recipe.num_valid if options.num_valid is None else options.num_valid
    return replace(recipe, net=options.net or recipe.net, training=training, measuring=measuring, num_valid=num_valid)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=tuple(DATASETS))
    parser.add_argument("--folder", type=Path, help="of the data set")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="gets a folder for the row, and the tables"
    )
    parser.add_argument("--noise", choices=("none", *NOISES), default="none", help="labels made wrong on purpose")
    parser.add_argument("--noise-rate", type=float, metavar="SHARE")
    parser.add_argument("--loss", choices=tuple(LOSSES), default="cross-entropy", help="of all trainings of the row")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that decode images")
    _add_settings(parser.add_argument_group("settings", "the authors' by default"))
    _add_choices(
        parser.add_argument_group("choices", "where re-implementations differ; the authors' runner by default")
    )
    return parser


def _add_settings(group: Any) -> None:
    group.add_argument("--recipe", choices=tuple(RECIPES), help="the data set's own by default")
    group.add_argument("--scale", type=float, default=1.0, help="this share of the recipe's epochs")
    group.add_argument("--net", help="such as resnet32, wide_resnet28_10, densenet40_12, vgg16, lenet, conv4, resnet50")
    group.add_argument("--batch-size", type=int)
    group.add_argument("--aum-batch-size", type=int, help="of the runs with threshold samples")
    group.add_argument("--learning-rate", type=float)
    group.add_argument("--num-valid", type=int, help="training samples held out, at most a tenth of them")
    group.add_argument("--samples", type=int, help="train on so many of the data set")
    group.add_argument("--test-samples", type=int, help="test with so many of the data set")


def _add_choices(group: Any) -> None:
    group.add_argument(
        "--threshold-samples", default="authors", help="in each run: authors (N // C), paper (N // (C + 1)) or a number"
    )
    group.add_argument("--first-epoch", choices=("leave-out", "count"), default="leave-out")
    group.add_argument("--logits", choices=("half", "full"), default="half", help="precision they are measured in")
    group.add_argument("--rule", choices=tuple(RULES), default="count", help="of the cutoff")
    group.add_argument("--percentile", type=float, default=99.0)
    group.add_argument("--combine", choices=("all", "any", "mean"), default="all", help="the verdicts of both runs")
    group.add_argument(
        "--removal",
        choices=("weight", "drop"),
        default="weight",
        help="what is removed has no weight in the loss, or does not pass through the network at all",
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on after the last finished epoch")
