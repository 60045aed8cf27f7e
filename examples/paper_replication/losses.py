"""Losses of single samples: cross-entropy, and the two that mix in what the network believes.

Reed et al. 2014, "Training deep neural networks on noisy labels with bootstrapping", arXiv 1412.6596, section 3. All
take logits (B, C) and targets (B,), and give (B,).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.functional import cross_entropy, log_softmax

if TYPE_CHECKING:
    import torch

__all__ = ["LOSSES", "reed_hard", "reed_soft"]


def plain(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """``-log q_y``, where q is the softmax of the logits."""
    return cross_entropy(logits, targets, reduction="none")


def reed_soft(logits: torch.Tensor, targets: torch.Tensor, beta: float = 0.95) -> torch.Tensor:
    """``-sum_k (beta t_k + (1 - beta) q_k) log q_k``: the target t is one part label and one part belief.

    The same as ``beta`` times the cross-entropy *plus* ``1 - beta`` times the entropy of q.
    """
    log_q = log_softmax(logits, dim=1)
    entropy = -(log_q.exp() * log_q).sum(dim=1)
    return beta * plain(logits, targets) + (1 - beta) * entropy


def reed_hard(logits: torch.Tensor, targets: torch.Tensor, beta: float = 0.8) -> torch.Tensor:
    """``-sum_k (beta t_k + (1 - beta) z_k) log q_k``, where z is one for the class believed in most, else zero."""
    return beta * plain(logits, targets) - (1 - beta) * log_softmax(logits, dim=1).amax(dim=1)


LOSSES = {"cross-entropy": plain, "reed-soft": reed_soft, "reed-hard": reed_hard}
