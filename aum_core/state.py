"""A calculator's state in arrays of numbers: for a file without pickle, or the checkpoint of a framework.

The arrays of each part (totals, records, scores) bear its name before their own; the options stand beside them.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from aum_core.files.arrays import load_arrays, save_arrays

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from aum_core.measurements import Measurements
    from aum_core.posterior.averaging_window import KeepPosterior

__all__ = ["KIND", "Arrays", "Checkpointed", "pack", "parts_of", "unpack_options"]

KIND = "aum calculator, version 2"
"""The mark of a file."""

Arrays = dict[str, "NDArray[Any]"]
"""One-dimensional arrays of numbers by name."""

_ALWAYS, _OF_SCORES = {"save_dir", "compressed", "nonfinite"}, {"scores", "noise_posterior"}


def pack(options: Mapping[str, Any], parts: Mapping[str, Arrays]) -> Arrays:
    """Bring options and parts into one mapping of arrays.

    Examples
    --------
    >>> sorted(pack({}, {"totals": {"sums": np.zeros(3)}}))
    ['options', 'totals.sums']
    """
    arrays = {f"{part}.{name}": array for part, each in parts.items() for name, array in each.items()}
    return {"options": np.frombuffer(json.dumps(options).encode(), np.uint8), **arrays}


def unpack_options(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Give the options of the calculator that gave these arrays.

    Raises
    ------
    ValueError
        Where they are not those of a calculator.
    """
    options = json.loads(arrays.get("options", np.empty(0)).tobytes())
    if not isinstance(options, dict) or set(options) - _OF_SCORES != _ALWAYS:
        raise ValueError(f"options are {options}")
    return options


def parts_of(arrays: Mapping[str, NDArray[Any]], wanted: Collection[str], options: object) -> dict[str, Arrays]:
    """Give the arrays of each part, as those who have these options want them, under their own names.

    Raises
    ------
    ValueError
        Where the parts are others than those wanted.
    """
    parts: dict[str, Arrays] = {}
    for name, array in arrays.items():
        part, _, own = name.partition(".")
        parts.setdefault(part, {})[own] = array
    parts.pop("options", None)
    parts.pop("rank", None)  # of a job of several: its adapter has looked at it
    if set(parts) != set(wanted):
        raise ValueError(f"it has {sorted(parts)}, want {sorted(wanted)}: the options are {options}")
    return parts


class Checkpointed:
    """What a calculator has to be saved and loaded again: the part of `AUMCalculator` that knows its options."""

    save_dir: str | os.PathLike[str]
    compressed: bool
    _noise_posterior: KeepPosterior
    _measured: Measurements

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the state to `path`, an ``.npz`` file without pickle, whole or not at all.

        Of a log on disk the file names the parts that belong to it; what was still in memory becomes one first.

        Examples
        --------
        >>> import tempfile
        >>> from aum_core import AUMCalculator
        >>> folder = tempfile.mkdtemp()
        >>> calculator = AUMCalculator(folder)
        >>> calculator.accumulate([[2.0, 0.5]], [0], ["cat.png"])
        >>> calculator.save(folder + "/aum.npz")
        >>> AUMCalculator.load(folder + "/aum.npz").counts["cat.png"]
        1
        """
        save_arrays(path, KIND, self._to_arrays())

    @classmethod
    def load(cls, path: str | os.PathLike[str], save_dir: str | os.PathLike[str] | None = None, **options: Any) -> Self:
        """Load what `save` saved: a calculator that goes on to the same bits.

        Parts of a log on disk that were written after `save` are not of this calculator: they are set aside.

        Parameters
        ----------
        path : str or path
        save_dir : str or path, optional
            Folder of the files, where it has another name by now.
        **options
            Those that a file does not hold, such as `backend`.

        Raises
        ------
        ValueError
            Where the file is truncated, foreign, or contradicts itself or the parts on disk.
        """
        arrays = load_arrays(path, KIND)
        try:
            saved = unpack_options(arrays) | options
            saved["save_dir"] = save_dir or saved["save_dir"]
            calculator = cls(**saved)
            calculator._take_arrays(arrays)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: cannot be taken up: {error}") from error
        return calculator

    def _to_arrays(self) -> Arrays:
        """The state in one-dimensional arrays."""
        return pack({"save_dir": os.fspath(self.save_dir), **self._options()}, self._measured.to_arrays())

    def _take_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become the calculator that gave these arrays; a ValueError changes nothing."""
        self._measured.take_arrays(parts_of(arrays, self._measured.parts, self._options()))

    def _options(self) -> dict[str, Any]:
        options = {"compressed": self.compressed, "nonfinite": self._measured.nonfinite}
        if self._measured.scores is None:
            return options
        return {**options, "scores": list(self._measured.scores.names), "noise_posterior": self._noise_posterior}
