"""What comes in, checked: labels and their places among the classes, ids, lengths, and the classes of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "as_labels",
    "check_lengths",
    "check_positive",
    "few",
    "indexable",
    "known_classes",
    "name_of",
    "num_classes_of",
    "positions",
]


def as_labels(y: Any) -> NDArray[Any]:
    """Give labels as an array (N,); a single column is one, too."""
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"y: shape {labels.shape}, want (N,): one label per sample")
    return labels


def check_lengths(X: Any, labels: NDArray[Any], sample_ids: Any) -> None:
    """Make an error of rows, labels and ids that are not as many of each."""
    rows = X.shape[0] if hasattr(X, "shape") else len(X)
    if not rows == len(labels) == len(sample_ids):
        raise ValueError(
            f"X, y, sample_ids: {rows} rows, {len(labels)} labels, {len(sample_ids)} ids, want as many of each"
        )


def check_positive(**values: int) -> None:
    """Make an error of an argument below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}: {value}, want at least 1")


def indexable(sample_ids: Any) -> NDArray[Any]:
    """Give ids as an array, each as it is."""
    if isinstance(sample_ids, np.ndarray):
        return sample_ids
    ids = np.empty(len(sample_ids), dtype=object)  # np.array would make [1, "a"] all strs
    ids[:] = list(sample_ids)
    return ids


def known_classes(estimator: Any, classes: Any) -> NDArray[Any]:
    """Give the sorted classes (C,) of a fitted classifier, or those that an unfitted one is to know."""
    if getattr(estimator, "classes_", None) is not None:
        num_classes_of(estimator)
        return np.asarray(estimator.classes_)
    if classes is None:
        raise ValueError("classes: None, want all labels with the first batch of an unfitted classifier")
    return np.unique(np.asarray(classes))


def positions(classes: NDArray[Any], labels: NDArray[Any], sample_ids: Any) -> NDArray[np.int64]:
    """Where each label stands among the sorted classes, (B,)."""
    places = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    unknown = classes[places] != labels
    if np.any(unknown):
        row = int(np.argmax(unknown))
        raise ValueError(
            f"y: sample {_plain(sample_ids[row])!r} has label {_plain(labels[row])!r}, want one of the classes "
            f"{few(classes)}"
        )
    return places.astype(np.int64, copy=False)


def num_classes_of(estimator: Any) -> int:
    """How many classes a fitted classifier tells apart."""
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        raise ValueError(f"estimator: {name_of(estimator)} is not fitted (it has no classes_)")
    if isinstance(classes, list) or np.ndim(classes) != 1:
        raise ValueError(f"estimator: {name_of(estimator)} predicts several outputs, want one label per sample")
    return len(classes)


def name_of(estimator: Any) -> str:
    """The name of its class, for error messages."""
    return type(estimator).__name__


def few(classes: NDArray[Any]) -> str:
    """The first ten classes, for error messages."""
    shown = ", ".join(repr(each) for each in classes[:10].tolist())
    return shown if len(classes) <= 10 else f"{shown}, ... ({len(classes)} in all)"


def _plain(scalar: Any) -> Any:
    return scalar.item() if isinstance(scalar, np.generic) else scalar
