"""The nets, and one way to train them: tensors in memory, no loader, margins of the training forward passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_SIZE = 64
LEARNING_RATE, DROP = 0.1, 0.1
OPTIMIZER: dict[str, Any] = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
CHANNELS = {"cnn": (16, 48, 192), "wide": (32, 96, 256)}
HIDDEN = 256
NETS = (*CHANNELS, "mlp")


def settling(epochs: int) -> int:
    """Epochs after the drop of the learning rate, unmeasured, for a model that is to predict."""
    return max(1, epochs // 5)


def network(name: str, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A fresh net for samples of a shape: (1, H, W) for all of them, (F,) for the "mlp"."""
    if name == "mlp":
        return _mlp(shape, num_classes)
    layers: list[nn.Module] = []
    before = shape[0]
    for index, channels in enumerate(CHANNELS[name]):
        stride = 1 if index == 0 and shape[1] < 16 else 2  # small images have no pixels to spare
        layers += [nn.Conv2d(before, channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, num_classes))


def _mlp(shape: tuple[int, ...], num_classes: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    before = torch.Size(shape).numel()
    for _ in range(2):
        layers += [nn.Linear(before, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN), nn.ReLU()]
        before = HIDDEN
    return nn.Sequential(*layers, nn.Linear(before, num_classes))


def train(
    net: str,
    features: torch.Tensor,
    targets: torch.Tensor,
    num_classes: int,
    *,
    epochs: int,
    seed: int,
    settle: bool = True,
    observe: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None] | None = None,
) -> nn.Module:
    """Train a fresh net.

    Parameters
    ----------
    net : str
        One of `NETS`.
    features : Tensor of shape (N, ...), float32
    targets : Tensor of shape (N,), int64
    num_classes : int
    epochs : int
        At the full learning rate.
    seed : int
        Of the first weights and of the order of the samples.
    settle : bool
        Whether some epochs at a tenth of the learning rate follow.
    observe : callable ``observe(logits, targets, rows)``, optional
        Called before each step at the full learning rate.
    """
    torch.manual_seed(seed)
    model = network(net, tuple(features.shape[1:]), num_classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, fused=True, **OPTIMIZER)
    for epoch in range(epochs + (settling(epochs) if settle else 0)):
        if epoch == epochs:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * DROP
        # parts of nearly equal size: batch normalisation cannot learn from a last batch of one
        for rows in torch.randperm(len(targets)).tensor_split(-(-len(targets) // BATCH_SIZE)):
            labels = targets[rows]
            logits = model(features[rows])
            if observe is not None and epoch < epochs:
                observe(logits.detach(), labels, rows)
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def predict(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Probabilities (N, C), float32."""
    return torch.cat([model(block).softmax(dim=1) for block in features.split(1000)])


def error(model: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of the samples that are put into a wrong class, averaged over the classes."""
    wrong = (predict(model, features).argmax(dim=1) != labels).double()
    return float(torch.stack([wrong[labels == each].mean() for each in labels.unique()]).mean())
