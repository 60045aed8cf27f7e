"""The engine's two searches with the training done: what they are given goes in part to `fit`, in part to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array

import aum_core
from aum.sklearn.inputs import as_labels, check_lengths, check_positive, few, name_of, positions
from aum.sklearn.training import Augment, fit

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Unpack

    from numpy.typing import NDArray

    from aum_core import AUMCalculator, Findings
    from aum_core.detection.cutoffs import Cutoff
    from aum_core.detection.threshold_samples import Combine
    from aum_core.ids import SampleId

__all__ = ["find_by_posterior", "find_mislabeled"]


class _Search(TypedDict, total=False):
    classes: Any
    epochs: int
    batch_size: int
    seed: int
    augment: Augment | None
    on_epoch: Callable[[int, int], object] | None
    sample_ids: Sequence[SampleId] | NDArray[Any] | None
    metadata: Mapping[str, Any] | None


class _ThresholdSearch(_Search, total=False):
    runs: int
    size: int | None
    percentile: float
    combine: Combine
    score: str


class _PosteriorSearch(_Search, total=False):
    cutoff: Cutoff | None


def find_mislabeled(
    estimator: Any, X: Any, y: Any, *, save_dir: str | os.PathLike[str], **options: Unpack[_ThresholdSearch]
) -> Findings:
    """Find the wrong labels of a data set with a scikit-learn classifier and threshold samples.

    `aum_core.find_mislabeled` with the training done (Pleiss et al. 2020, algorithm 1).

    Parameters
    ----------
    estimator : classifier, or callable that makes one
        Cloned for each run, never trained itself; of a callable each run has what it gives. Where its
        ``random_state`` is None, ``seed + run`` is put there, so that the same call finds the same.
    X : array_like or sparse matrix of shape (N, F), floats
        Features, scaled as the classifier likes them.
    y : array_like of shape (N,)
        Given labels: ints, strs, anything that sorts.
    save_dir : str or path
        Gets the files that `aum_core.find_mislabeled` lists. Those of an earlier job are removed first.
    classes : array_like of shape (C,), ints or strs, as `y`, optional
        All labels; those in `y` by default. Sorted, they name the classes in ``flagged.csv``.
    epochs, batch_size : int, default 20 and 32
        Of `fit`.
    seed : int, default 0
        Of the threshold samples, of the order of the rows, and of the classifiers.
    augment : callable ``augment(X, generator)``, optional
        Of `fit`.
    on_epoch : callable ``on_epoch(run, epoch)``, optional
        Called after each epoch with the number of the run, from 0, and that of the epoch, from 1.
    runs : int, default 2
        How often a classifier is trained, each time with threshold samples of its own.
    size : int, optional
        How many threshold samples a run has; N // (C + 1) by default.
    percentile : float, default 99.0
        Of the threshold samples' values: regular samples below it are flagged.
    combine : {"all", "any", "mean"}, default "all"
        How the runs are combined, see `aum_core.ThresholdPlan.cut`.
    score : str, default "aum"
        What is cut at the percentile and ranks the samples: the AUM, or another score of the calculator's.
    sample_ids : sequence of N int or str, optional
        The names of the rows in the files; row numbers by default.
    metadata : mapping, optional
        Further entries for ``run.json``.

    Returns
    -------
    Findings
        Its `targets` and `suggested` are positions among the sorted classes.

    Raises
    ------
    TypeError, ValueError
        Where the input does not fit, before anything is trained.

    References
    ----------
    Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin Ranking", NeurIPS 2020, arXiv
    2001.10528.

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
    trainer, search = _prepared(estimator, X, y, **options)
    size = search.get("size")
    if size is None:
        size = len(trainer.targets) // (trainer.num_classes + 1)
    trainer.check_measurable(size, "threshold samples")
    return aum_core.find_mislabeled(trainer.train, save_dir=save_dir, seed=trainer.seed, **search)


