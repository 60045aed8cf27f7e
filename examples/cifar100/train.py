"""A ResNet on CIFAR-100, with the Area Under the Margin of every training sample.

python examples/cifar100/train.py --dataset digits --epochs 10
python examples/cifar100/train.py --folder data/cifar100 --detailed-aum --tensorboard

Given again with --resume, a command that was interrupted goes on after its last finished epoch.
"""

from __future__ import annotations

import argparse
import gzip
import math
import pickle
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader, TensorDataset

from aum.torch import AUMCalculator, DatasetWithIndex
from aum_core.files.whole import write_whole

IMAGES_AND_LABELS = tuple[torch.Tensor, torch.Tensor]


def cifar100(folder: Path) -> tuple[IMAGES_AND_LABELS, IMAGES_AND_LABELS]:
    """CIFAR-100's training and test images (N, 3, 32, 32) in [0, 1], and labels (N,); torchvision downloads them."""
    files = folder / "cifar-100-python"
    if not files.is_dir():
        try:
            from torchvision.datasets import CIFAR100  # noqa: PLC0415 # only for the download
        except ModuleNotFoundError as error:
            if error.name not in ("torchvision", "torchvision.datasets"):
                raise
            sys.exit(f"--folder: no {files}; to download CIFAR-100: pip install torchvision")
        CIFAR100(folder, download=True)
    return cifar100_file(files / "train"), cifar100_file(files / "test")


def cifar100_file(path: Path) -> IMAGES_AND_LABELS:
    """One file of the data set: a dictionary that was pickled by Python 2."""
    try:
        with open(path, "rb") as file:
            content = ArraysOnly(file, encoding="latin1").load()
        images, labels = content["data"].reshape(-1, 3, 32, 32), content["fine_labels"]
    except FileNotFoundError:
        sys.exit(f"--folder: no {path}; want both files of CIFAR-100's python version, train and test")
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        sys.exit(f"{path}: not a file of CIFAR-100's python version, or damaged ({error})")
    return torch.from_numpy(images).float() / 255, torch.tensor(labels)


class ArraysOnly(pickle.Unpickler):
    """Makes arrays and Python's plain objects: other pickles could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        """Give one of the three names that an array needs."""
        known = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if not module.startswith("numpy") or name not in known:
            raise pickle.UnpicklingError(f"a file of CIFAR-100 that asks for {module}.{name}")
        return known[name]


def fashion_mnist(folder: Path) -> tuple[IMAGES_AND_LABELS, IMAGES_AND_LABELS]:
    """Training and test images (N, 1, 28, 28) in [0, 1], and labels (N,), from the data set's own files."""
    splits = []
    for name in ("train", "t10k"):
        images = fashion_mnist_file(folder / f"{name}-images-idx3-ubyte.gz", 16, (-1, 1, 28, 28))
        labels = fashion_mnist_file(folder / f"{name}-labels-idx1-ubyte.gz", 8, (-1,))
        splits.append((images / 255, labels.long()))
    return splits[0], splits[1]


