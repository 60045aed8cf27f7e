"""A calculator's state in arrays of numbers: for a file without pickle, or the checkpoint of a framework.

The arrays of each part (totals, records, scores) bear its name before their own; the options stand beside them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

__all__ = ["KIND", "Arrays", "pack", "parts_of", "unpack_options"]

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
