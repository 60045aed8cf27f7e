"""The paper's networks for small images, by name. Each takes images of 8 x 8 pixels and more.

The names carry what there is to choose: ``resnet32`` (depth), ``wide_resnet28_10`` (depth, width), ``densenet40_12``
(depth, growth), ``vgg16`` (depth), ``lenet``, ``conv4``; and ``resnet50``, the large one, which is torchvision's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["make_net"]

_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def make_net(name: str, num_classes: int, channels: int = 3, first_stride: int = 1) -> nn.Module:
    """Make a network with fresh weights.

    Parameters
    ----------
    name : str
        One of the module's names, such as ``resnet32``.
    num_classes : int
        How many logits it gives.
    channels : int
        1 for grey images, 3 for coloured ones.
    first_stride : int
        2 halves larger images, those of Tiny ImageNet, in the first layer.

    Raises
    ------
    ValueError
        Where no network has that name.
    """
    if name == "resnet50":
        return _torchvision_resnet50(num_classes, channels)
    for pattern, make in _NETS.items():
        words = re.fullmatch(pattern, name)
        if words:
            numbers = map(int, words.groups())
            return make(*numbers, num_classes=num_classes, channels=channels, first_stride=first_stride)
    raise ValueError(
        f"net: {name!r}, want a name such as resnet32, wide_resnet28_10, densenet40_12, vgg16, lenet, conv4 or resnet50"
    )


def _torchvision_resnet50(num_classes: int, channels: int) -> nn.Module:
    if channels != 3:
        raise ValueError(f"net: resnet50 is for images of 3 channels, these have {channels}; want one such as resnet32")
    try:
        from torchvision.models import resnet50  # noqa: PLC0415 # only who asks for it needs torchvision
    except ModuleNotFoundError as error:
        if error.name not in ("torchvision", "torchvision.models"):
            raise
        raise ModuleNotFoundError(
            "net: resnet50 needs torchvision: pip install torchvision", name=error.name
        ) from error
    model: nn.Module = resnet50(weights=None, num_classes=num_classes)
    return model


def _blocks(name: str, depth: int, layers: int, extra: int) -> int:
    """How many blocks of `layers` layers each of three stages has."""
    if depth <= extra or (depth - extra) % (3 * layers):
        raise ValueError(f"net: {name} of depth {depth}, want a depth of {3 * layers} n + {extra}")
    return (depth - extra) // (3 * layers)


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


def _head(features: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, num_classes))


class _Residual(nn.Module):
    """``relu(x + f(x))`` (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, outputs, stride=stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            _convolution(outputs, outputs),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.shortcut(images) + self.body(images))


class _PreActivated(nn.Module):
    """``x + f(x)`` with normalisation before each convolution (Zagoruyko and Komodakis 2016, arXiv 1605.07146)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.body = nn.Sequential(
            _convolution(inputs, outputs, stride=stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            _convolution(outputs, outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        activated = self.first(images)
        added: torch.Tensor = self.body(activated)
        return added + (images if self.shortcut is None else self.shortcut(activated))


class _Dense(nn.Module):
    """``[x, f(x)]`` (Huang et al. 2017, arXiv 1608.06993), with a bottleneck."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(inplace=True),
            _convolution(inputs, 4 * growth, 1),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(inplace=True),
            _convolution(4 * growth, growth),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images, self.body(images)], dim=1)


def _stages(block: Callable[[int, int, int], nn.Module], start: int, widths: list[int], count: int) -> list[nn.Module]:
    """Stages of `count` blocks each, that halve the image from the second on."""
    layers, inputs = [], start
    for stage, width in enumerate(widths):
        for place in range(count):
            layers.append(block(inputs, width, 2 if stage and not place else 1))
            inputs = width
    return layers


def _resnet(depth: int, *, num_classes: int, channels: int, first_stride: int) -> nn.Module:
    count = _blocks("resnet", depth, layers=2, extra=2)
    stem = [_convolution(channels, 16, stride=first_stride), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    return nn.Sequential(*stem, *_stages(_Residual, 16, [16, 32, 64], count), _head(64, num_classes))


def _wide_resnet(depth: int, width: int, *, num_classes: int, channels: int, first_stride: int) -> nn.Module:
    count = _blocks("wide_resnet", depth, layers=2, extra=4)
    stages = _stages(_PreActivated, 16, [16 * width, 32 * width, 64 * width], count)
    last = [nn.BatchNorm2d(64 * width), nn.ReLU(inplace=True)]
    return nn.Sequential(
        _convolution(channels, 16, stride=first_stride), *stages, *last, _head(64 * width, num_classes)
    )


def _densenet(depth: int, growth: int, *, num_classes: int, channels: int, first_stride: int) -> nn.Module:
    count = _blocks("densenet", depth, layers=2, extra=4)
    features = 2 * growth
    layers: list[nn.Module] = [_convolution(channels, features, stride=first_stride)]
    for stage in range(3):
        if stage:
            halved = features // 2
            layers += [nn.BatchNorm2d(features), nn.ReLU(inplace=True), _convolution(features, halved, 1)]
            layers.append(nn.AvgPool2d(2))
            features = halved
        for _ in range(count):
            layers.append(_Dense(features, growth))
            features += growth
    return nn.Sequential(*layers, nn.BatchNorm2d(features), nn.ReLU(inplace=True), _head(features, num_classes))


def _vgg(depth: int, *, num_classes: int, channels: int, first_stride: int) -> nn.Module:
    """Convolutions of Simonyan and Zisserman 2015 (arXiv 1409.1556), normalised, with one linear layer."""
    if depth not in _VGG:
        raise ValueError(f"net: vgg of depth {depth}, want one of {', '.join(map(str, _VGG))}")
    layers: list[nn.Module] = []
    inputs = channels
    for count, width in zip(_VGG[depth], (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            stride = first_stride if not layers else 1
            layers += [_convolution(inputs, width, stride=stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            inputs = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))  # rounded up, so that small images do not vanish
    return nn.Sequential(*layers, _head(512, num_classes))


def _lenet(*, num_classes: int, channels: int, first_stride: int) -> nn.Module:
    """Two convolutions of 5 x 5 and three linear layers (LeCun et al. 1998)."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, first_stride, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(5),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, num_classes),
    )


def _conv4(*, num_classes: int, channels: int, first_stride: int) -> nn.Module:
    """Four convolutions, each normalised and halved."""
    layers: list[nn.Module] = []
    for inputs, stride in ((channels, first_stride), (64, 1), (64, 1), (64, 1)):
        layers += [_convolution(inputs, 64, stride=stride), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers, _head(64, num_classes))


_NETS: dict[str, Callable[..., nn.Module]] = {
    r"resnet(\d+)": _resnet,
    r"wide_resnet(\d+)_(\d+)": _wide_resnet,
    r"densenet(\d+)_(\d+)": _densenet,
    r"vgg(\d+)": _vgg,
    "lenet": _lenet,
    "conv4": _conv4,
}