def find_by_posterior(
    estimator: Any, X: Any, y: Any, *, save_dir: str | os.PathLike[str], **options: Unpack[_PosteriorSearch]
) -> Findings:
    """Find the wrong labels of a data set with a scikit-learn classifier, one training run and the noise posterior.

    For the method and its source see `aum_core.find_by_posterior`: half the cost of `find_mislabeled`. What it assumes,
    and where it fails, is told in ``docs/scores.md``.

    Parameters
    ----------
    estimator, X, y, classes, epochs, batch_size, seed, augment, on_epoch, metadata : as in the other search
        See `find_mislabeled`. There is one run, number 0.
    save_dir : str or path
        Gets the files that `aum_core.find_by_posterior` lists. Those of an earlier job are removed first.
    cutoff : Cutoff, default `aum_core.LikelyWrong`
        What is flagged: `LikelyWrong` (more likely wrong than right), `Precision`, `Budget` or `ZeroMargin`.
    sample_ids : sequence of N int or str, optional
        The names of the rows in the files; row numbers by default.

    Returns
    -------
    Findings
        Its `targets` and `suggested` are positions among the sorted classes; `posterior` has the chance (N,) that each
        label is wrong.

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
    >>> classifier = SGDClassifier(loss="log_loss")
    >>> findings = find_by_posterior(classifier, X / 16, y, save_dir=tempfile.mkdtemp(), epochs=8)
    >>> bool(findings.posterior.probabilities[7] > 0.5), int(findings.suggested[7])
    (True, 7)
    """
    trainer, search = _prepared(estimator, X, y, **options)
    trainer.check_measurable(len(trainer.targets), "samples")
    return aum_core.find_by_posterior(trainer.train, save_dir=save_dir, **search)


def _prepared(
    estimator: Any, X: Any, y: Any, *, classes: Any = None, sample_ids: Any = None, metadata: Any = None, **options: Any
) -> tuple[_Trainer, dict[str, Any]]:
    """Check what comes in; give the trainer of a search, and what else the engine's search takes."""
    make = _factory(estimator)
    X, labels = check_array(X, accept_sparse="csr"), as_labels(y)
    ids = np.arange(len(labels)) if sample_ids is None else sample_ids
    check_lengths(X, labels, ids)
    known = np.unique(labels if classes is None else np.asarray(classes))
    if len(known) < 2:
        raise ValueError(f"y: one class, {few(known)}; want at least two to tell apart")
    training = {name: options.pop(name) for name in _Trainer.OPTIONS if name in options}
    trainer = _Trainer(make, X, positions(known, labels, ids), len(known), **training)
    search = {
        "targets": trainer.targets,
        "num_classes": trainer.num_classes,
        "sample_ids": sample_ids,
        "class_names": [str(each) for each in known],
        "metadata": trainer.describe() | dict(metadata or {}),
    }
    return trainer, search | options


@dataclass
class _Trainer:
    """The training function of a search: it trains a fresh classifier each time."""

    OPTIONS: ClassVar = ("epochs", "batch_size", "seed", "augment", "on_epoch")

    make: Callable[[int], Any]
    X: Any
    targets: NDArray[np.int64]
    num_classes: int
    epochs: int = 20
    batch_size: int = 32
    seed: int = 0
    augment: Augment | None = None
    on_epoch: Callable[[int, int], object] | None = None
    runs: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        check_positive(epochs=self.epochs, batch_size=self.batch_size)

    def check_measurable(self, num_watched: int, what: str) -> None:
        """A single epoch must measure some of the samples that count, though its first batch goes unmeasured."""
        if self.epochs == 1 and 0 < num_watched <= self.batch_size:
            raise ValueError(
                f"epochs: 1, whose first batch of up to {self.batch_size} samples cannot be measured: it may hold all "
                f"{num_watched} {what}; want at least 2"
            )

    def train(self, targets: NDArray[np.int64], num_classes: int, calculator: AUMCalculator) -> None:
        """Train the next run's classifier; what a search calls."""
        run, on_epoch = next(self.runs), self.on_epoch
        fit(
            self.make(self.seed + run),
            self.X,
            targets,
            calculator,
            classes=np.arange(num_classes),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=self.seed + run,
            augment=self.augment,
            on_epoch=None if on_epoch is None else lambda epoch: on_epoch(run, epoch),
        )

    def describe(self) -> dict[str, Any]:
        """What ``run.json`` tells of the training."""
        # N_CHAR_MAX of scikit-learn's repr would end a long list of parameters in "..."
        classifier = " ".join(self.make(self.seed).__repr__(N_CHAR_MAX=10**6).split())
        epochs = {"epochs": self.epochs, "batch_size": self.batch_size}
        return {"framework": "scikit-learn", "classifier": classifier, **epochs}


def _factory(estimator: Any) -> Callable[[int], Any]:
    """Give a function from a seed to a fresh classifier."""
    is_instance = hasattr(estimator, "fit") and not isinstance(estimator, type)
    if not is_instance and not callable(estimator):
        raise TypeError(f"estimator: {estimator!r}, want a classifier with partial_fit, or a callable that makes one")

    def make(seed: int) -> Any:
        fresh = clone(estimator) if is_instance else estimator()
        if not hasattr(fresh, "partial_fit"):
            raise TypeError(f"estimator: {name_of(fresh)} has no partial_fit, want a classifier that learns in batches")
        if fresh.get_params().get("random_state", seed) is None:
            fresh.set_params(random_state=seed)
        return fresh

    make(0)
    return make