def fashion_mnist_file(path: Path, header: int, shape: tuple[int, ...]) -> torch.Tensor:
    """One file of the data set: a header, then bytes."""
    try:
        with gzip.open(path) as file:
            return torch.tensor(np.frombuffer(file.read(), np.uint8, offset=header).reshape(shape))
    except FileNotFoundError:
        sys.exit(f"--folder: no {path}; want the folder of Fashion-MNIST's four .gz files")
    except (gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        sys.exit(f"{path}: not a file of Fashion-MNIST, or damaged ({error})")


def digits() -> tuple[IMAGES_AND_LABELS, IMAGES_AND_LABELS]:
    """Scikit-learn's 1,797 digits (N, 1, 8, 8) in [0, 1], and labels (N,); every fifth is for testing."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 # only where it is asked for

    data, target = load_digits(return_X_y=True)
    images = torch.tensor(data / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels, test = torch.tensor(target), torch.arange(len(target)) % 5 == 0
    return (images[~test], labels[~test]), (images[test], labels[test])


def load(dataset: str, folder: Path) -> tuple[IMAGES_AND_LABELS, IMAGES_AND_LABELS]:
    """Training and test images of a data set, each with its label."""
    loaders = {"cifar100": cifar100, "fashion-mnist": fashion_mnist}
    splits = digits() if dataset == "digits" else loaders[dataset](folder)
    for images, labels in splits:
        if len(images) != len(labels):
            sys.exit(f"--folder: {len(images)} images, but {len(labels)} labels, in {folder}")
    return splits


class Residual(nn.Module):
    """``relu(x + f(x))`` (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Add to the images (B, inputs, H, W) what the block makes of them."""
        return torch.relu(self.shortcut(images) + self.body(images))


def resnet(blocks: int, channels: int, num_classes: int) -> nn.Module:
    """A ResNet of ``6 * blocks + 2`` layers for small images."""
    layers = [nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    inputs = 16
    for outputs in (16, 32, 64):
        for _ in range(blocks):
            layers.append(Residual(inputs, outputs, outputs // inputs))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def changed(images: torch.Tensor, *, mirrored: bool) -> torch.Tensor:
    """Shift each of a batch of images (B, channels, H, W) by up to an eighth, and mirror half of them."""
    count, channels, height, width = images.shape
    reach = height // 8
    down, across = torch.randint(2 * reach + 1, (2, count, 1))
    rows = (down + torch.arange(height))[:, None, :, None]
    columns = (across + torch.arange(width))[:, None, None, :]
    batch, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    shifted = pad(images, (reach,) * 4)[batch, channel, rows, columns]
    return torch.where(torch.rand(count, 1, 1, 1) < 0.5, shifted.flip(-1), shifted) if mirrored else shifted


@dataclass
class State:
    """All that a resumed training needs, beside the calculator of the AUMs."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    options: dict[str, Any]
    epochs: int = 0
    best_error: float = math.inf

    def save(self, folder: Path, calculator: AUMCalculator) -> None:
        """Save to ``checkpoint.pt``; of records on disk it says which are its own."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scheduler")}
        numbers = {"epochs": self.epochs, "best_error": self.best_error, "options": self.options}
        with write_whole(folder / "checkpoint.pt", "wb") as file:
            torch.save({**parts, **numbers, "aum": calculator.state_dict(), "random": torch.get_rng_state()}, file)

    def load(self, folder: Path, calculator: AUMCalculator) -> None:
        """Take up what `save` saved."""
        saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
        for name, value in self.options.items():
            if saved["options"][name] != value:
                sys.exit(
                    f"--resume: {name} is {value}, but the run in {folder} was begun with {saved['options'][name]}"
                )
        for name in ("model", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(saved[name])
        self.epochs, self.best_error = saved["epochs"], saved["best_error"]
        torch.set_rng_state(saved["random"])
        calculator.load_state_dict(saved["aum"])


def train_epoch(
    state: State, batches: DataLoader[Any], rows: torch.Tensor, calculator: AUMCalculator, device: str
) -> tuple[float, float]:
    """Train for one epoch and measure every margin on the way; mean loss and error."""
    state.model.train()
    total, wrong, seen = 0.0, 0, 0
    for inputs, cpu_targets, places in batches:
        targets = cpu_targets.to(device)
        logits = state.model(changed(inputs, mirrored=state.options["dataset"] != "digits").to(device))
        calculator.accumulate(logits, targets, rows[places])
        loss = cross_entropy(logits, targets)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        total += loss.item() * len(targets)
        wrong += int((logits.detach().argmax(dim=1) != targets).sum())
        seen += len(targets)
    state.scheduler.step()
    return total / seen, wrong / seen


@torch.no_grad()
def error_of(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, device: str) -> float:
    """Share of the images that the model gets wrong."""
    model.eval()
    wrong = 0
    for some, truth in zip(images.split(512), labels.split(512), strict=True):
        wrong += int((model(some.to(device)).argmax(dim=1).cpu() != truth).sum())
    return wrong / len(labels)


def tensorboard(folder: Path) -> Any:
    """What TensorBoard reads."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 # optional
    except ModuleNotFoundError as error:
        if error.name != "tensorboard":
            raise
        sys.exit("--tensorboard: pip install tensorboard")
    return SummaryWriter(folder / "tensorboard")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("cifar100", "fashion-mnist", "digits"), default="cifar100")
    parser.add_argument("--folder", type=Path, help="of the data set, data/DATASET by default; digits needs none")
    parser.add_argument("--out", type=Path, default=Path("aum_run"))
    parser.add_argument("--detailed-aum", action="store_true", help="keep a record of every measurement")
    parser.add_argument("--tensorboard", action="store_true")
    parser.add_argument("--resume", action="store_true", help="go on after the last finished epoch")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--num-valid", type=int, default=5000, help="held out, at most a tenth of the training samples")
    parser.add_argument("--blocks", type=int, default=5, help="the ResNet has 6 * blocks + 2 layers")
    parser.add_argument("--samples", type=int, help="train on no more than so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    wrong = what_does_not_fit(options)
    if wrong:
        parser.error(wrong)
    options.folder = options.folder or Path("data") / options.dataset
    return options


def what_does_not_fit(options: argparse.Namespace) -> str | None:
    """Tell of the first option whose value cannot be."""
    for name in ("epochs", "batch_size", "num_valid", "blocks", "samples"):
        value = getattr(options, name)
        if value is not None and value < 1:
            return f"--{name.replace('_', '-')}: {value}, want at least 1"
    if not 0 < options.learning_rate < math.inf:
        return f"--learning-rate: {options.learning_rate}, want more than 0"
    try:
        torch.empty(1, device=options.device)
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without it
        return f"--device: {options.device!r} is not to be had ({str(error).splitlines()[0]})"
    return None


def main() -> None:
    """Train, measure, keep the best model, and rank the samples."""
    options = arguments()
    torch.manual_seed(options.seed)
    (images, labels), test = load(options.dataset, options.folder)
    order = torch.randperm(len(labels))
    num_valid = min(options.num_valid, len(labels) // 10)
    # what is held out picks the best model; the sample ids are row numbers of the training set as it comes
    valid, rows = order[:num_valid], order[num_valid:][: options.samples]
    train_set = DatasetWithIndex(TensorDataset(images[rows], labels[rows]))
    batches = DataLoader(train_set, options.batch_size, shuffle=True)

    num_classes = 100 if options.dataset == "cifar100" else 10
    model = resnet(options.blocks, images.shape[1], num_classes).to(options.device)
    optimizer = torch.optim.SGD(model.parameters(), options.learning_rate, momentum=0.9, nesterov=True)
    drops = [options.epochs // 2, 3 * options.epochs // 4]
    free = ("folder", "out", "resume", "tensorboard", "device")
    same = {name: value for name, value in vars(options).items() if name not in free}
    state = State(model, optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, drops), same)
    calculator = AUMCalculator(options.out, compressed=not options.detailed_aum)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.resume and (options.out / "checkpoint.pt").exists():
        state.load(options.out, calculator)
        print(f"goes on after epoch {state.epochs}")
    elif options.resume:
        print(f"begins, since {options.out} has no checkpoint")
    board = tensorboard(options.out) if options.tensorboard else None

    while state.epochs < options.epochs:
        begun = time.monotonic()
        loss, error = train_epoch(state, batches, rows, calculator, options.device)
        valid_error = error_of(model, images[valid], labels[valid], options.device)
        state.epochs += 1
        if valid_error < state.best_error:
            state.best_error = valid_error
            with write_whole(options.out / "best.pt", "wb") as file:
                torch.save(model.state_dict(), file)
        state.save(options.out, calculator)
        if board is not None:
            figures = {"loss/train": loss, "error/train": error, "error/validation": valid_error}
            for name, value in figures.items():
                board.add_scalar(name, value, state.epochs)
        print(
            f"epoch {state.epochs} of {options.epochs}: loss {loss:.3f}, error {100 * error:.1f} %, validation error "
            f"{100 * valid_error:.1f} %, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
    calculator.finalize()
    model.load_state_dict(torch.load(options.out / "best.pt", map_location="cpu", weights_only=True))
    test_error = error_of(model, *test, options.device)
    if board is not None:
        board.add_scalar("error/test", test_error, state.epochs)
        board.close()
    print(f"best model: test error {100 * test_error:.1f} %")
    totals = calculator.totals
    for place in np.argsort(totals.aums)[:10]:
        row = totals.sample_ids[place]
        print(f"image {row} of the training set: labelled {labels[row]}, AUM {totals.aums[place]:.2f}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; with --resume (unless --detailed-aum) it goes on after the last finished epoch")
