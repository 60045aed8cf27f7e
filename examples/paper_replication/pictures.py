"""Images as training wants them: whole batches, changed at random for training and as they are for testing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils.data import Dataset

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FromArray", "FromFiles", "Pictures", "Samples"]

_FULL, _CROP = 256, 224  # a photograph's shorter side, and what of it a large network sees


class Source(Protocol):
    """Where images come from."""

    def decode(self, rows: Sequence[int], changed: bool) -> torch.Tensor:
        """Give some images as uint8 (B, channels, H, W)."""
        ...


@dataclass(frozen=True, slots=True)
class FromArray:
    """Images that fit into memory: uint8 (N, channels, H, W)."""

    images: torch.Tensor

    def decode(self, rows: Sequence[int], changed: bool) -> torch.Tensor:  # noqa: ARG002 # they are of one size already
        """Give some images."""
        return self.images[torch.as_tensor(rows)]


@dataclass(frozen=True, slots=True)
class FromFiles:
    """Images that are decoded when they are asked for, with Pillow.

    Attributes
    ----------
    paths : list of path
    cropped : bool
        True makes photographs of any size one: for training a random part of 8 to 100 % of the area and nearly
        square, for testing the middle (Szegedy et al. 2015, as ImageNet's recipes have it). False wants one size.
    """

    paths: list[Path]
    cropped: bool

    def decode(self, rows: Sequence[int], changed: bool) -> torch.Tensor:
        """Read some images; grey ones get three channels."""
        images = [self._read(self.paths[row], changed) for row in rows]
        sizes = {image.shape for image in images}
        if len(sizes) > 1:
            raise ValueError(f"images of {len(sizes)} sizes, such as {sorted(sizes)[:2]} (H, W, 3): want one size")
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    def _read(self, path: Path, changed: bool) -> NDArray[np.uint8]:
        image_module = _pillow()
        try:
            with image_module.open(path) as file:
                image = file.convert("RGB")
        except OSError as error:
            raise OSError(f"{path}: not an image, or damaged ({error})") from error
        if self.cropped:
            box = _random_box(*image.size) if changed else _middle_box(*image.size)
            image = image.resize((_CROP, _CROP), image_module.Resampling.BILINEAR, box)
        return np.asarray(image)


def _pillow() -> Any:
    try:
        from PIL import Image  # noqa: PLC0415 # only data sets of image files need it
    except ModuleNotFoundError as error:
        if error.name != "PIL":
            raise
        raise ModuleNotFoundError("image files are read with Pillow: pip install pillow", name="PIL") from error
    return Image


def _random_box(width: int, height: int) -> tuple[float, float, float, float]:
    """A random part of an image: left, top, right, bottom."""
    share, odds, across, down = torch.rand(4).tolist()
    area = (0.08 + 0.92 * share) * width * height
    ratio = (3 / 4) * (16 / 9) ** odds  # from 3:4 to 4:3, evenly in its logarithm
    part_width, part_height = min(width, (area * ratio) ** 0.5), min(height, (area / ratio) ** 0.5)
    left, top = across * (width - part_width), down * (height - part_height)
    return left, top, left + part_width, top + part_height


def _middle_box(width: int, height: int) -> tuple[float, float, float, float]:
    """What remains when the shorter side is made 256 and the middle 224 x 224 is taken."""
    side = min(width, height) * _CROP / _FULL
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images with their labels.

    Attributes
    ----------
    source : Source
    targets : ndarray of shape (N,), int64
        The labels of the data set, before any is flipped.
    mean, std : tuple of float
        Of each channel, of pixels in [0, 1].
    padding : int
        How many pixels an image is shifted by at most, in training.
    """

    source: Source
    targets: NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int = 0
    mirrored: bool = True

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for coloured ones."""
        return len(self.mean)

    def batch(self, rows: Sequence[int], changed: bool) -> torch.Tensor:
        """Give some images as normalised float32 (B, channels, H, W), at random changed or as they are."""
        images = self.source.decode(rows, changed).float() / 255
        images = (images - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]
        if not changed:
            return images
        if self.padding:
            images = _shifted(images, self.padding)
        if self.mirrored:
            images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)
        return images


def _shifted(images: torch.Tensor, padding: int) -> torch.Tensor:
    """Each image out of its middle by up to `padding` pixels, with zeros where there was nothing."""
    count, channels, height, width = images.shape
    down, across = torch.randint(2 * padding + 1, (2, count, 1))
    rows = (down + torch.arange(height))[:, None, :, None]
    columns = (across + torch.arange(width))[:, None, None, :]
    padded = pad(images, (padding,) * 4)
    return padded[torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None], rows, columns]


class Samples(Dataset[Any]):
    """A split as a DataLoader takes it, a whole batch at a time: inputs, targets, and sample ids.

    Parameters
    ----------
    pictures : Pictures
    places : ndarray of shape (N,)
        Which of the pictures are in the split; the sample id is the place in this list.
    targets : ndarray of shape (N,)
        What to train on: `pictures.targets` of those places, or others.
    changed : bool
        At random, for training.
    """

    def __init__(
        self, pictures: Pictures, places: NDArray[np.int64], targets: NDArray[np.int64], *, changed: bool
    ) -> None:
        self._pictures, self._places, self._changed = pictures, places, changed
        self._targets = torch.from_numpy(targets)

    def __len__(self) -> int:
        return len(self._places)

    def __getitems__(self, sample_ids: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Give a batch; what DataLoader calls where there is one."""
        ids = torch.tensor(sample_ids)
        return self._pictures.batch(self._places[sample_ids].tolist(), self._changed), self._targets[ids], ids
