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
        """Give `array` on the host, without a copy where that can be."""
        ...

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch; the logits stay where they are, (B,) vectors come to the host.

        Where `other_logit` is False, nobody will look at that column.
        """
        ...

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give the logits (B, C) of a batch whose margins have been measured on the host, half types widened."""
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
        """Give `array` as a NumPy array."""
        return np.asarray(array)

    def measure(self, logits: Any, targets: Any, *, other_logit: bool = True) -> Margins:
        """Compute the margins of a batch."""
        return compute_margins(logits, targets, other_logit=other_logit)

    def logits(self, logits: Any) -> NDArray[Any]:
        """Give the logits of a batch, half types widened."""
        return widened(logits)
