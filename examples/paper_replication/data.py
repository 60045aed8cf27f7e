"""The data sets, each read as it comes from its authors."""

from __future__ import annotations

import csv
import gzip
import pickle
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pictures import FromArray, FromFiles, Pictures

from aum_core.dataset import class_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["DATASETS", "Data", "load_data"]

# Of each channel of CIFAR and of ImageNet, as everybody has them.
_CIFAR = {"mean": (0.4914, 0.4824, 0.4467), "std": (0.2471, 0.2435, 0.2616)}
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, slots=True)
class Data:
    """A data set: what to train on, and what to test with.

    Attributes
    ----------
    train, test : Pictures
    num_classes : int
        C.
    first_stride : int
        By which a network for small images reduces these in its first layer.
    """

    train: Pictures
    test: Pictures
    num_classes: int
    first_stride: int = 1


def load_data(dataset: str, folder: Path | None, samples: int | None = None, test_samples: int | None = None) -> Data:
    """Load a data set.

    Parameters
    ----------
    dataset : str
        One of `DATASETS`.
    folder : path, optional
        Where it is; digits needs none.
    samples, test_samples : int, optional
        Only so many, drawn at random, always the same.

    Raises
    ------
    ValueError
        Where the folder is missing, or does not hold the data set.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset: {dataset!r}, want one of {', '.join(DATASETS)}")
    load = DATASETS[dataset]
    if dataset == "digits":
        data = load()
    elif folder is None or not folder.is_dir():
        raise ValueError(f"folder: {folder}, want the folder of {dataset}; the README tells where it comes from")
    else:
        data = load(folder)
    for pictures in (data.train, data.test):
        class_labels(pictures.targets, data.num_classes)
    return replace(
        data, train=_some(data.train, samples, "samples"), test=_some(data.test, test_samples, "test-samples")
    )


def _some(pictures: Pictures, count: int | None, name: str) -> Pictures:
    if count is None:
        return pictures
    if not 1 <= count <= len(pictures):
        raise ValueError(f"{name}: {count}, want a number in [1, {len(pictures)}]")
    return _take(pictures, np.random.default_rng(0).permutation(len(pictures))[:count])


def _take(pictures: Pictures, rows: NDArray[np.int64]) -> Pictures:
    source: Any = pictures.source
    if isinstance(source, FromArray):
        source = FromArray(source.images[torch.from_numpy(rows)])
    else:
        source = replace(source, paths=[source.paths[row] for row in rows.tolist()])
    return replace(pictures, source=source, targets=pictures.targets[rows])


def _in_memory(images: NDArray[np.uint8], targets: Iterable[int], look: dict[str, Any]) -> Pictures:
    labels = np.array(targets, dtype=np.int64)
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images, but {len(labels)} labels")
    return Pictures(FromArray(torch.from_numpy(images)), labels, **look)


def _digits() -> Data:
    """Scikit-learn's 1,797 digits of 8 x 8 pixels; a fifth is for testing."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 # only where it is asked for

    images, labels = load_digits(return_X_y=True)
    images = (images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    everything = _in_memory(images, labels, {"mean": (0.3,), "std": (0.38,), "padding": 1, "mirrored": False})
    order = np.random.default_rng(0).permutation(len(labels))
    return Data(_take(everything, order[360:]), _take(everything, order[:360]), 10)


def _fashion_mnist(folder: Path) -> Data:
    """The data set's own four files."""
    look = {"mean": (0.286,), "std": (0.353,), "padding": 4}
    train, test = (
        _in_memory(
            _idx(folder / f"{split}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28),
            _idx(folder / f"{split}-labels-idx1-ubyte.gz", 8),
            look,
        )
        for split in ("train", "t10k")
    )
    return Data(train, test, 10)


def _idx(path: Path, header: int) -> NDArray[np.uint8]:
    with open(_there(path), "rb") as file:
        packed = file.read()
    try:
        return np.frombuffer(gzip.decompress(packed), np.uint8, offset=header).copy()
    except (gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{path}: not a file of Fashion-MNIST, or damaged ({error})") from error


def _cifar10(folder: Path) -> Data:
    """CIFAR-10's "python version": six files in ``cifar-10-batches-py``."""
    inside = folder / "cifar-10-batches-py"
    return _cifar([inside / f"data_batch_{i}" for i in range(1, 6)], inside / "test_batch", "labels", 10)


def _cifar100(folder: Path) -> Data:
    """CIFAR-100's "python version": two files in ``cifar-100-python``."""
    inside = folder / "cifar-100-python"
    return _cifar([inside / "train"], inside / "test", "fine_labels", 100)


def _cifar(train: list[Path], test: Path, labels: str, num_classes: int) -> Data:
    look = {**_CIFAR, "padding": 4}
    parts = [_cifar_file(path, labels) for path in train]
    images = np.concatenate([part for part, _ in parts])
    targets = [target for _, part in parts for target in part]
    return Data(_in_memory(images, targets, look), _in_memory(*_cifar_file(test, labels), look), num_classes)


def _cifar_file(path: Path, labels: str) -> tuple[NDArray[np.uint8], list[int]]:
    """Give images (N, 3, 32, 32) and labels of one file, a dictionary that was pickled by Python 2."""
    with open(_there(path), "rb") as file:
        try:
            content = _ArraysOnly(file, encoding="latin1").load()
            return content["data"].reshape(-1, 3, 32, 32), content[labels]
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: not a file of CIFAR's python version, or damaged ({error})") from error


class _ArraysOnly(pickle.Unpickler):
    """Makes arrays and Python's plain objects: other pickles could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "_reconstruct": np.empty(0).__reduce__()[0],  # the module it is in has changed its name
            "ndarray": np.ndarray,
            "dtype": np.dtype,
        }
        if module.split(".", maxsplit=1)[0] != "numpy" or name not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[name]


def _tiny_imagenet(folder: Path) -> Data:
    """Tiny ImageNet as its authors pack it: 200 classes of 64 x 64 pixels; its validation split is for testing."""
    names = _lines(folder / "wnids.txt")
    classes = {name: index for index, name in enumerate(sorted(names))}
    train = [
        (path, classes[name]) for name in sorted(names) for path in _images(_there(folder / "train" / name / "images"))
    ]
    with open(_there(folder / "val/val_annotations.txt"), encoding="utf-8") as file:
        test = [(folder / "val/images" / line[0], classes[line[1]]) for line in csv.reader(file, delimiter="\t")]
    look = {**_IMAGENET, "padding": 8}
    return Data(_on_disk(train, False, look), _on_disk(test, False, look), len(classes), first_stride=2)


def _webvision50(folder: Path) -> Data:
    """The first 50 classes of WebVision 1.0, of its Google half, by its lists; or folders of classes."""
    if not (folder / "info").is_dir():
        return _class_folders(folder)
    train = _listed(folder / "info/train_filelist_google.txt", folder)
    test = _listed(folder / "info/val_filelist.txt", folder / "val_images_256")
    first = [[(path, label) for path, label in split if label < 50] for split in (train, test)]
    return _photographs(first[0], first[1], 50)


def _clothing100k(folder: Path) -> Data:
    """100,000 noisily labelled images of Clothing1M, by its lists, drawn at random; or folders of classes."""
    if not (folder / "noisy_label_kv.txt").is_file():
        return _class_folders(folder)
    train = _keyed(folder, "noisy_train_key_list.txt", "noisy_label_kv.txt")
    chosen = np.random.default_rng(0).permutation(len(train))[:100_000]
    test = _keyed(folder, "clean_test_key_list.txt", "clean_label_kv.txt")
    return _photographs([train[row] for row in chosen.tolist()], test, 14)


def _keyed(folder: Path, keys: str, labels: str) -> list[tuple[Path, int]]:
    by_key = dict(_listed(folder / labels, folder))
    paths = [folder / key for key in _lines(folder / keys)]
    unknown = [path for path in paths if path not in by_key]
    if unknown:
        raise ValueError(f"{folder / keys}: {unknown[0]} and {len(unknown) - 1} more have no label in {labels}")
    return [(path, by_key[path]) for path in paths]


def _listed(path: Path, folder: Path) -> list[tuple[Path, int]]:
    """Lines of a name in `folder` and a label."""
    pairs = []
    for number, line in enumerate(_lines(path), 1):
        name, _, label = line.rpartition(" ")
        if not name or not label.isdecimal():
            raise ValueError(f"{path}: line {number} is {line!r}, want a file and its label")
        pairs.append((folder / name, int(label)))
    return pairs


def _class_folders(folder: Path) -> Data:
    """A folder for each class, in ``train`` and in ``test`` or, where there is none, ``val``: the authors' packing."""
    test = folder / "test" if (folder / "test").is_dir() else folder / "val"
    names = sorted(each.name for each in _there(folder / "train").iterdir() if each.is_dir())
    train_files, test_files = (
        [(path, label) for label, name in enumerate(names) for path in _images(_there(split / name))]
        for split in (folder / "train", test)
    )
    return _photographs(train_files, test_files, len(names))


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _photographs(train: list[tuple[Path, int]], test: list[tuple[Path, int]], num_classes: int) -> Data:
    return Data(_on_disk(train, True, _IMAGENET), _on_disk(test, True, _IMAGENET), num_classes)


def _on_disk(files: list[tuple[Path, int]], cropped: bool, look: dict[str, Any]) -> Pictures:
    paths, labels = [path for path, _ in files], [label for _, label in files]
    if not paths:
        raise ValueError("folder: no image found in it, want those of the data set")
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(f"folder: {missing[0]} is missing, and {len(missing) - 1} more of {len(paths)} images")
    return Pictures(FromFiles(paths, cropped), np.array(labels, dtype=np.int64), **look)


def _lines(path: Path) -> list[str]:
    lines = _there(path).read_text(encoding="utf-8").split("\n")
    return [line.rstrip("\r") for line in lines if line.strip()]


def _there(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{path} is missing: want the folder as the data set's authors pack it")
    return path


DATASETS: dict[str, Callable[..., Data]] = {
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "tiny_imagenet": _tiny_imagenet,
    "webvision50": _webvision50,
    "clothing100k": _clothing100k,
    "fashion-mnist": _fashion_mnist,
    "digits": _digits,
}
