"""What the engine asks of a framework: its arrays as NumPy's, and the margins of a batch of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aum_core.margins import Margins, compute_margins, widened

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Backend", "NumpyBackend"]


class Backend(Protocol):
    """A framework, as the engine sees it."""

    name: str

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Give `array`, of shape (B,) or (B, C), on the host, without a copy where that can be."""
        ...

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch; the logits stay where they are, (B,) vectors come to the host.

        Parameters
        ----------
        logits, targets : array of shape (B, C), floats, and array of shape (B,) or (B, 1), ints
            See `compute_margins`.
        other_logit : bool, default True
            False says that nobody will look at `Margins.other_logit`.

        Raises
        ------
        TypeError, ValueError
            Where they do not fit: those of `compute_margins`. `TargetError` tells the row of a target that is no class.
        """
        ...

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give `logits` (B, C), whose margins have been measured, on the host, half types widened to float32."""
        ...


class NumpyBackend:
    """The backend of NumPy arrays, and of whatever ``np.asarray`` takes.

    Examples
    --------
    >>> NumpyBackend().measure([[1.0, 4.0]], [1]).margin
    array([3.])
    """

    name = "numpy"

    def to_numpy(self, array: Any) -> NDArray[Any]:
        """Give `array` as a NumPy array; see `Backend.to_numpy`."""
        return np.asarray(array)

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch; see `Backend.measure`."""
        return compute_margins(logits, targets, other_logit=other_logit)

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give the logits of a batch; see `Backend.logits`."""
        return widened(logits)
