"""`aum find` from its options to its files: load, check, flip if wished, train and judge, print."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aum.command.errors import InputError
from aum.command import model
from aum.command.labelled_data import LabelledData, load
from aum.command.summary import print_findings
from aum.command.progress import progress
from aum.sklearn import find_by_posterior, find_mislabeled
from aum_core import Budget, Findings, LikelyWrong, Precision, ZeroMargin, flip_uniform, measure_detection
from aum_core.detection.findings import RESULTS
from aum_core.files.whole import write_json

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

    from aum_core.detection.cutoffs import Cutoff

__all__ = ["find"]

_PAPER = {"runs": 2, "percentile": 99.0, "combine": "all"}
_OF_POSTERIOR = ("precision", "budget", "zero_margin")


def find(options: argparse.Namespace) -> None:
    """Do what `aum find` was asked to do.

    Raises
    ------
    InputError
        Where something does not fit, before anything is trained, removed or written.
    KeyboardInterrupt
        With words for the user, once something may have been written.
    """
    _settle(options)
    data = load(options.data, labels=options.labels, label_column=options.label_column, id_column=options.id_column)
    _check_plan(options, data)
    flipped = _flip(options, data)
    out = Path(options.out)
    _prepare(out, [options.data, options.labels])
    started = time.monotonic()
    try:
        findings = _search(options, data, out)
        check = None if flipped is None else measure_detection(findings.scores, flipped, flagged=findings.flagged)
        extra = {} if check is None else {"self_check": check.as_dict()}
        write_json(out / "run.json", {**findings.run, "seconds": round(time.monotonic() - started, 3), **extra})
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the files in {out} so far are whole") from None
    print_findings(findings, data, top=options.top, out=out, flipped=flipped, check=check)


def _settle(options: argparse.Namespace) -> None:
    """Give the options of the method their defaults, and refuse those of the other one."""
    is_posterior = options.method == "noise-posterior"
    for name in _PAPER if is_posterior else _OF_POSTERIOR:
        if getattr(options, name) is not None:
            other = "threshold-samples" if is_posterior else "noise-posterior"
            raise InputError(f"--{name.replace('_', '-')}: goes with --method {other}, not with {options.method}")
    for name, default in _PAPER.items():
        if getattr(options, name) is None:
            setattr(options, name, 1 if is_posterior and name == "runs" else default)


def _cutoff(options: argparse.Namespace) -> Cutoff:
    if options.precision is not None:
        return Precision(options.precision)
    if options.budget is not None:
        return Budget(options.budget)
    return ZeroMargin() if options.zero_margin else LikelyWrong()


def _check_plan(options: argparse.Namespace, data: LabelledData) -> None:
    num_samples, num_classes = len(data.targets), len(data.classes)
    size = num_samples // (num_classes + 1)
    if not size:
        hint = "; is it the right column?" if options.label_column else ""
        raise InputError(
            f"{data.source}: {num_samples} samples of {num_classes} classes are too few, want at least "
            f"{num_classes + 1}{hint}"
        )
    if options.runs * size > num_samples:
        raise InputError(
            f"--runs: {options.runs} runs need {options.runs * size} samples ({size} each to give wrong labels on "
            f"purpose), there are {num_samples}; want at most {num_samples // size}"
        )
    if options.epochs == 1 and size <= model.BATCH_SIZE:
        raise InputError(f"--epochs: 1 is too few for {num_samples} samples of {num_classes} classes, want at least 2")


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


def _prepare(out: Path, inputs: list[str | None]) -> None:
    """Make the folder, and see that it can be written and that no input is among the results it will lose."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
        earlier = [path for path in out.iterdir() if RESULTS.fullmatch(path.name)]
    except OSError as error:
        raise InputError(f"--out: {out}: {error.strerror}; want a folder to write to") from None
    mine = [path for path in earlier for given in inputs if given and Path(given).exists() and path.samefile(given)]
    if mine:
        raise InputError(f"--out: {out}: would overwrite the data, {mine[0]}; want another folder")


def _search(options: argparse.Namespace, data: LabelledData, out: Path) -> Findings:
    data.features = model.scaled(data.features)  # what was given is not needed any more, and may be large
    with progress(options.runs, options.epochs) as on_epoch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"sklearn\.")
        given: dict[str, Any] = {
            "classes": data.classes,
            "save_dir": out,
            "epochs": options.epochs,
            "batch_size": model.BATCH_SIZE,
            "seed": options.seed,
            "sample_ids": data.sample_ids,
            "metadata": {"data": _describe(options, data), "method": options.method, **model.describe()},
            "augment": model.add_noise,
            "on_epoch": on_epoch,
        }
        labels = data.classes[data.targets]
        if options.method == "noise-posterior":
            return find_by_posterior(model.network(), data.features, labels, cutoff=_cutoff(options), **given)
        paper = {name: getattr(options, name) for name in _PAPER}
        return find_mislabeled(model.network(), data.features, labels, **paper, **given)


def _describe(options: argparse.Namespace, data: LabelledData) -> dict[str, Any]:
    return {
        "source": data.source,
        "features": data.features.shape[1],
        "labels": options.labels,
        "label_column": options.label_column,
        "id_column": options.id_column,
        "flip_labels": options.flip_labels,
    }
