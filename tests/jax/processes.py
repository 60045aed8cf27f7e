"""What each process of a job does: processes.py FOLDER PORT RANK. Leaves files for test_processes.py to look at."""

import json
import sys
import warnings
from pathlib import Path

import jax
import numpy as np

from aum.jax import AUMCalculator, Totals, init, merge_processes, update

warnings.simplefilter("error")
SIZE = 2
KINDS = ("rows", "beyond 64 bits", "strings", "mixed")


def ids_of(kind):
    rows = list(range(30))
    strings = [f"image {row}.png\N{SNOWMAN}" for row in rows]
    others = {"rows": rows, "strings": strings, "beyond 64 bits": [2**70 - row for row in rows]}
    return others.get(kind) or [*strings[:15], *rows[15:]]


def stream():
    """Batches of float32 logits whose sums no float32 holds, targets and rows."""
    generator = np.random.default_rng(0)
    for _ in range(40):
        logits = (generator.normal(size=(16, 5)) * 10.0 ** generator.integers(-2, 5)).astype(np.float32)
        yield logits, generator.integers(0, 5, 16), generator.integers(0, 30, 16)


def measured(kind, rank, size):
    """The totals of a process's uneven share of the stream."""
    calculator, ids = AUMCalculator("nowhere"), ids_of(kind)
    for number, (logits, targets, rows) in enumerate(stream()):
        if number % (size + 1) % size == rank:
            calculator.accumulate(logits, targets, [ids[row] for row in rows])
    return calculator


def on_device(rank, size):
    """The state of the same share."""
    state, step = init(30), jax.jit(update)
    for number, batch in enumerate(stream()):
        if number % (size + 1) % size == rank:
            state = step(state, *batch)
    return state


def message_of(call):
    """The type and words of what a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 # to be compared, whatever it is
        return f"{type(error).__name__}: {error}"
    return "nothing raised"


def main():
    folder, port, rank = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    jax.distributed.initialize(f"localhost:{port}", SIZE, rank)
    told: dict[str, object] = {"x64": bool(jax.config.read("jax_enable_x64"))}
    for kind in KINDS:
        calculator = measured(kind, rank, SIZE)
        merged = merge_processes(calculator)
        merged.save(folder / f"{kind} {rank}.npz")
        again = merge_processes(calculator.totals)
        told[f"idempotent {kind}"] = again.sums.tolist() == merged.sums.tolist()
    state = on_device(rank, SIZE)
    merge_processes(state).save(folder / f"state {rank}.npz")
    merge_processes(state if rank else init(30)).save(folder / f"half {rank}.npz")
    told["nothing"] = len(merge_processes(Totals()))
    told["options"] = message_of(lambda: merge_processes(AUMCalculator("x", nonfinite=["leave_out", "raise"][rank])))
    told["type"] = message_of(lambda: merge_processes([1.0] if rank else Totals()))
    told["names"] = message_of(lambda: merge_processes(state, ["a"] * (30 - rank)))
    told["still works"] = len(merge_processes(state))
    (folder / f"told{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
