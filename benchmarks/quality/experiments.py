"""Which experiments there are: one net on one data set with one kind of noise and one seed, in three sizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

NOISES: dict[str, tuple[str, float]] = {
    "none": ("none", 0.0),
    "uniform 2 %": ("uniform", 0.02),
    "uniform 5 %": ("uniform", 0.05),
    "uniform 20 %": ("uniform", 0.2),
    "uniform 40 %": ("uniform", 0.4),
    "pair 20 %": ("pair", 0.2),
    "pair 40 %": ("pair", 0.4),
    "instance-dependent 20 %": ("instance-dependent", 0.2),
}


@dataclass(frozen=True)
class Experiment:
    """One row of the results: everything that decides its figures."""

    data: str
    net: str
    imbalance: int
    noise: str
    seed: int
    epochs: int
    samples: int | None
    retrain: bool

    def __str__(self) -> str:
        return f"{self.data}, {self.net}, {self.imbalance}:1, {self.noise}, seed {self.seed}"


@dataclass(frozen=True)
class Block:
    """Experiments that differ in noise, imbalance and seed only."""

    data: str
    net: str
    epochs: int
    samples: int | None = None
    imbalances: tuple[int, ...] = (1, 10)
    noises: tuple[str, ...] = tuple(NOISES)
    seeds: int = 3
    retrained: tuple[str, ...] = tuple(NOISES)

    def experiments(self) -> list[Experiment]:
        """All of them."""
        return [
            Experiment(self.data, self.net, imbalance, noise, seed, self.epochs, self.samples, noise in self.retrained)
            for seed, imbalance, noise in product(range(self.seeds), self.imbalances, self.noises)
        ]


_FEW = ("none", "uniform 20 %", "instance-dependent 20 %")
_FIVE = ("none", "uniform 5 %", "uniform 20 %", "pair 20 %", "instance-dependent 20 %")
_NONE_OR_20 = ("none", "uniform 20 %", "pair 20 %", "instance-dependent 20 %")


def _both(data: str, net: str, epochs: int, samples: int | None = None) -> list[Block]:
    """Every kind of noise where classes are balanced, the four main ones where they are not."""
    return [
        Block(data, net, epochs, samples, imbalances=(1,), retrained=_FIVE),
        Block(data, net, epochs, samples, imbalances=(10,), noises=_NONE_OR_20),
    ]


SIZES: dict[str, list[Block]] = {
    "small": [
        Block("digits", "mlp", epochs=10, imbalances=(1,), noises=_FEW, seeds=1),
        Block("digits", "cnn", epochs=6, samples=800, imbalances=(10,), noises=("uniform 20 %",), seeds=1),
        Block("vowel", "mlp", epochs=10, imbalances=(1,), noises=("pair 20 %",), seeds=1, retrained=()),
        Block("fashion-mnist", "mlp", 3, samples=300, imbalances=(1,), noises=("none",), seeds=1, retrained=()),
    ],
    "medium": [
        *_both("vowel", "mlp", epochs=30),
        *_both("digits", "mlp", epochs=15),
        *_both("dna", "mlp", epochs=12),
        *_both("satellite", "mlp", epochs=12, samples=2000),
        Block("letters", "mlp", epochs=10, samples=5000, imbalances=(1,), retrained=_FIVE),
        Block("fashion-mnist", "mlp", epochs=8, samples=3000, imbalances=(1,), retrained=_FIVE),
        Block("digits", "cnn", epochs=10, imbalances=(1,), noises=_FIVE, retrained=_FEW),
        Block("fashion-mnist", "cnn", epochs=8, samples=3000, imbalances=(1,), noises=_FIVE, retrained=_FEW),
    ],
    "full": [
        Block("digits", "cnn", epochs=20),
        Block("digits", "mlp", epochs=20),
        Block("vowel", "mlp", epochs=40),
        Block("dna", "mlp", epochs=15),
        Block("satellite", "mlp", epochs=20),
        Block("letters", "mlp", epochs=15),
        Block("fashion-mnist", "mlp", epochs=15, samples=20_000),
        Block("fashion-mnist", "cnn", epochs=15, samples=20_000),
        Block("fashion-mnist", "wide", epochs=15, samples=20_000, imbalances=(1,)),
    ],
}


def experiments(size: str) -> list[Experiment]:
    """Those of a size, seed by seed, so that an early stop leaves whole tables."""
    return sorted((each for block in SIZES[size] for each in block.experiments()), key=lambda each: each.seed)
