"""Confident learning: how many labels of each class are wrong, from what a network believes of each sample.

Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", arXiv 1911.00068.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum_core.softmax import softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["MeanProbabilities", "confident_joint", "count_prunable", "expected_wrong"]

_FLOATS_PER_BLOCK = 2**20
_TOO_FEW_TO_PRUNE = 5  # labels of a class: of so few none is pruned; chosen by hand


class MeanProbabilities:
    """What the network believes of each sample: probabilities of the classes, in float64 and in blocks of rows.

    Parameters
    ----------
    sums : ndarray of shape (N, C), floats
        Softmax or logits added up by sample.
    counts : ndarray of shape (N,), int64
        How many were added; rows of 0 are passed over, and so are those whose largest sum is no number.
    labels : ndarray of shape (N,), int64
        The given labels.
    of_logits : bool
        Whether the sums are of logits: then the softmax is taken of their means.
    """

    def __init__(
        self, sums: NDArray[Any], counts: NDArray[np.int64], labels: NDArray[np.int64], *, of_logits: bool = False
    ) -> None:
        self._sums, self._counts, self._labels, self._of_logits = sums, counts, labels, of_logits
        self.num_classes = sums.shape[1]
        # the logit of a masked class may be minus infinity; what has no largest logit says nothing
        self.measured = np.flatnonzero((counts > 0) & np.isfinite(sums.max(axis=1)))
        self.label_counts = np.bincount(labels[self.measured], minlength=self.num_classes)
        """Samples by given label, (C,)."""
        if not len(self.measured):
            raise ValueError("noise_posterior: no sample was measured")

    @property
    def num_rows(self) -> int:
        """Number of rows, those not measured among them."""
        return len(self._labels)

    def at(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """The probabilities (B, C) of some rows."""
        means: NDArray[np.float64] = self._sums[rows].astype(np.float64)
        means /= self._counts[rows, None]
        return softmax(means) if self._of_logits else means

    def blocks(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]]:
        """Rows (B,), their probabilities (B, C) and their labels (B,), until all measured rows have been given."""
        size = max(1, _FLOATS_PER_BLOCK // self.num_classes)
        for start in range(0, len(self.measured), size):
            rows = self.measured[start : start + size]
            yield rows, self.at(rows), self._labels[rows]

    def of_label(self, label: int) -> NDArray[np.float64]:
        """The probabilities (B, C) of all samples with a given label."""
        return self.at(self.measured[self._labels[self.measured] == label])


def confident_joint(averages: MeanProbabilities) -> NDArray[np.float64]:
    """Estimate ``J[i, j]``, the share of the samples with true class i and given label j (Northcutt et al. 2021, 3.1).

    A sample counts for the class it is believed in most, of those in which it is believed at least as much as that
    class's own samples are on average; the counts of each given label are then scaled to add up to its samples.
    """
    num_classes, given = averages.num_classes, averages.label_counts
    own = np.zeros(num_classes)
    for _, means, labels in averages.blocks():
        own += np.bincount(labels, means[np.arange(len(labels)), labels], num_classes)
    enough = np.divide(own, given, out=np.ones(num_classes), where=given > 0) - 1e-6
    counts = np.zeros((num_classes, num_classes))  # [given, true]
    for _, means, labels in averages.blocks():
        confident = np.where(means >= enough, means, -1.0)
        classes = confident.argmax(axis=1)
        counted = confident[np.arange(len(labels)), classes] >= 0
        np.add.at(counts, (labels[counted], classes[counted]), 1)
    diagonal = np.einsum("ii->i", counts)
    diagonal[diagonal == 0] = 1
    counts *= (given / counts.sum(axis=1))[:, None]
    joint: NDArray[np.float64] = (counts / counts.sum()).T
    return joint


def expected_wrong(joint: NDArray[np.float64], averages: MeanProbabilities) -> float:
    """How many labels are wrong by the joint."""
    return len(averages.measured) * (1 - float(np.trace(joint)))


def count_prunable(averages: MeanProbabilities) -> int:
    """Count what pruning by noise rate would remove (Northcutt et al. 2021, 3.2).

    For each given label j and other class i, as many as the joint expects are pruned: those for which the belief in i
    exceeds that in j the most.
    """
    expected = np.round(confident_joint(averages) * len(averages.measured)).astype(np.int64)
    pruned = 0
    for label, size in enumerate(averages.label_counts.tolist()):
        if size <= _TOO_FEW_TO_PRUNE:
            continue
        means = averages.of_label(label)
        chosen = np.zeros(size, np.bool_)
        for other in np.flatnonzero(expected[:, label]).tolist():
            if other != label:
                excess = means[:, other] - means[:, label]
                chosen[np.argsort(-excess, kind="stable")[: min(expected[other, label], size - 1)]] = True
        pruned += int(chosen.sum())
    return pruned
