"""The data sets: features and labels in memory, split, cut to size, and balanced or not."""

from __future__ import annotations

import gzip
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

FASHION = Path("/usr/share/datasets/fashion-mnist")
MLBENCH = Path("/usr/lib/R/site-library/mlbench/data")
TABLES = {
    "letters": ("LetterRecognition", "lettr"),
    "satellite": ("Satellite", "classes"),
    "dna": ("DNA", "Class"),
    "vowel": ("Vowel", "Class"),
}
TEST_SHARE = 0.25


@dataclass(frozen=True)
class DataSet:
    """What a net is trained on, with right labels, and what it is tested on.

    Attributes
    ----------
    features, test_features : ndarray of shape (N, F) or (N, 1, H, W), float32
        Standardised by the training part.
    labels, test_labels : ndarray of shape (N,), int64
        As the data set has them: held to be right.
    num_classes : int
        C.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    test_features: NDArray[np.float32]
    test_labels: NDArray[np.int64]
    num_classes: int


@dataclass(frozen=True)
class Folders:
    """Where the files of the data sets are."""

    fashion: Path = FASHION
    mlbench: Path = MLBENCH

    def missing(self, name: str) -> Path | None:
        """The first file of a data set that is not there."""
        files: list[Path] = []
        if name == "fashion-mnist":
            files = [self.fashion / f"{part}-ubyte.gz" for part in _FASHION_PARTS]
        elif name in TABLES:
            files = [self.mlbench / f"{TABLES[name][0]}.rda"]
        return next((file for file in files if not file.exists()), None)


_FASHION_PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def load(name: str, folders: Folders, *, samples: int | None, imbalance: int, seed: int) -> DataSet:
    """Read a data set and draw the training part.

    Parameters
    ----------
    name : str
        "fashion-mnist", "digits", or one of `TABLES`.
    folders : Folders
        Of the files; digits come with scikit-learn.
    samples : int, optional
        At most so many in the training part.
    imbalance : int
        How many times as many samples the most frequent class has as the rarest; 1 is balanced. Between them the
        sizes fall by a constant factor.
    seed : int
        Of the split, where the data set comes without one, and of the draw.
    """
    features, labels, test_features, test_labels = _parts(name, folders, seed)
    rows = draw(labels, samples=samples, imbalance=imbalance, seed=seed)
    features, labels = features[rows], labels[rows]
    axes = None if features.ndim == 4 else 0  # one brightness for all pixels, each column of a table its own unit
    mean, spread = features.mean(axis=axes), features.std(axis=axes)
    spread = np.where(spread == 0, 1, spread)
    return DataSet(
        ((features - mean) / spread).astype(np.float32),
        labels,
        ((test_features - mean) / spread).astype(np.float32),
        test_labels,
        int(labels.max()) + 1,
    )


def draw(labels: NDArray[np.int64], *, samples: int | None, imbalance: int, seed: int) -> NDArray[np.intp]:
    """Rows of a random part whose class sizes fall from the most frequent to the rarest class as asked for."""
    available = np.bincount(labels)
    shares = np.empty(len(available))
    shares[np.argsort(-available, kind="stable")] = float(imbalance) ** -np.linspace(0, 1, len(available))
    largest = (available / shares).min()
    if samples is not None:
        largest = min(largest, samples / shares.sum())
    counts = np.floor(largest * shares + 1e-9).astype(int)
    generator = np.random.default_rng(seed)
    chosen = [generator.permutation(np.flatnonzero(labels == each))[:count] for each, count in enumerate(counts)]
    return generator.permutation(np.concatenate(chosen))


def _parts(name: str, folders: Folders, seed: int) -> tuple[NDArray[Any], ...]:
    if name == "fashion-mnist":
        images, labels, test_images, test_labels = (
            _idx(folders.fashion / f"{part}-ubyte.gz") for part in _FASHION_PARTS
        )
        return images[:, None] / np.float32(255), labels, test_images[:, None] / np.float32(255), test_labels
    if name == "digits":
        features, labels = load_digits(return_X_y=True)
        features = features.reshape(-1, 1, 8, 8)
    else:
        features, labels = _table(folders.mlbench, *TABLES[name])
    train, test = train_test_split(np.arange(len(labels)), test_size=TEST_SHARE, random_state=seed, stratify=labels)
    return features[train], labels[train], features[test], labels[test]


def _idx(path: Path) -> NDArray[Any]:
    """A file of MNIST's format: images (N, 28, 28) as bytes, or labels (N,)."""
    with gzip.open(path) as file:
        content = file.read()
    if content[3] == 3:
        return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
    return np.frombuffer(content, np.uint8, offset=8).astype(np.int64)


def _table(folder: Path, name: str, label: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A data frame of R: numbers as they are, factors by the order of their levels."""
    import rdata  # noqa: PLC0415 # only these need it

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Unknown encoding")  # plain ASCII it is
        frame = rdata.read_rda(folder / f"{name}.rda")[name]
    columns = [_numbers(frame[column]) for column in frame.columns if column != label]
    return np.stack(columns, axis=1), frame[label].cat.codes.to_numpy(np.int64)


def _numbers(column: Any) -> NDArray[np.float64]:
    values: NDArray[np.float64] = (column.cat.codes if column.dtype.name == "category" else column).to_numpy(np.float64)
    return values
