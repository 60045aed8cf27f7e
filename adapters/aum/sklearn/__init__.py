"""AUM for scikit-learn: any classifier with `partial_fit` and scores, measured before it learns each batch.

scikit-learn has no training loop to hook into, so this module is one: `fit` goes through the data in mini-batches,
asks the classifier for its scores, hands them to the calculator, and only then lets it learn.
"""

# ruff: noqa: N803, N806 # scikit-learn calls its features X, and so do its users

from __future__ import annotations

import warnings
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

import aum_core
from aum_core import AUMCalculator, AUMRecord, Findings, ThresholdPlan, Totals

try:
    from sklearn import config_context  # noqa: TID251 # the adapter of it
    from sklearn.base import clone  # noqa: TID251 # as above
    from sklearn.utils import check_array  # noqa: TID251 # as above
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise ModuleNotFoundError("aum.sklearn needs scikit-learn: pip install 'aum[sklearn]'", name="sklearn") from error

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from aum_core.detection.cutoffs import Cutoff
    from aum_core.detection.threshold_samples import Combine
    from aum_core.ids import SampleId

__all__ = [
    "AUMCalculator",
    "AUMRecord",
    "Findings",
    "ThresholdPlan",
    "Totals",
    "find_by_posterior",
    "find_mislabeled",
    "fit",
    "logits",
    "partial_fit",
]


