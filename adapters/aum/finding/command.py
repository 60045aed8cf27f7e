"""`aum find` from its options to its files: load, check, flip if wished, train and judge, print."""

from __future__ import annotations

import re
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aum.finding import model
from aum.finding.errors import InputError
from aum.finding.labelled_data import LabelledData, load
from aum.finding.printed import print_findings
from aum.finding.progress import progress
from aum.sklearn import find_mislabeled
from aum_core import Findings, flip_uniform, measure_detection
from aum_core.files import write_json

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["find"]

_RESULTS = re.compile(r"threshold_plan\.npz|totals_run.*\.npz|aum_values\.csv|flagged\.csv|run\.json")


def find(options: argparse.Namespace) -> None:
    """Do what `aum find` was asked to do.

    Raises
    ------
    InputError
        Where something does not fit, before anything is trained, removed or written.
    KeyboardInterrupt
        With words for the user, once something may have been written.
    """
    data = load(options.data, labels=options.labels, label_column=options.label_column, id_column=options.id_column)
    _check_plan(options, data)
    flipped = _flip(options, data)
    out = Path(options.out)
    _prepare(out, [options.data, options.labels])
    started = time.monotonic()
    try:
        findings = _search(options, data, out)
        check = None if flipped is None else measure_detection(findings.aums, flipped, flagged=findings.flagged)
        extra = {} if check is None else {"self_check": check.as_dict()}
        write_json(out / "run.json", {**findings.run, "seconds": round(time.monotonic() - started, 3), **extra})
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the files in {out} so far are whole") from None
    print_findings(findings, data, top=options.top, out=out, flipped=flipped, check=check)


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
        earlier = [path for path in out.iterdir() if _RESULTS.fullmatch(path.name)]
    except OSError as error:
        raise InputError(f"--out: {out}: {error.strerror}; want a folder to write to") from None
    mine = [path for path in earlier for given in inputs if given and Path(given).exists() and path.samefile(given)]
    if mine:
        raise InputError(f"--out: {out}: would overwrite the data, {mine[0]}; want another folder")


def _search(options: argparse.Namespace, data: LabelledData, out: Path) -> Findings:
    data.features = model.scaled(data.features)  # what was given is not needed any more, and may be large
    with progress(options.runs, options.epochs) as on_epoch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"sklearn\.")
        return find_mislabeled(
            model.network(),
            data.features,
            data.classes[data.targets],
            classes=data.classes,
            save_dir=out,
            epochs=options.epochs,
            batch_size=model.BATCH_SIZE,
            runs=options.runs,
            seed=options.seed,
            percentile=options.percentile,
            combine=options.combine,
            sample_ids=data.sample_ids,
            metadata={"data": _describe(options, data), **model.describe()},
            augment=model.add_noise,
            on_epoch=on_epoch,
        )


def _describe(options: argparse.Namespace, data: LabelledData) -> dict[str, Any]:
    return {
        "source": data.source,
        "features": data.features.shape[1],
        "labels": options.labels,
        "label_column": options.label_column,
        "id_column": options.id_column,
        "flip_labels": options.flip_labels,
    }
