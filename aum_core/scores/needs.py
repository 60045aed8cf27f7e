"""What of each measurement is added up over an epoch beside its margin, and the formulas: the same in every framework.

Who adds up, on the host or on a device inside a compiled step, is told by a frozen `Needs`: what nobody asked for
has no array and no part in the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aum_core.margins import Margins

__all__ = ["Needs", "columns"]

_OF_SOFTMAX = frozenset({"confidence", "error_norm"})


@dataclass(frozen=True, slots=True)
class Needs:
    """What an epoch is to bring beside the sum of each sample's margins.

    Attributes
    ----------
    columns : tuple of str
        Sums of shape (N,): some of "correct", "confidence" and "error_norm", see `columns`.
    softmax, logits : bool
        Whether the softmax and the logits of all classes are added up too, (N, C) each.

    Examples
    --------
    >>> Needs(("confidence",)).uses_softmax
    True
    """

    columns: tuple[str, ...] = ()
    softmax: bool = False
    logits: bool = False

    def __bool__(self) -> bool:
        return bool(self.columns or self.has_matrices)

    @property
    def uses_softmax(self) -> bool:
        """Whether the softmax of a batch is to be computed at all."""
        return self.softmax or not _OF_SOFTMAX.isdisjoint(self.columns)

    @property
    def uses_logits(self) -> bool:
        """Whether the logits of a batch are looked at, for themselves or for their softmax."""
        return self.logits or self.uses_softmax

    @property
    def uses_other_logit(self) -> bool:
        """Whether the runner-up class of a batch is looked at."""
        return "correct" in self.columns

    @property
    def has_matrices(self) -> bool:
        """Whether something is added up of all classes, so that C must be known."""
        return self.softmax or self.logits


def columns(xp: Any, names: Iterable[str], margins: Margins, softmax: Any = None) -> dict[str, Any]:
    """Give columns (B,) of a batch by name.

    ==========  ==================================================================================================
    correct     whether the label has the largest logit, bool; of tied logits the lowest class is the answer
    confidence  the softmax of the label
    error_norm  how far the softmax is from the one-hot label, as a 2-norm (EL2N: Paul et al. 2021, arXiv 2107.07075)
    ==========  ==================================================================================================

    Parameters
    ----------
    xp : module
        Of the arrays: numpy, jax.numpy, keras.ops or what else has ``where``, ``sum``, ``sqrt``, ``arange`` and
        ``take_along_axis``.
    names : iterable of str
    margins : Margins
        Of the batch, in arrays of that framework; with `Margins.other_logit` where "correct" is asked for.
    softmax : array of shape (B, C), floats, optional
        Wanted for confidence and error_norm.

    Returns
    -------
    dict of str to array of shape (B,), floats or bools

    Raises
    ------
    ValueError
        For an unknown name.

    Examples
    --------
    >>> import numpy as np
    >>> from aum_core import compute_margins
    >>> margins = compute_margins([[2.0, 0.5], [1.0, 3.0]], [0, 0])
    >>> columns(np, ["correct"], margins)["correct"]
    array([ True, False])
    """
    return {name: _column(xp, name, margins, softmax) for name in names}


def _column(xp: Any, name: str, margins: Margins, softmax: Any) -> Any:
    targets = margins.target_logit
    if name == "correct":
        return (margins.margin > 0) | ((margins.margin == 0) & (targets < margins.other_logit))
    if name not in _OF_SOFTMAX:
        raise ValueError(f"names: {name!r}, want 'correct', 'confidence' or 'error_norm'")
    own = xp.take_along_axis(softmax, targets[:, None], axis=1)
    if name == "confidence":
        return own[:, 0]
    others = xp.where(xp.arange(softmax.shape[1]) == targets[:, None], xp.zeros_like(own), softmax)
    return xp.sqrt(xp.sum(others * others, axis=1) + (1 - own[:, 0]) ** 2)
