"""`aum find`: a data set comes in, `aum.sklearn` trains and judges, and a table and the files of a run come out."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aum.command import model
from aum.command.errors import InputError, by_option, one_line, writing_to
from aum.command.labelled_data import LabelledData, load
from aum.command.progress import progress
from aum.command.summary import print_findings
from aum.sklearn import find_by_posterior, find_mislabeled
from aum_core import Budget, Findings, LikelyWrong, Precision, ZeroMargin, flip_uniform, measure_detection
from aum_core.detection.findings import RESULTS
from aum_core.files.whole import write_json

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

    from aum_core.detection.cutoffs import Cutoff

__all__ = ["run"]

_DEFAULTS: dict[str, dict[str, Any]] = {
    "threshold-samples": {"runs": 2, "percentile": 99.0, "combine": "all"},
    "noise-posterior": {"precision": None, "budget": None, "zero_margin": None},
}


def run(options: argparse.Namespace) -> None:
    """Do what `aum find` was asked to do."""
    _complete(options)
    data = load(options.data, labels=options.labels, label_column=options.label_column, id_column=options.id_column)
    flipped = _flip(options, data)
    out = Path(options.out)
    _check_out(out, [options.data, options.labels])
    started = time.monotonic()
    try:
        with writing_to(out):
            findings = _search(options, data, out)
            check = None if flipped is None else measure_detection(findings.scores, flipped, flagged=findings.flagged)
            extra = {} if check is None else {"self_check": check.describe()}
            write_json(out / "run.json", {**findings.run, "seconds": round(time.monotonic() - started, 3), **extra})
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the files in {out} so far are whole") from None
    print_findings(findings, data, top=options.top, out=out, flipped=flipped, check=check)


def _complete(options: argparse.Namespace) -> None:
    """Give the options of the method their defaults, and refuse those of the other one."""
    for method, defaults in _DEFAULTS.items():
        for name, default in defaults.items():
            if getattr(options, name) is None:
                setattr(options, name, default)
            elif method != options.method:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option}: goes with --method {method}, not with {options.method}")


def _flip(options: argparse.Namespace, data: LabelledData) -> NDArray[np.bool_] | None:
    """Flip labels of `data` if wished; which ones, (N,)."""
    if options.flip_labels is None:
        return None
    data.targets, flipped = flip_uniform(data.targets, len(data.classes), options.flip_labels, options.seed)
    if flipped.all() or not flipped.any():
        raise InputError(
            f"--flip-labels: {options.flip_labels} of {len(flipped)} labels are {int(flipped.sum())}, "
            "want some flipped and some not"
        )
    return flipped


def _check_out(out: Path, inputs: list[str | None]) -> None:
    """See that the folder can be written to, or made, and that no input is among the results it will lose."""
    try:
        there = next((each for each in (out, *out.parents) if each.exists()), out)
        with tempfile.TemporaryFile(dir=there):
            pass
        earlier = [path for path in out.iterdir() if RESULTS.fullmatch(path.name)] if there == out else []
    except OSError as error:
        raise InputError(f"--out: {out}: {one_line(error)}; want a folder to write to") from None
    mine = [path for path in earlier for given in inputs if given and Path(given).exists() and path.samefile(given)]
    if mine:
        raise InputError(f"--out: {out}: would overwrite the data, {mine[0]}; want another folder")


def _search(options: argparse.Namespace, data: LabelledData, out: Path) -> Findings:
    data.features = model.scaled(data.features)  # what was given is not needed any more, and may be large
    is_paper = options.method == "threshold-samples"
    with (
        progress(options.runs if is_paper else 1, options.epochs) as on_epoch,
        warnings.catch_warnings(),
        by_option("runs", "epochs"),
    ):
        warnings.filterwarnings("ignore", module=r"sklearn\.")
        given: dict[str, Any] = {
            "classes": data.classes,
            "save_dir": out,
            "epochs": options.epochs,
            "batch_size": model.BATCH_SIZE,
            "seed": options.seed,
            "sample_ids": data.sample_ids,
            "metadata": {"data": _source(options, data), "method": options.method, **model.CHOICES},
            "augment": model.add_noise,
            "on_epoch": on_epoch,
        }
        labels = data.classes[data.targets]
        if is_paper:
            paper = {name: getattr(options, name) for name in _DEFAULTS["threshold-samples"]}
            return find_mislabeled(model.network(), data.features, labels, **paper, **given)
        return find_by_posterior(model.network(), data.features, labels, cutoff=_cutoff(options), **given)


def _cutoff(options: argparse.Namespace) -> Cutoff:
    if options.precision is not None:
        return Precision(options.precision)
    if options.budget is not None:
        return Budget(options.budget)
    return ZeroMargin() if options.zero_margin else LikelyWrong()


def _source(options: argparse.Namespace, data: LabelledData) -> dict[str, Any]:
    """Where the data came from, as ``run.json`` has it."""
    return {
        "source": data.source,
        "features": data.features.shape[1],
        "labels": options.labels,
        "label_column": options.label_column,
        "id_column": options.id_column,
        "flip_labels": options.flip_labels,
    }
