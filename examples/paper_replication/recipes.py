"""The authors' settings by name, and the same made short for a machine without a large GPU."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["RECIPES", "Recipe", "Schedule"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """One training with SGD and Nesterov momentum.

    Attributes
    ----------
    epochs, batch_size, learning_rate, momentum, weight_decay
    drops : tuple of float
        After which shares of the epochs the learning rate is divided by ten.
    """

    epochs: int
    batch_size: int
    drops: tuple[float, ...] = ()
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs and batch_size: {self.epochs} and {self.batch_size}, want at least 1 of each")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: {self.learning_rate}, want more than 0")

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0.

        Examples
        --------
        >>> [Schedule(300, 256, (0.5, 0.75)).rate(epoch) for epoch in (149, 150, 225)]
        [0.1, 0.01, 0.001]
        """
        return self.learning_rate / 10.0 ** sum(epoch >= int(drop * self.epochs) for drop in self.drops)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings that go together.

    Attributes
    ----------
    net : str
        As `nets.make_net` knows it.
    training : Schedule
        Of the baseline, of the retraining without what was flagged, and of the oracle.
    measuring : Schedule
        Of the runs with threshold samples: short of the first drop, since beyond it wrong labels are memorised.
    num_valid : int
        Training samples held out, with their labels right, to watch the training by.
    """

    net: str
    training: Schedule
    measuring: Schedule
    num_valid: int

    def __post_init__(self) -> None:
        if self.num_valid < 0:
            raise ValueError(f"num_valid: {self.num_valid}, want a number of samples, or 0")

    def scaled(self, scale: float) -> Recipe:
        """Give the recipe with its epochs multiplied by `scale`; two at least, since the first may be left out.

        Examples
        --------
        >>> short = RECIPES["small"].scaled(0.05)
        >>> short.training.epochs, short.measuring.epochs
        (15, 8)
        """
        if not 0 < scale <= 1:
            raise ValueError(f"scale: {scale}, want a share of the epochs in (0, 1]")
        return replace(
            self,
            training=replace(self.training, epochs=max(2, round(scale * self.training.epochs))),
            measuring=replace(self.measuring, epochs=max(2, round(scale * self.measuring.epochs))),
        )

    def describe(self) -> dict[str, Any]:
        """Give the settings by name, as ``run.json`` has them."""
        settings = asdict(self)
        for schedule in ("training", "measuring"):
            settings[schedule]["drops"] = list(settings[schedule]["drops"])
        return settings


RECIPES = {
    "small": Recipe("resnet32", Schedule(300, 256, (0.5, 0.75)), Schedule(150, 64), num_valid=5000),
    # shares as in the authors' scripts: drops after 59 and 120 epochs
    "large": Recipe("resnet50", Schedule(180, 256, (0.33, 0.67)), Schedule(60, 256), num_valid=0),
}
