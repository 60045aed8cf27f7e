"""How many calls, in how many files, one `accumulate` makes, with what may be kept beside the totals.

The path of a batch as a reader would follow it. Calls are of Python functions of this project; what NumPy does within
is not counted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import aum_core

if TYPE_CHECKING:
    from types import FrameType

BATCH_SIZE, NUM_CLASSES = 256, 10
KEPT: dict[str, dict[str, Any]] = {
    "nothing else": {},
    "records": {"compressed": False},
    "one score": {"scores": ["confidence"]},
    "noise posterior": {"noise_posterior": True},
    "both": {"scores": ["confidence"], "noise_posterior": True},
}


def calls_of(kept: dict[str, Any]) -> list[str]:
    """The files of this project, one for each call of the second batch of an epoch, in their order."""
    generator = np.random.default_rng(0)
    calculator = aum_core.AUMCalculator(tempfile.mkdtemp(), **kept)
    batches = [
        (generator.normal(size=(BATCH_SIZE, NUM_CLASSES)).astype(np.float32), rows % NUM_CLASSES, rows)
        for rows in np.arange(2 * BATCH_SIZE).reshape(2, BATCH_SIZE)
    ]
    for batch in batches:  # of the first epoch: afterwards all samples are known
        calculator.accumulate(*batch)
    calculator.end_epoch()
    calculator.accumulate(*batches[0])
    engine, found = str(Path(aum_core.__file__).parent), []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(engine):
            found.append(Path(frame.f_code.co_filename).relative_to(engine).as_posix())

    sys.setprofile(note)
    calculator.accumulate(*batches[1])
    sys.setprofile(None)
    return found


def main() -> None:
    """Print a row for each."""
    print("| kept beside the totals | calls | files |\n|---|---:|---|")
    for name, kept in KEPT.items():
        files = calls_of(kept)
        print(f"| {name} | {len(files)} | {len(set(files))}: {', '.join(dict.fromkeys(files))} |")


if __name__ == "__main__":
    main()
