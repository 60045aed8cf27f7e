"""Training in mini-batches: each is measured, and only then learnt."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import config_context
from sklearn.utils import check_array

from aum.sklearn.classifier_logits import logits
from aum.sklearn.inputs import as_labels, check_lengths, check_positive, indexable, known_classes, positions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aum_core import AUMCalculator

__all__ = ["Augment", "fit", "partial_fit"]

Augment = Callable[[Any, np.random.Generator], Any]
"""Gives what to measure and learn in place of the rows X (B, F)."""


def partial_fit(
    estimator: Any, X: Any, y: Any, calculator: AUMCalculator, sample_ids: Any, *, classes: Any = None
) -> Any:
    """Measure a batch, then let the classifier learn it: for those who have a training loop of their own.

    scikit-learn's classifiers cannot score anything before their first ``partial_fit``, so the first batch of an
    unfitted one is learnt without being measured. Its samples are measured when they come again.

    Parameters
    ----------
    estimator : classifier
        With ``partial_fit`` and either ``decision_function`` or ``predict_proba``.
    X : array_like or sparse matrix of shape (B, F), floats
    y : array_like of shape (B,)
        Labels as the classifier knows them (``estimator.classes_``): ints, strs, anything that sorts.
    calculator : AUMCalculator
    sample_ids : list or array of shape (B,)
        Ints or strs.
    classes : array_like of shape (C,), ints or strs, as `y`, optional
        All labels there will ever be; wanted with the first batch of an unfitted classifier.

    Returns
    -------
    estimator

    Raises
    ------
    TypeError, ValueError
        Where the input does not fit; the classifier has then learnt nothing of the batch, and the calculator is as
        before the call.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from aum.sklearn import AUMCalculator
    >>> calculator, classifier = AUMCalculator(tempfile.mkdtemp()), GaussianNB()
    >>> X, y = [[0.0], [0.1], [1.0], [1.1]], ["low", "low", "high", "high"]
    >>> for epoch in range(2):
    ...     classifier = partial_fit(classifier, X, y, calculator, sample_ids=[0, 1, 2, 3], classes=["high", "low"])
    >>> calculator.totals.counts
    array([1, 1, 1, 1])
    """
    labels = as_labels(y)
    check_lengths(X, labels, sample_ids)
    known = known_classes(estimator, classes)
    return _learn(estimator, X, positions(known, labels, sample_ids), sample_ids, classes=known, calculator=calculator)


def fit(
    estimator: Any,
    X: Any,
    y: Any,
    calculator: AUMCalculator,
    *,
    classes: Any = None,
    epochs: int = 20,
    batch_size: int = 32,
    seed: int = 0,
    sample_ids: Any = None,
    augment: Augment | None = None,
    on_epoch: Callable[[int], object] | None = None,
) -> Any:
    """Train a classifier in mini-batches, measuring each batch before it is learnt.

    Every epoch goes through all rows once, in a fresh random order, in batches as equal as can be and no larger than
    `batch_size`: the remainder of a division would be a batch of a few rows, and its step as large as any other.

    The first batch of an unfitted classifier cannot be measured (see `partial_fit`): its samples have one measurement
    less than the others, and none where `epochs` is 1.

    Each epoch is told to the calculator as it ends, for the scores that are defined by epochs. The probabilities that
    such scores take are the softmax of `logits`: of a classifier that has only ``predict_proba`` they are its own.

    Parameters
    ----------
    estimator : classifier
        With ``partial_fit`` and either ``decision_function`` or ``predict_proba``. Trained further where it is fitted.
        For one gradient step per batch leave an `MLPClassifier`'s own ``batch_size`` at "auto".
    X : array_like or sparse matrix of shape (N, F), floats
        Without NaN. Of a data frame the values are used.
    y : array_like of shape (N,)
        Labels: ints, strs, anything that sorts.
    calculator : AUMCalculator
    classes : array_like of shape (C,), ints or strs, as `y`, optional
        All labels; those in `y` by default.
    epochs, batch_size : int, default 20 and 32
    seed : int, default 0
        Of the order of the rows, and of `augment`. The classifier's own is its ``random_state``.
    sample_ids : list or array of shape (N,), optional
        Ints or strs; row numbers by default.
    augment : callable ``augment(X, generator)``, optional
        Gives what to measure and learn in place of the rows X (B, F), such as ``X + noise``. What is different each
        time is hard to learn by heart, and learning by heart is what hides wrong labels.
    on_epoch : callable ``on_epoch(epoch)``, optional
        Called after each epoch with its number, from 1.

    Returns
    -------
    estimator

    Raises
    ------
    TypeError, ValueError
        Where the input does not fit, before anything is learnt.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import SGDClassifier
    >>> from aum.sklearn import AUMCalculator
    >>> X, y = load_digits(return_X_y=True)
    >>> calculator = AUMCalculator(tempfile.mkdtemp())
    >>> classifier = fit(SGDClassifier(random_state=0), X / 16, y, calculator, epochs=2)
    >>> len(calculator.totals), sorted(set(calculator.totals.counts.tolist()))
    (1797, [1, 2])
    """
    check_positive(epochs=epochs, batch_size=batch_size)
    X, labels = check_array(X, accept_sparse="csr"), as_labels(y)
    ids = indexable(np.arange(len(labels)) if sample_ids is None else sample_ids)
    check_lengths(X, labels, ids)
    known = known_classes(estimator, np.unique(labels) if classes is None else classes)
    targets = positions(known, labels, ids)
    generator = np.random.default_rng(seed)
    # X has been checked once; for each batch anew it would cost as much as learning it
    with _interruptible(), config_context(assume_finite=True, skip_parameter_validation=True):
        for epoch in range(1, epochs + 1):
            for rows in np.array_split(generator.permutation(len(labels)), -(-len(labels) // batch_size)):
                batch = X[rows] if augment is None else augment(X[rows], generator)
                _learn(estimator, batch, targets[rows], ids[rows], classes=known, calculator=calculator)
            calculator.end_epoch()
            if on_epoch is not None:
                on_epoch(epoch)
    return estimator


def _learn(
    estimator: Any,
    X: Any,
    targets: NDArray[np.int64],
    sample_ids: Any,
    *,
    classes: NDArray[Any],
    calculator: AUMCalculator,
) -> Any:
    """Measure a batch, whose targets are places among the classes, and let the classifier learn it."""
    if getattr(estimator, "classes_", None) is None:
        return estimator.partial_fit(X, classes[targets], classes=classes)
    calculator.accumulate(logits(estimator, X), targets, sample_ids)
    return estimator.partial_fit(X, classes[targets])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C stop the block: an `MLPClassifier` that is just learning makes a warning of it, and is to go on."""
    words = "Training interrupted by user"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=words)
        try:
            yield
        except UserWarning as warning:
            if not str(warning).startswith(words):
                raise
            raise KeyboardInterrupt from None
