"""A checked batch, and those who look at it: the two steps in which everything beside the totals is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aum_core.softmax import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core.ids import Ids
    from aum_core.margins import Margins

__all__ = ["Batch", "Observer"]


class Batch:
    """Measurements (B,) that all count.

    Parameters
    ----------
    ids : ndarray of shape (B,), int64, or list of int and str
        In the form of `aum_core.ids.as_ids`.
    margins : Margins of shape (B,)
    logits : ndarray of shape (B, C), float32 or float64, optional
        On the host, half types widened; where an observer needs them.
    """

    __slots__ = ("_softmax", "ids", "logits", "margins", "rows")

    def __init__(self, ids: Ids, margins: Margins, logits: NDArray[Any] | None = None) -> None:
        self.ids, self.margins, self.logits = ids, margins, logits
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)
        """Of the samples in the totals, (B,), found once for all; -1 for new ones while the batch is checked."""
        self._softmax: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.margins)

    def softmax(self) -> NDArray[Any]:
        """Give the softmax of the logits (B, C), computed once for all who ask."""
        if self._softmax is None:
            assert self.logits is not None  # noqa: S101 # for the type checker: an observer that needs them has them
            self._softmax = softmax(self.logits)
        return self._softmax


class Observer(Protocol):
    """Sees every batch of a calculator in two steps: a chance to refuse it, and what can no longer fail."""

    @property
    def needs_other_logit(self) -> bool:
        """Whether `Margins.other_logit` will be looked at; wide logits take twice as long for it."""
        ...

    @property
    def needs_logits(self) -> bool:
        """Whether the logits of the next batch will be looked at; off a device they have to travel."""
        ...

    def check(self, batch: Batch) -> None:
        """Raise what is wrong with `batch`. Nothing changes here, in the observer or elsewhere."""
        ...

    def take(self, batch: Batch) -> None:
        """Take in `batch`, which every observer has found right, and which the totals have."""
        ...
