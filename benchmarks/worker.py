"""One side of a comparison: times what it is asked to, line by line, in the interpreter it was started with.

It knows no more than PyTorch, NumPy and a calculator, so that it runs with the reference as well as with ours.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from functools import partial
from itertools import cycle, islice
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aum import AUMCalculator

if TYPE_CHECKING:
    from collections.abc import Callable

NUM_SAMPLES = 50_000
SAMPLE_IDS = list(range(NUM_SAMPLES))
POOL_BYTES = 64 * 2**20
GROUP_SAMPLES = 4096


class Bench:
    """Batches of one shape, and a calculator that has seen all of their samples before."""

    def __init__(self) -> None:
        self._calculator = AUMCalculator("unused", compressed=True)
        self._sums, self._counts = np.zeros(NUM_SAMPLES), np.zeros(NUM_SAMPLES, np.int64)
        for start in range(0, NUM_SAMPLES, 500):
            ids = SAMPLE_IDS[start : start + 500]
            self._calculator.update(torch.zeros(500, 2), torch.zeros(500, dtype=torch.int64), ids)

    def describe(self) -> dict[str, Any]:
        """Tell which of the two `aum` this is, and what it runs on."""
        side = "ours" if hasattr(AUMCalculator, "accumulate") else "reference"
        versions = {"Python": platform.python_version(), "NumPy": np.__version__, "PyTorch": torch.__version__}
        return {"side": side, "threads": torch.get_num_threads(), "versions": versions}

    def shape(self, batch_size: int, num_classes: int) -> None:
        """Make batches of this shape: several, so that no logits are still in the nearest cache."""
        generator = np.random.default_rng(0)
        count = max(2, min(16, POOL_BYTES // (4 * batch_size * num_classes)))
        self._batches = []
        for _ in range(count):
            logits = generator.standard_normal((batch_size, num_classes), dtype=np.float32)
            targets = generator.integers(0, num_classes, batch_size)
            ids = generator.choice(NUM_SAMPLES, batch_size, replace=False)
            self._batches.append((torch.from_numpy(logits), torch.from_numpy(targets), torch.from_numpy(ids)))
        self._group = GROUP_SAMPLES // batch_size

    def update(self) -> list[Callable[[], Any]]:
        """Calls of `update`, records and all; ids as a list, as the reference wants them."""
        return [self._call(self._calculator.update, *batch[:2], batch[2].tolist()) for batch in self._batches]

    def accumulate(self) -> list[Callable[[], Any]]:
        """Calls of `accumulate`, ids as the tensor that a loader gives."""
        return [self._call(self._calculator.accumulate, *batch) for batch in self._batches]

    def accumulate_list(self) -> list[Callable[[], Any]]:
        """Calls of `accumulate`, ids as a list."""
        return [self._call(self._calculator.accumulate, *batch[:2], batch[2].tolist()) for batch in self._batches]

    def accumulate_records(self) -> list[Callable[[], Any]]:
        """Calls of `accumulate` that log records too, in memory; into a new log each time."""
        from aum_core import RecordsInMemory  # noqa: PLC0415 # only our side has it

        calculator = AUMCalculator("unused", compressed=False, log=RecordsInMemory)
        calculator.accumulate(torch.zeros(NUM_SAMPLES, 2), torch.zeros(NUM_SAMPLES, dtype=torch.int64), SAMPLE_IDS)
        return [self._call(calculator.accumulate, *batch) for batch in self._batches]

    def bare(self) -> list[Callable[[], Any]]:
        """The NumPy work alone."""
        return [self._call(self._bare, *(each.numpy() for each in batch)) for batch in self._batches]

    def _bare(self, logits: Any, targets: Any, rows: Any) -> None:
        every = np.arange(len(logits))
        masked = logits.copy()
        masked[every, targets] = -np.inf
        other = masked.argmax(axis=1)
        margin = logits[every, targets] - masked[every, other]
        np.add.at(self._sums, rows, margin)
        np.add.at(self._counts, rows, 1)

    def margins(self) -> list[Callable[[], Any]]:
        """Calls of `compute_margins`, as `accumulate` makes them."""
        return self._margins(other_logit=False)

    def margins_and_class(self) -> list[Callable[[], Any]]:
        """Calls of `compute_margins`, as `update` makes them: which class was the largest other one, too."""
        return self._margins(other_logit=True)

    def _margins(self, *, other_logit: bool) -> list[Callable[[], Any]]:
        from aum_core import compute_margins  # noqa: PLC0415 # only our side has it

        function = partial(compute_margins, other_logit=other_logit)
        return [self._call(function, *(each.numpy() for each in batch[:2])) for batch in self._batches]

    def argmax(self) -> list[Callable[[], Any]]:
        """One bare pass over the same logits."""
        return [self._call(batch[0].numpy().argmax, 1) for batch in self._batches]

    @staticmethod
    def _call(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        return lambda: function(*arguments)

    def time(self, what: str, seconds: float) -> float:
        """Seconds of a call: the median of groups of calls that take the batches in turn, for about `seconds`.

        A group has as many calls as make 4,096 samples, and ends with a look at the totals: `accumulate` leaves part
        of its work to later calls, and a call timed by itself would not show it. Time is the processor's, so that
        other programs on the machine count for less.
        """
        calls = getattr(self, what)()
        turns = cycle(calls)
        for call in islice(turns, min(len(calls), self._group)):
            call()
        self._settle()
        times: list[float] = []
        while not times or sum(times) < seconds:
            start = process_time()
            for call in islice(turns, self._group):
                call()
            self._settle()
            times.append(process_time() - start)
        return statistics.median(times) / self._group

    def _settle(self) -> None:
        len(self._calculator.sums)


def main() -> None:
    """Answer each line of the standard input with one line."""
    torch.set_num_threads(1)
    bench = Bench()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(bench, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
