"""One side of the comparison with the reference: random streams in, the records and files made of them out.

Usage: streams.py FOLDER COUNT. Runs with the reference as well as with ours; both make the same streams of the same
seeds, and tell a checksum of what they were given.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aum import AUMCalculator

ALPHABET = ["a", "B", "7", "0", " ", ",", '"', "'", "\n", "\u00fc", "\N{SNOWMAN}", "\U0001f408", "-", "."]
KINDS = ("dense", "sparse", "beyond 64 bits", "strings", "ints and strings")
# Powers of ten: margins and their sums stay finite, as a stream is no longer than a dozen batches.
EXTREMES = {"float32": (-42, 36), "float64": (-320, 305)}


def population(kind: str, generator: np.random.Generator) -> list[Any]:
    """Different ids of a kind, negative ones among the scattered."""
    size = int(generator.integers(5, 120))
    if kind == "dense":
        return list(range(size))
    sparse = [int(each) for each in np.unique(generator.integers(-(2**62), 2**62, size))]
    if kind == "sparse":
        return sparse
    if kind == "beyond 64 bits":
        return [each * 2**40 for each in sparse]
    letters = generator.integers(0, len(ALPHABET), (size, 6))
    strings = sorted({"".join(ALPHABET[i] for i in row) for row in letters})
    return strings if kind == "strings" else strings + sparse[: size // 2]


def magnitudes(dtype: str, generator: np.random.Generator) -> tuple[str, float, float]:
    """The kind of logits, and between which powers of ten their scales lie."""
    low, high = EXTREMES[dtype]
    kind = generator.choice(["plain", "one extreme scale", "all scales at once", "tied"], p=[0.4, 0.2, 0.2, 0.2])
    if kind == "all scales at once":
        return str(kind), low, high
    power = generator.uniform(low, high) if kind == "one extreme scale" else generator.uniform(-6, 6)
    return str(kind), power, power


def logits_of(
    shape: tuple[int, int], dtype: str, scales: tuple[str, float, float], generator: np.random.Generator
) -> Any:
    """Logits of one batch. Tied ones are small whole numbers: both sides take the first of the largest others."""
    kind, low, high = scales
    if kind == "tied":
        return torch.from_numpy(generator.integers(-2, 3, shape).astype(dtype))
    powers = generator.uniform(low, high, shape)
    return torch.from_numpy((generator.uniform(-9, 9, shape) * 10.0**powers).astype(dtype))


def stream(number: int) -> tuple[list[str], list[tuple[torch.Tensor, torch.Tensor, list[Any]]]]:
    """What is special about a stream, and its batches: never one of one sample, which the reference cannot take."""
    generator = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    ids = population(kind, generator)
    num_classes = int(generator.choice([2, 3, 10, 57, 300]))
    dtype = "float64" if generator.random() < 0.3 else "float32"
    scales = magnitudes(dtype, generator)
    repeats = bool(generator.random() < 0.4)
    target_shape = (-1, 1) if generator.random() < 0.2 else (-1,)
    batches = []
    for _ in range(int(generator.integers(2, 12))):
        size = int(generator.integers(2, 40)) if repeats else int(generator.integers(2, min(40, len(ids)) + 1))
        chosen = generator.choice(len(ids), size, replace=repeats)
        logits = logits_of((size, num_classes), dtype, scales, generator)
        targets = torch.from_numpy(generator.integers(0, num_classes, size)).reshape(target_shape)
        batches.append((logits, targets, [ids[i] for i in chosen]))
    special = [f"{kind} ids", f"{scales[0]} logits", dtype, *(["ids repeated in a batch"] if repeats else [])]
    return special, batches


def exact(record: Any) -> list[Any]:
    """Fields of a record with their types, floats to the bit."""
    values = dataclasses.asdict(record).values()
    return [[type(value).__name__, value.hex() if isinstance(value, float) else value] for value in values]


def run(number: int, folder: Path) -> None:
    """Feed one stream, and write what came of it."""
    special, batches = stream(number)
    checksum = hashlib.sha256()
    calculator = AUMCalculator(str(folder), compressed=False)
    updates = []
    for logits, targets, ids in batches:
        checksum.update(logits.numpy().tobytes() + targets.numpy().tobytes() + repr(ids).encode())
        returned = calculator.update(logits, targets, ids)
        updates.append([type(returned).__name__, [[key, exact(record)] for key, record in returned.items()]])
    calculator.finalize()
    counts = sorted((repr(key), value) for key, value in dict(calculator.counts).items())
    sums = sorted((repr(key), float(value).hex()) for key, value in dict(calculator.sums).items())
    told = {"special": special, "input": checksum.hexdigest(), "updates": updates, "counts": counts, "sums": sums}
    told["records"] = [exact(record) for record in calculator.records]
    (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")


def main() -> None:
    """Run all streams, a folder each."""
    torch.set_num_threads(1)
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    (folder / "side.txt").write_text("ours" if hasattr(AUMCalculator, "accumulate") else "reference", encoding="utf-8")
    for number in range(count):
        own = folder / f"{number:04}"
        own.mkdir()
        run(number, own)
        print(number, flush=True)


if __name__ == "__main__":
    main()
