"""Labels flipped on purpose, and how many of them a search finds: what to expect of it on somebody's own data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.dataset import class_labels
from aum_core.detection.evaluation import measure_detection
from aum_core.detection.findings import Findings
from aum_core.ids import by_row
from aum_core.noise.flips import flip_uniform
from aum_core.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aum_core.detection.evaluation import Detection

__all__ = ["self_check"]


def self_check(
    find: Callable[[NDArray[np.int64]], Any],
    targets: Any,
    num_classes: int,
    *,
    noise_rate: float = 0.1,
    budget: int | None = None,
    seed: int = 0,
    flip: Callable[[Any, int, float, int], tuple[NDArray[np.int64], NDArray[np.bool_]]] = flip_uniform,
) -> Detection:
    """Flip some of the labels, search, and tell how many of those were found: what to expect on this data.

    Labels that were wrong already count as mistakes where they are found, so that the precision is a lower bound. Flips
    made by chance are easier to find than the errors of people.

    Parameters
    ----------
    find : callable
        Trains on the noisy targets (N,), in whatever framework, and gives one of three: the `Totals` of the training,
        whose sample ids are row numbers; AUMs (N,) by row; or the `Findings` of `find_mislabeled` or
        `find_by_posterior`.
    targets : array_like of shape (N,), ints in [0, C)
        The given labels, left untouched.
    num_classes : int
        C.
    noise_rate : float
        Share of the labels to flip.
    budget : int, optional
        How many labels would be reviewed; as many as are flipped by default.
    seed : int
        Of the flips.
    flip : callable
        `flip_uniform`, `flip_pairs`, or another with ``flip(targets, num_classes, noise_rate, seed)``.

    Returns
    -------
    Detection
        With precision and recall where `find` gave `Findings`.

    Raises
    ------
    TypeError, ValueError
        Where an argument does not fit, before anything is trained; where what `find` gave does not.

    Examples
    --------
    >>> truth = np.arange(1000) % 4
    >>> def find(noisy):
    ...     return np.where(noisy == truth, 1.0, -1.0)  # a perfect one
    >>> self_check(find, truth, num_classes=4).average_precision
    1.0
    """
    labels = class_labels(targets, num_classes)
    noisy, flipped = flip(labels, num_classes, noise_rate, seed)
    measure_detection(np.zeros(len(labels)), flipped, budget=budget)  # what does not fit shows now, not after training
    found = find(noisy)
    if isinstance(found, Findings):
        return measure_detection(found.scores, flipped, flagged=found.flagged, budget=budget)
    if isinstance(found, Totals):
        found = by_row(found.sample_ids, found.aums, len(labels), "find: it")
    return measure_detection(found, flipped, budget=budget)
