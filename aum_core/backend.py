"""What the engine asks of a framework: its arrays as NumPy's, and the margins and probabilities of a batch of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aum_core.margins import Margins, compute_margins
from aum_core.softmax import softmax

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

    def softmax(self, logits: Any) -> NDArray[Any]:
        """Compute the softmax (B, C) of a batch whose margins have been measured, and give it on the host."""
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

    def softmax(self, logits: Any) -> NDArray[Any]:
        """Compute the softmax of a batch."""
        return softmax(logits)
