"""Sample ids that are row numbers, and what was measured under them brought into the order of the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.sample_index import as_ids, id_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["by_row", "check_rows"]


def by_row(sample_ids: NDArray[Any], values: NDArray[np.float64], num_samples: int, what: str) -> NDArray[np.float64]:
    """Give values (M,) of samples by row of the data set, (N,); NaN where nothing was measured.

    Parameters
    ----------
    sample_ids : ndarray of shape (M,)
        Row numbers, all different, in any order.
    values : ndarray of shape (M,)
    num_samples : int
        N.
    what : str
        Who measured, for the error message.

    Raises
    ------
    ValueError
        Where nothing was measured at all, or a sample id is no row.

    Examples
    --------
    >>> by_row(np.array([2, 0]), np.array([1.5, -1.0]), 3, "the run")
    array([-1. ,  nan,  1.5])
    """
    if not len(sample_ids):
        raise ValueError(
            f"{what} measured nothing; call calculator.accumulate(logits, targets, sample_ids) at every training step"
        )
    check_rows(as_ids(sample_ids), num_samples)
    found = np.full(num_samples, np.nan)
    found[sample_ids] = values
    return found


def check_rows(ids: Any, num_samples: int) -> None:
    """Make an error of an id that is no row of the data set."""
    if isinstance(ids, np.ndarray) and (not len(ids) or (ids.min() >= 0 and ids.max() < num_samples)):
        return
    wrong = next(each for each in id_list(ids) if not (isinstance(each, int) and 0 <= each < num_samples))
    raise ValueError(
        f"sample_ids: {wrong!r} is no row of the data set, want row numbers in [0, {num_samples}), as "
        "DatasetWithIndex gives them"
    )
