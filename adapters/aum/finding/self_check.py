"""How many labels that are known to be wrong were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score  # noqa: TID251 # the command knows scikit-learn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aum_core import Findings

__all__ = ["self_check"]


def self_check(findings: Findings, flipped: NDArray[np.bool_]) -> dict[str, Any]:
    """Compare findings with the labels that were flipped.

    Parameters
    ----------
    findings : Findings
    flipped : ndarray of shape (N,), bool
        Neither all False nor all True.

    Returns
    -------
    dict
        ``flipped`` (how many), ``auroc`` and ``average_precision`` of the ranking by AUM, in which a sample without an
        AUM is the least suspicious; ``precision`` and ``recall`` of the flagged samples. The precision is None where
        nothing is flagged.
    """
    suspicion = -findings.aums
    unjudged = np.isnan(suspicion)
    suspicion[unjudged] = np.min(suspicion[~unjudged]) - 1.0
    found = int((findings.flagged & flipped).sum())
    flagged = int(findings.flagged.sum())
    return {
        "flipped": int(flipped.sum()),
        "auroc": float(roc_auc_score(flipped, suspicion)),
        "average_precision": float(average_precision_score(flipped, suspicion)),
        "precision": found / flagged if flagged else None,
        "recall": found / int(flipped.sum()),
    }
