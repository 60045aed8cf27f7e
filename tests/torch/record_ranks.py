"""What each rank of a job does that keeps records, started by torchrun: record_ranks.py FOLDER."""

import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from aum.torch import AUMCalculator

warnings.simplefilter("error")


def batches():
    """Global batches, some of a single sample: the last rank has nothing of these."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        size = int(torch.randint(1, 9, (1,), generator=generator))
        logits = torch.randn(size, 4, generator=generator)
        yield logits, torch.randint(4, (size,), generator=generator), torch.randint(20, (size,), generator=generator)


def feed(calculator, some, rank, num_ranks):
    for logits, targets, ids in some:
        share = slice(len(ids) * rank // num_ranks, len(ids) * (rank + 1) // num_ranks)
        calculator.accumulate(logits[share], targets[share], ids[share])


def load_the_state_of_rank_0(folder, rank):
    """As a loop does that saves on rank 0 alone, and loads everywhere what it has saved."""
    calculator = AUMCalculator(folder / "run")
    calculator.accumulate(torch.eye(3), torch.tensor([0, 0, 0]), [rank, 5, 6])
    torch.save(calculator.state_dict(), folder / f"state{rank}.pt")
    calculator.save(folder / f"state{rank}.npz")
    dist.barrier()
    calculator.load_state_dict(torch.load(folder / f"state{rank}.pt", weights_only=True))
    try:
        calculator.load_state_dict(torch.load(folder / "state0.pt", weights_only=True))
    except ValueError as error:
        (folder / f"told{rank}").write_text(str(error))
    assert rank in calculator.counts


def main():
    dist.init_process_group("gloo")
    folder, rank, size = Path(sys.argv[1]), dist.get_rank(), dist.get_world_size()
    calculator = AUMCalculator(folder / "run", compressed=False)
    feed(calculator, [*batches()][:17], rank, size)
    calculator.save(folder / f"saved{rank}.npz")
    feed(calculator, [*batches()][:5], rank, size)  # lost
    resumed = AUMCalculator.load(folder / f"saved{rank}.npz")
    feed(resumed, [*batches()][17:], rank, size)
    resumed.finalize()
    load_the_state_of_rank_0(folder, rank)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
