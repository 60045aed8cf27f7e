"""What the callback keeps on the host between epochs, and saves beside the run's files for a fit that resumes.

In come the sums of each epoch, out go totals by row. It knows nothing of models and of tensors.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core import AUMCalculator, Totals
from aum_core.files.arrays import load_arrays, save_arrays
from aum_core.sample_index import row_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from aum_core import EpochSums
    from aum_core.ids import SampleId

__all__ = ["Checkpoint"]

_KIND = "aum sums between epochs, version 1"
_SCHEMA = {"sums": ("float64", 1), "counts": ("int64", 1), "left_out": ("int64", 1)}
_PATTERN = "before_epoch*.npz"


class Checkpoint:
    """Sums and counts by row, those left out, and the epoch that comes next.

    It is saved after each epoch, and the last two stay: where training ends between that and the backup of the
    weights, which then is one epoch behind, it still finds its own.

    Parameters
    ----------
    num_samples : int
        N.
    sample_ids : sequence of N int or str, optional
        The names of the rows.
    calculator : AUMCalculator, optional
        Takes each epoch as a whole, where there are other scores to keep; it is saved too.
    """

    def __init__(
        self,
        num_samples: int,
        sample_ids: Sequence[SampleId] | NDArray[Any] | None,
        calculator: AUMCalculator | None = None,
    ) -> None:
        if num_samples < 1 or num_samples >= 2**31 - 2:
            raise ValueError(f"num_samples: {num_samples}, want at least 1 and less than 2**31 - 2")
        self._names = row_names(sample_ids, num_samples)
        self.calculator = calculator
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.sums = np.zeros(len(self._names))
        self.counts = np.zeros(len(self._names), np.int64)
        self.left_out = np.zeros(2, np.int64)  # by id or target, by margin
        self._next_epoch = 0

    def add(
        self,
        sums: NDArray[np.float64],
        counts: NDArray[np.int64],
        left_out: NDArray[np.int64],
        epoch: EpochSums | None = None,
    ) -> None:
        """Add what an epoch brought: sums and counts (N,), and the two numbers of those left out.

        `epoch` is for the calculator, where there is one; what it raises leaves the checkpoint as it was.
        """
        if self.calculator is not None and epoch is not None:
            self.calculator.add_epoch(epoch, self._names)
        self.sums += sums
        self.counts += counts
        self.left_out += left_out

    def totals(self) -> Totals:
        """Totals of the rows that were measured, in their order."""
        return Totals.from_rows(self.sums, self.counts, self._names, int(self.left_out.sum()))

    def resume(self, epoch: int, folder: Path | None) -> None:
        """Become what was there when `epoch` was about to begin, the first of a fit; warn where that is not known."""
        if epoch in (0, self._next_epoch):
            return
        found = [each for each in range(epoch + 1) if folder and _path(folder, each).exists()]
        if folder and found:
            self._load(folder, found[-1])
        if not found or found[-1] < epoch:
            since = found[-1] if found else self._next_epoch
            warnings.warn(
                f"save_dir: fit resumes at epoch {epoch}, and {folder or 'a calculator'} has no sums of "
                f"epochs {since} to {epoch - 1}: they do not count. To go on with a run, give its save_dir, "
                "and put this callback before the one that makes the backup.",
                RuntimeWarning,
                stacklevel=3,
            )

    def save(self, epoch: int, folder: Path | None) -> None:
        """Save what is there after `epoch`; without a folder only remember that it has ended."""
        self._next_epoch = epoch + 1
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if self.calculator is not None:  # first: where the sums are, the scores are too
            self.calculator.save(_scores_path(folder, epoch + 1))
        arrays = {"sums": self.sums, "counts": self.counts, "left_out": self.left_out}
        save_arrays(_path(folder, epoch + 1), _KIND, arrays)
        for old in folder.glob(_PATTERN):
            if old not in {path(folder, each) for path in (_path, _scores_path) for each in (epoch, epoch + 1)}:
                old.unlink()

    def _load(self, folder: Path, epoch: int) -> None:
        path = _path(folder, epoch)
        arrays = load_arrays(path, _KIND, _SCHEMA)
        if not len(arrays["sums"]) == len(arrays["counts"]) == len(self._names) or len(arrays["left_out"]) != 2:
            raise ValueError(
                f"{os.fspath(path)}: sums of {len(arrays['sums'])} samples, want num_samples={len(self._names)}; "
                "resume with the same data, or begin in another save_dir"
            )
        if self.calculator is not None:
            self.calculator = _loaded(self.calculator, _scores_path(folder, epoch))
        self.sums, self.counts, self.left_out = arrays["sums"], arrays["counts"], arrays["left_out"]


def _loaded(calculator: AUMCalculator, path: Path) -> AUMCalculator:
    """A calculator like this one, with the scores that were saved."""
    if not path.exists():
        raise ValueError(
            f"scores: {path} is not there, since the run was begun without them; resume without them too, or begin in "
            "another save_dir"
        )
    loaded = type(calculator).load(path, path.parent)
    found, wanted = _kept(loaded), _kept(calculator)
    if found != wanted:
        raise ValueError(f"{path}: it has {found}, want {wanted}; resume with the same, or begin in another save_dir")
    return loaded


def _kept(calculator: AUMCalculator) -> str:
    options = calculator.describe()["options"]
    return f"scores={options['scores']}, noise_posterior={bool(options['noise_posterior'])}"


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"before_epoch{epoch}.npz"


def _scores_path(folder: Path, epoch: int) -> Path:
    return folder / f"before_epoch{epoch}_scores.npz"
