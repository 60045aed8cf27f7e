"""The AUM of a training that was already logged: the files of allenai/cartography.

Its training writes ``dynamics_epoch_0.jsonl``, ``dynamics_epoch_1.jsonl`` and so on, with a line for each sample:
``{"guid": 17, "logits_epoch_0": [0.3, -1.2], "gold": 1}``.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from aum_core.calculator import AUMCalculator
    from aum_core.ids import SampleId

__all__ = ["accumulate_dynamics"]

_NAME = re.compile(r"dynamics_epoch_(\d+)\.jsonl")
_LINES = 1024

_Line = tuple[int, "SampleId", list[float], int]


def accumulate_dynamics(
    folder: str | os.PathLike[str], calculator: AUMCalculator, *, dtype: Literal["float32", "float64"] = "float32"
) -> None:
    """Measure the training dynamics in a folder, epoch after epoch, line after line.

    Parameters
    ----------
    folder : str or path
        With the files ``dynamics_epoch_N.jsonl``: cartography's ``training_dynamics``.
    calculator : AUMCalculator
        Of any framework; a guid is a sample id.
    dtype : {"float32", "float64"}, default "float32"
        What the logits were before they were written. Margins are subtracted in it, so that they are those that the
        training itself would have measured.

    Raises
    ------
    ValueError
        Where there are no such files, or a line does not fit; it names the file and the line. Lines before it, in
        blocks of 1,024, are measured by then.

    References
    ----------
    Swayamdipta et al. 2020, "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics", arXiv
    2009.10795.

    Examples
    --------
    >>> import tempfile
    >>> from aum_core import AUMCalculator
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "dynamics_epoch_0.jsonl").write_text('{"guid": "a", "logits_epoch_0": [2.0, 0.5], "gold": 0}')
    >>> calculator = AUMCalculator(folder)
    >>> accumulate_dynamics(folder, calculator)
    >>> calculator.totals.aums
    array([1.5])
    """
    for epoch, path in _epochs(Path(folder)):
        with open(path, "rb") as file:  # so that text that is no UTF-8 is found where its line is parsed
            lines = _parsed(file, path, f"logits_epoch_{epoch}")
            while block := list(islice(lines, _LINES)):
                _accumulate(block, path, calculator, dtype)
        calculator.end_epoch()


def _epochs(folder: Path) -> list[tuple[int, Path]]:
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    epochs = sorted((int(match[1]), path) for match, path in found if match)
    if not epochs:
        raise ValueError(f"{folder}: no dynamics_epoch_N.jsonl in it, want cartography's folder training_dynamics")
    return epochs


def _parsed(file: Any, path: Path, logits_key: str) -> Iterator[_Line]:
    num_classes = None
    for number, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            sample_id, logits, target = _values(json.loads(text), logits_key)
            if num_classes not in (None, len(logits)):
                raise ValueError(f"{len(logits)} logits, and {num_classes} in the lines before")
        except ValueError as error:  # json's own among them
            raise ValueError(f"{path}, line {number}: {error}") from None
        num_classes = len(logits)
        yield number, sample_id, logits, target


def _values(line: Any, logits_key: str) -> tuple[SampleId, list[float], int]:
    if not isinstance(line, dict) or not {"guid", logits_key, "gold"} <= set(line):
        told = sorted(line) if isinstance(line, dict) else type(line).__name__
        raise ValueError(f"found {told}, want guid, {logits_key} and gold")
    sample_id, logits, target = line["guid"], line[logits_key], line["gold"]
    if type(sample_id) not in (int, str):
        raise ValueError(f"guid {sample_id!r}, want an int or a str")
    if type(target) is not int:
        raise ValueError(f"gold {target!r}, want a class index")
    if not isinstance(logits, list) or len(logits) < 2 or not all(type(each) in (int, float) for each in logits):
        raise ValueError(f"{logits_key} {logits!r}, want a list of numbers, one for each of at least two classes")
    if not 0 <= target < len(logits):
        raise ValueError(f"gold {target}, want a class in [0, {len(logits)})")
    return sample_id, logits, target


def _accumulate(block: list[_Line], path: Path, calculator: AUMCalculator, dtype: str) -> None:
    numbers, sample_ids, logits, targets = map(list, zip(*block, strict=True))
    try:
        with np.errstate(over="ignore"):  # to infinity: what becomes of that, the calculator decides, and says
            values = np.array(logits, dtype)
        calculator.accumulate(values, np.array(targets), sample_ids)
    except (ValueError, OverflowError) as error:  # the latter of an int that no float holds
        raise ValueError(f"{path}, lines {numbers[0]} to {numbers[-1]}: {error}") from error
