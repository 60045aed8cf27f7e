"""The scores of a classifier as logits: whatever of its answers has the right differences, one column per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aum.sklearn.inputs import name_of, num_classes_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["logits"]


def logits(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Scores of a fitted classifier whose differences are margins, one column per class of ``estimator.classes_``.

    They are, in this order: ``decision_function`` where there is one; the joint log-probabilities of naive Bayes; the
    logarithm of ``predict_proba``, which differs from the logits before a softmax by a constant per row, so that
    margins are the same.

    Parameters
    ----------
    estimator : classifier
        Fitted, or partly.
    X : array_like or sparse matrix of shape (B, F), floats

    Returns
    -------
    ndarray of shape (B, C), float64
        A binary ``decision_function`` z is the two columns [0, z]. Finite wherever the classifier's answers are no
        NaN: a probability of zero counts as the smallest that the arithmetic can tell from zero.

    Raises
    ------
    TypeError
        Where the classifier has no scores.
    ValueError
        Where it is not fitted, or its scores are not one per class, as those of one-vs-one classifiers.

    Examples
    --------
    >>> from sklearn.linear_model import SGDClassifier
    >>> classifier = SGDClassifier(random_state=0).partial_fit([[-1.0], [1.0]], ["cat", "dog"], classes=["cat", "dog"])
    >>> scores = logits(classifier, [[-1.0], [1.0]])
    >>> scores.shape, scores.argmax(axis=1).tolist()
    ((2, 2), [0, 1])
    """
    num_classes = num_classes_of(estimator)
    if hasattr(estimator, "decision_function"):
        # of three classes there are three pairs, so the shape alone would not give one-vs-one away
        if num_classes > 2 and getattr(estimator, "decision_function_shape", None) == "ovo":
            raise ValueError(
                f"estimator: {name_of(estimator)} scores pairs of classes (one-vs-one), want one score per class; "
                "decision_function_shape='ovr' gives that"
            )
        return _per_class(estimator, estimator.decision_function(X), num_classes, "decision_function")
    if hasattr(estimator, "predict_joint_log_proba"):
        with np.errstate(divide="ignore"):  # a class without samples so far has the prior 0
            joint = _per_class(estimator, estimator.predict_joint_log_proba(X), num_classes, "predict_joint_log_proba")
        floor = joint.max(axis=1, keepdims=True) + np.log(np.finfo(np.float64).tiny)
        return np.where(np.isneginf(joint), floor, joint)
    if hasattr(estimator, "predict_proba"):
        return _log(_per_class(estimator, estimator.predict_proba(X), num_classes, "predict_proba"))
    raise TypeError(f"estimator: {name_of(estimator)} has neither decision_function nor predict_proba")


def _per_class(estimator: Any, answer: Any, num_classes: int, method: str) -> NDArray[Any]:
    """Check that scores are one per class; of a binary classifier's single score make the two columns [0, z]."""
    scores: NDArray[Any] = np.asarray(answer)
    if num_classes == 2 and scores.shape in ((len(scores),), (len(scores), 1)):
        z = scores.reshape(-1)
        scores = np.stack([np.zeros_like(z), z], axis=1)
    if scores.ndim != 2 or scores.shape[1] != num_classes or num_classes < 2:
        raise ValueError(
            f"estimator: {method} of {name_of(estimator)} has shape {scores.shape}, want (B, {num_classes}): one score "
            "for each of two or more classes_"
        )
    return scores if method == "predict_proba" else scores.astype(np.float64, copy=False)


def _log(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Take the logarithm of (B, C) probabilities, finite where they are zero."""
    limits = np.finfo(probabilities.dtype)
    # Two columns are often p and 1 - p, and 1 - p cannot tell apart what is below eps, while p itself goes down to
    # tiny: with one floor for both, a sure "no" would count twenty times as much as an equally sure "yes".
    floor = limits.eps if probabilities.shape[1] == 2 else limits.tiny
    # NaN passes, for the calculator to see
    scores: NDArray[np.float64] = np.log(np.maximum(probabilities, floor), dtype=np.float64)
    return scores
