"""What several processes tell each other before and while their totals become one.

First each tells a *header*, a few hundred bytes of JSON: what it has, what it was asked for, or what is wrong. All
read the same headers and come to the same verdict, so that an error is raised by all of them or by none: a process that
raised alone would leave the others waiting. Only then do arrays travel, of known lengths.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aum_core import AUMCalculator, Totals, __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = [
    "Forms",
    "Header",
    "check_headers",
    "forms_of",
    "make_header",
    "own_totals",
]

Header = dict[str, Any]
"""What a process tells of itself: ``"same"``, which all must have alike, and ``"error"`` where something is wrong."""

Forms = dict[str, tuple[str, int]]
"""Dtype and length of arrays by name, in the order in which they travel."""


def own_totals(measured: Any) -> tuple[Totals, dict[str, Any]]:
    """Totals of a calculator, or totals as they are, and the options that all processes must share.

    Raises
    ------
    TypeError
        Where it is neither.
    """
    if isinstance(measured, AUMCalculator):
        return measured.totals, dict(measured.describe()["options"])
    if isinstance(measured, Totals):
        return measured, {}
    raise TypeError(f"measured: {type(measured).__name__}, want a calculator or aum_core.Totals")


def make_header(
    prepare: Callable[[], tuple[Totals, dict[str, Any]]], asked: dict[str, Any]
) -> tuple[Totals, Header, Exception | None]:
    """Prepare the own totals, and make the header of them.

    Parameters
    ----------
    prepare : callable
        Gives the totals, and the options that all processes must share.
    asked : dict
        What else all must have alike: the call and its arguments.

    Returns
    -------
    totals : Totals
        Empty where something is wrong.
    header : dict
        What to tell the others.
    error : Exception or None
        What is wrong.
    """
    same = {"aum_version": __version__, **asked}
    try:
        totals, options = prepare()
    except (TypeError, ValueError, OSError) as error:
        return Totals(), {"same": same, "error": f"{type(error).__name__}: {error}"}, error
    header = {
        "same": {**same, **options},
        "samples": len(totals),
        "measurements": totals.measurements,
        "left_out": totals.left_out,
        "forms": forms_of(totals.to_arrays()),
    }
    return totals, json.loads(json.dumps(header)), None  # as the others read it


def check_headers(headers: Sequence[Header]) -> None:
    """Raise on all processes where something is wrong on one, or where they were asked for different things.

    Raises
    ------
    ValueError
    """
    wrong = {rank: header["error"] for rank, header in enumerate(headers) if "error" in header}
    if wrong:
        rank, message = next(iter(wrong.items()))
        more = f" (and on {len(wrong) - 1} others)" if len(wrong) > 1 else ""
        raise ValueError(f"on process {rank}{more}: {message}")
    for name in sorted({name for header in headers for name in header["same"]}):
        found = [header["same"].get(name) for header in headers]
        other = next((rank for rank, value in enumerate(found) if value != found[0]), None)
        if other is not None:
            raise ValueError(
                f"{name} is {found[0]} on process 0 and {found[other]} on process {other}, want the same on all"
            )


def forms_of(arrays: dict[str, NDArray[Any]]) -> Forms:
    """Dtype and length of each 1-D array, in the order in which they travel."""
    return {name: (array.dtype.str, len(array)) for name, array in arrays.items()}
