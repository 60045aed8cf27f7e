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


def population(kind: str, generator: np.random.Generator) -> list[Any]:
    """Different ids of a kind."""
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


def stream(number: int) -> tuple[str, list[tuple[torch.Tensor, torch.Tensor, list[Any]]]]:
    """The kind of ids and the batches of a stream: never a batch of one, which the reference cannot take."""
    generator = np.random.default_rng(number)
    kind = KINDS[number % len(KINDS)]
    ids = population(kind, generator)
    num_classes = int(generator.choice([2, 3, 10, 57, 300]))
    dtype = torch.float64 if generator.random() < 0.3 else torch.float32
    scale = 10.0 ** generator.uniform(-6, 6)
    repeats = bool(generator.random() < 0.4)
    batches = []
    for _ in range(int(generator.integers(2, 12))):
        size = int(generator.integers(2, 40)) if repeats else int(generator.integers(2, min(40, len(ids)) + 1))
        chosen = generator.choice(len(ids), size, replace=repeats)
        logits = torch.from_numpy(generator.normal(0, scale, (size, num_classes))).to(dtype)
        targets = torch.from_numpy(generator.integers(0, num_classes, size))
        batches.append((logits, targets, [ids[i] for i in chosen]))
    return kind, batches


def exact(record: Any) -> list[Any]:
    """Fields of a record with their types, floats to the bit."""
    values = dataclasses.asdict(record).values()
    return [[type(value).__name__, value.hex() if isinstance(value, float) else value] for value in values]


def run(number: int, folder: Path) -> None:
    """Feed one stream, and write what came of it."""
    kind, batches = stream(number)
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
    told = {"kind": kind, "input": checksum.hexdigest(), "updates": updates, "counts": counts, "sums": sums}
    (folder / "told.json").write_text(json.dumps(told))


def main() -> None:
    """Run all streams, a folder each."""
    torch.set_num_threads(1)
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    (folder / "side.txt").write_text("ours" if hasattr(AUMCalculator, "accumulate") else "reference")
    for number in range(count):
        own = folder / f"{number:04}"
        own.mkdir()
        run(number, own)
        print(number, flush=True)


if __name__ == "__main__":
    main()