def logits(estimator: Any, X: Any) -> NDArray[np.float64]:
    """Scores of a fitted classifier whose differences are margins, one column per class of ``estimator.classes_``.

    They are, in this order: ``decision_function`` where there is one; the joint log-probabilities of naive Bayes; the
    logarithm of ``predict_proba``, which differs from the logits before a softmax by a constant per row, so that
    margins are the same.

    Parameters
    ----------
    estimator : classifier
        Fitted, or partly.
    X : array_like or sparse matrix of shape (B, F)

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
        Where its scores are not one per class, as those of one-vs-one classifiers.

    Examples
    --------
    >>> from sklearn.linear_model import SGDClassifier
    >>> classifier = SGDClassifier(random_state=0).partial_fit([[-1.0], [1.0]], ["cat", "dog"], classes=["cat", "dog"])
    >>> scores = logits(classifier, [[-1.0], [1.0]])
    >>> scores.shape, scores.argmax(axis=1).tolist()
    ((2, 2), [0, 1])
    """
    num_classes = _num_classes(estimator)
    if hasattr(estimator, "decision_function"):
        # of three classes there are three pairs, so the shape alone would not give one-vs-one away
        if num_classes > 2 and getattr(estimator, "decision_function_shape", None) == "ovo":
            raise ValueError(
                f"estimator: {_name(estimator)} scores pairs of classes (one-vs-one), want one score per class; "
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
    raise TypeError(f"estimator: {_name(estimator)} has neither decision_function nor predict_proba")


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
    X : array_like or sparse matrix of shape (B, F)
    y : array_like of shape (B,)
        Labels as the classifier knows them (``estimator.classes_``): ints, strs, anything that sorts.
    calculator : AUMCalculator
    sample_ids : list or array of shape (B,)
        Ints or strs.
    classes : array_like of shape (C,), optional
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
    >>> calculator, classifier = AUMCalculator(tempfile.mkdtemp()), GaussianNB()
    >>> X, y = [[0.0], [0.1], [1.0], [1.1]], ["low", "low", "high", "high"]
    >>> for epoch in range(2):
    ...     classifier = partial_fit(classifier, X, y, calculator, sample_ids=[0, 1, 2, 3], classes=["high", "low"])
    >>> calculator.totals.counts
    array([1, 1, 1, 1])
    """
    labels = _labels(y)
    _check_lengths(X, labels, sample_ids)
    known = _known_classes(estimator, classes)
    return _learn(estimator, X, labels, _positions(known, labels, sample_ids), calculator, sample_ids, known)


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
    augment: Callable[[Any, np.random.Generator], Any] | None = None,
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
    X : array_like or sparse matrix of shape (N, F)
        Numbers without NaN. Of a data frame the values are used.
    y : array_like of shape (N,)
        Labels: ints, strs, anything that sorts.
    calculator : AUMCalculator
    classes : array_like of shape (C,), optional
        All labels; those in `y` by default.
    epochs, batch_size : int
    seed : int
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
    >>> X, y = load_digits(return_X_y=True)
    >>> calculator = AUMCalculator(tempfile.mkdtemp())
    >>> classifier = fit(SGDClassifier(random_state=0), X / 16, y, calculator, epochs=2)
    >>> len(calculator.totals), sorted(set(calculator.totals.counts.tolist()))
    (1797, [1, 2])
    """
    _check_positive(epochs=epochs, batch_size=batch_size)
    X, labels = check_array(X, accept_sparse="csr"), _labels(y)
    ids = np.arange(len(labels)) if sample_ids is None else sample_ids
    _check_lengths(X, labels, ids)
    ids = _indexable(ids)
    known = _known_classes(estimator, np.unique(labels) if classes is None else classes)
    targets = _positions(known, labels, ids)
    generator = np.random.default_rng(seed)
    # X has been checked once; for each batch anew it would cost as much as learning it
    with _interruptible(), config_context(assume_finite=True, skip_parameter_validation=True):
        for epoch in range(1, epochs + 1):
            for rows in np.array_split(generator.permutation(len(labels)), -(-len(labels) // batch_size)):
                batch = X[rows] if augment is None else augment(X[rows], generator)
                _learn(estimator, batch, labels[rows], targets[rows], calculator, ids[rows], known)
            calculator.end_epoch()
            if on_epoch is not None:
                on_epoch(epoch)
    return estimator


def find_mislabeled(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    save_dir: str | os.PathLike[str],
    classes: Any = None,
    epochs: int = 20,
    batch_size: int = 32,
    runs: int = 2,
    size: int | None = None,
    seed: int = 0,
    percentile: float = 99.0,
    combine: Combine = "all",
    score: str = "aum",
    sample_ids: Sequence[SampleId] | NDArray[Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    augment: Callable[[Any, np.random.Generator], Any] | None = None,
    on_epoch: Callable[[int, int], object] | None = None,
) -> Findings:
    """Find the wrong labels of a data set with a scikit-learn classifier and threshold samples.

    `aum_core.find_mislabeled` with the training done: see there for `save_dir`, `runs`, `size`, `percentile`,
    `combine`, `score`, `sample_ids`, `metadata`, and for the files.

    Parameters
    ----------
    estimator : classifier, or callable that makes one
        Cloned for each run, never trained itself; of a callable each run has what it gives. Where its
        ``random_state`` is None, ``seed + run`` is put there, so that the same call finds the same.
    X : array_like or sparse matrix of shape (N, F)
        Features, scaled as the classifier likes them.
    y : array_like of shape (N,)
        Given labels: ints, strs, anything that sorts.
    classes : array_like of shape (C,), optional
        All labels; those in `y` by default. Sorted, they name the classes in ``flagged.csv``.
    epochs, batch_size : int
        Of `fit`.
    seed : int
        Of the threshold samples, of the order of the rows, and of the classifiers.
    augment
        Of `fit`.
    on_epoch : callable ``on_epoch(run, epoch)``, optional
        Called after each epoch with the number of the run, from 0, and that of the epoch, from 1.

    Returns
    -------
    Findings
        Its `targets` and `suggested` are positions among the sorted classes.

    Raises
    ------
    TypeError, ValueError
        Where the input does not fit, before anything is trained.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import SGDClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> y[7] = 1  # a seven
    >>> findings = find_mislabeled(SGDClassifier(), X / 16, y, save_dir=tempfile.mkdtemp(), epochs=4)
    >>> bool(findings.flagged[7]), int(findings.suggested[7])
    (True, 7)
    """
    trainer = _Trainer(estimator, X, y, classes, epochs, batch_size, seed, augment, on_epoch, sample_ids)
    chosen = len(trainer.targets) // (len(trainer.classes) + 1) if size is None else size
    _check_measurable(f"{chosen} threshold samples", chosen, epochs, batch_size)
    return aum_core.find_mislabeled(
        trainer.train,
        trainer.targets,
        len(trainer.classes),
        save_dir=save_dir,
        runs=runs,
        size=size,
        seed=seed,
        percentile=percentile,
        combine=combine,
        score=score,
        sample_ids=sample_ids,
        class_names=trainer.class_names,
        metadata=trainer.describe() | dict(metadata or {}),
    )


def find_by_posterior(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    save_dir: str | os.PathLike[str],
    cutoff: Cutoff | None = None,
    classes: Any = None,
    epochs: int = 20,
    batch_size: int = 32,
    seed: int = 0,
    sample_ids: Sequence[SampleId] | NDArray[Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    augment: Callable[[Any, np.random.Generator], Any] | None = None,
    on_epoch: Callable[[int, int], object] | None = None,
) -> Findings:
    """Find the wrong labels of a data set with a scikit-learn classifier, one training run and the noise posterior.

    `aum_core.find_by_posterior` with the training done: see there for `save_dir`, `cutoff`, `sample_ids`, `metadata`,
    and for the files; `find_mislabeled` for the rest.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import SGDClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> y[7] = 1  # a seven
    >>> classifier = SGDClassifier(loss="log_loss")
    >>> findings = find_by_posterior(classifier, X / 16, y, save_dir=tempfile.mkdtemp(), epochs=8)
    >>> bool(findings.posterior.probabilities[7] > 0.5), int(findings.suggested[7])
    (True, 7)
    """
    trainer = _Trainer(estimator, X, y, classes, epochs, batch_size, seed, augment, on_epoch, sample_ids)
    _check_measurable(f"{len(trainer.targets)} samples", len(trainer.targets), epochs, batch_size)
    return aum_core.find_by_posterior(
        trainer.train,
        trainer.targets,
        len(trainer.classes),
        save_dir=save_dir,
        cutoff=cutoff,
        sample_ids=sample_ids,
        class_names=trainer.class_names,
        metadata=trainer.describe() | dict(metadata or {}),
    )


class _Trainer:
    """The training function of a search: checks everything once, and trains a fresh classifier each time."""

    def __init__(  # noqa: PLR0917 # a search is all of these
        self,
        estimator: Any,
        X: Any,
        y: Any,
        classes: Any,
        epochs: int,
        batch_size: int,
        seed: int,
        augment: Callable[[Any, np.random.Generator], Any] | None,
        on_epoch: Callable[[int, int], object] | None,
        sample_ids: Any,
    ) -> None:
        self._make = _factory(estimator)
        self._X, labels = check_array(X, accept_sparse="csr"), _labels(y)
        ids = np.arange(len(labels)) if sample_ids is None else sample_ids
        _check_lengths(self._X, labels, ids)
        self.classes = np.unique(labels if classes is None else np.asarray(classes))
        if len(self.classes) < 2:
            raise ValueError(f"y: one class, {_few(self.classes)}; want at least two to tell apart")
        _check_positive(epochs=epochs, batch_size=batch_size)
        self.targets = _positions(self.classes, labels, ids)
        self.class_names = [str(each) for each in self.classes]
        self._epochs, self._batch_size, self._seed, self._augment = epochs, batch_size, seed, augment
        self._on_epoch, self._runs = on_epoch, count()

    def train(self, targets: NDArray[np.int64], num_classes: int, calculator: AUMCalculator) -> None:
        run, on_epoch = next(self._runs), self._on_epoch
        fit(
            self._make(self._seed + run),
            self._X,
            targets,
            calculator,
            classes=np.arange(num_classes),
            epochs=self._epochs,
            batch_size=self._batch_size,
            seed=self._seed + run,
            augment=self._augment,
            on_epoch=None if on_epoch is None else lambda epoch: on_epoch(run, epoch),
        )

    def describe(self) -> dict[str, Any]:
        return {
            "framework": "scikit-learn",
            "classifier": _describe(self._make(self._seed)),
            "epochs": self._epochs,
            "batch_size": self._batch_size,
        }


def _name(estimator: Any) -> str:
    return type(estimator).__name__


def _num_classes(estimator: Any) -> int:
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise ValueError(f"estimator: {_name(estimator)} is not fitted (it has no classes_)")
    if isinstance(classes, list) or np.ndim(classes) != 1:
        raise ValueError(f"estimator: {_name(estimator)} predicts several outputs, want one label per sample")
    return len(classes)


def _per_class(estimator: Any, answer: Any, num_classes: int, method: str) -> NDArray[Any]:
    """Check that scores are one per class; of a binary classifier's single score make the two columns [0, z]."""
    scores: NDArray[Any] = np.asarray(answer)
    if num_classes == 2 and scores.shape in ((len(scores),), (len(scores), 1)):
        z = scores.reshape(-1)
        scores = np.stack([np.zeros_like(z), z], axis=1)
    if scores.ndim != 2 or scores.shape[1] != num_classes or num_classes < 2:
        raise ValueError(
            f"estimator: {method} of {_name(estimator)} has shape {scores.shape}, want (B, {num_classes}): one score "
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


def _labels(y: Any) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"y: shape {labels.shape}, want (N,): one label per sample")
    return labels


def _check_lengths(X: Any, labels: NDArray[Any], sample_ids: Any) -> None:
    rows = X.shape[0] if hasattr(X, "shape") else len(X)
    if not rows == len(labels) == len(sample_ids):
        raise ValueError(
            f"X, y, sample_ids: {rows} rows, {len(labels)} labels, {len(sample_ids)} ids, want as many of each"
        )


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}: {value}, want at least 1")


def _indexable(sample_ids: Any) -> NDArray[Any]:
    if isinstance(sample_ids, np.ndarray):
        return sample_ids
    ids = np.empty(len(sample_ids), dtype=object)  # np.array would make [1, "a"] all strs
    ids[:] = list(sample_ids)
    return ids


def _known_classes(estimator: Any, classes: Any) -> NDArray[Any]:
    """Give the sorted classes of a fitted classifier, or those that an unfitted one is to know."""
    if getattr(estimator, "classes_", None) is not None:
        _num_classes(estimator)
        return np.asarray(estimator.classes_)
    if classes is None:
        raise ValueError("classes: None, want all labels with the first batch of an unfitted classifier")
    return np.unique(np.asarray(classes))


def _positions(classes: NDArray[Any], labels: NDArray[Any], sample_ids: Any) -> NDArray[np.int64]:
    """Where each label stands among the sorted classes, (B,)."""
    places = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    unknown = classes[places] != labels
    if np.any(unknown):
        row = int(np.argmax(unknown))
        raise ValueError(
            f"y: sample {_plain(sample_ids[row])!r} has label {_plain(labels[row])!r}, want one of the classes "
            f"{_few(classes)}"
        )
    return places.astype(np.int64, copy=False)


def _plain(scalar: Any) -> Any:
    return scalar.item() if isinstance(scalar, np.generic) else scalar


def _few(classes: NDArray[Any]) -> str:
    shown = ", ".join(repr(each) for each in classes[:10].tolist())
    return shown if len(classes) <= 10 else f"{shown}, ... ({len(classes)} in all)"


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


def _learn(  # noqa: PLR0917 # a batch is all of these, and all go together
    estimator: Any,
    X: Any,
    labels: NDArray[Any],
    targets: NDArray[np.int64],
    calculator: AUMCalculator,
    sample_ids: Any,
    classes: NDArray[Any],
) -> Any:
    if getattr(estimator, "classes_", None) is None:
        return estimator.partial_fit(X, labels, classes=classes)
    calculator.accumulate(logits(estimator, X), targets, sample_ids)
    return estimator.partial_fit(X, labels)


def _factory(estimator: Any) -> Callable[[int], Any]:
    """Give a function from a seed to a fresh classifier."""
    is_instance = hasattr(estimator, "fit") and not isinstance(estimator, type)
    if not is_instance and not callable(estimator):
        raise TypeError(f"estimator: {estimator!r}, want a classifier with partial_fit, or a callable that makes one")

    def make(seed: int) -> Any:
        fresh = clone(estimator) if is_instance else estimator()
        if not hasattr(fresh, "partial_fit"):
            raise TypeError(f"estimator: {_name(fresh)} has no partial_fit, want a classifier that learns in batches")
        if fresh.get_params().get("random_state", seed) is None:
            fresh.set_params(random_state=seed)
        return fresh

    make(0)
    return make


def _check_measurable(wanted: str, count: int, epochs: int, batch_size: int) -> None:
    """A single epoch must measure some of the samples that are wanted, though its first batch goes unmeasured."""
    if epochs == 1 and 0 < count <= batch_size:
        raise ValueError(
            f"epochs: 1, whose first batch of up to {batch_size} samples cannot be measured: it may hold all {wanted}; "
            "want at least 2"
        )


def _describe(estimator: Any) -> str:
    # N_CHAR_MAX of scikit-learn's repr would end a long list of parameters in "..."
    return " ".join(estimator.__repr__(N_CHAR_MAX=10**6).split())
