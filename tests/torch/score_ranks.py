"""What each rank of a job does that keeps scores, started by torchrun: score_ranks.py FOLDER."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from aum.torch import AUMCalculator, find_by_posterior, merge_ranks

warnings.simplefilter("error")
SAMPLES, CLASSES, EPOCHS = 240, 4, 8
SCORES = ["bounded_aum", "confidence", "variability", "correctness", "el2n", "forgetting"]
TRUTH = np.arange(SAMPLES) % CLASSES
TARGETS = np.where(np.arange(SAMPLES) % 10 == 7, (TRUTH + 1) % CLASSES, TRUTH)
IDS = [f"{row}.png" if row % 3 == 0 else -row for row in range(SAMPLES)]


def logits_of(epoch, seen):
    """A net that learns the truth, and from the fifth epoch on the wrong labels too."""
    noise = np.random.default_rng(epoch).normal(size=(2 * SAMPLES, CLASSES))[seen]
    learnt = np.eye(CLASSES)[TARGETS if epoch > 3 else TRUTH][seen % SAMPLES]
    return torch.tensor((1 + min(epoch, 4)) * learnt + noise, dtype=torch.float32)


def batches_of(epoch, rank, num_ranks):
    """A rank's batches: dealt anew in each epoch; some samples come late, some twice, and one rank misses an epoch.

    Of a sample that comes for the second time the row has SAMPLES added to it.
    """
    rows = np.random.default_rng(1000 + epoch).permutation(SAMPLES)
    rows = rows[rows >= 20] if epoch == 0 else rows
    seen = np.concatenate([rows, SAMPLES + rows[:31]])
    ranks = num_ranks - 1 if epoch == 2 and num_ranks > 1 else num_ranks
    own = seen[rank::ranks] if rank < ranks else seen[:0]
    yield from np.array_split(own, 4)


def measure(calculator, epoch, rank, num_ranks, parts=slice(None)):
    """One epoch, or some of its batches; one sample has measurements that do not count."""
    for seen in [*batches_of(epoch, rank, num_ranks)][parts]:
        logits, rows = logits_of(epoch, seen), seen % SAMPLES
        if epoch == 1:
            logits[rows == 100] = float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of the one that is left out
            calculator.accumulate(logits, torch.tensor(TARGETS[rows]), [IDS[row] for row in rows.tolist()])


def train(calculator, rank, num_ranks, epochs=range(EPOCHS)):
    for epoch in epochs:
        measure(calculator, epoch, rank, num_ranks)
        calculator.end_epoch()
    return calculator


def message_of(call):
    try:
        call()
    except Exception as error:  # noqa: BLE001 # to be compared, whatever it is
        return f"{type(error).__name__}: {error}"
    return "nothing raised"


class Job:
    def __init__(self, folder, made_before):
        self.folder, self.rank, self.size = folder, dist.get_rank(), dist.get_world_size()
        self.told = {}
        self.made_before = made_before

    def calculator(self, name, **options):
        options = {"scores": SCORES, "noise_posterior": True, **options}
        return AUMCalculator(self.folder / name, **options)

    def whole_trainings(self):
        train(self.calculator("judged"), self.rank, self.size).finalize()
        train(self.calculator("on disk", noise_posterior="on_disk"), self.rank, self.size).finalize()
        train(self.calculator("records", compressed=False), self.rank, self.size).finalize()
        last = train(self.calculator("last"), self.rank, self.size, range(EPOCHS - 1))
        measure(last, EPOCHS - 1, self.rank, self.size)
        last.finalize()  # which ends the epoch
        last.finalize()  # and changes nothing the second time

    def taken_up(self):
        """Saved within an epoch and taken up again, by a state dict and from a file."""
        for name in ("state", "file"):
            calculator = train(self.calculator(f"by {name}"), self.rank, self.size, range(4))
            measure(calculator, 4, self.rank, self.size, slice(2))
            state = calculator.state_dict()
            calculator.save(self.folder / f"saved{self.rank}.npz")
            measure(calculator, 5, self.rank, self.size)  # lost
            if name == "state":
                calculator = self.calculator(f"by {name}")
                calculator.load_state_dict(state)
            else:
                calculator = AUMCalculator.load(self.folder / f"saved{self.rank}.npz")
            measure(calculator, 4, self.rank, self.size, slice(2, None))
            calculator.end_epoch()
            train(calculator, self.rank, self.size, range(5, EPOCHS)).finalize()

    def states_that_do_not_fit(self):
        calculator = train(self.calculator("fit"), self.rank, self.size, range(2))
        before = calculator.state_dict()
        other = self.calculator("other", scores=["confidence"], noise_posterior=False)
        self.told["other state"] = message_of(lambda: calculator.load_state_dict(other.state_dict()))
        plain = AUMCalculator(self.folder / "plain")
        self.told["plain state"] = message_of(lambda: calculator.load_state_dict(plain.state_dict()))
        self.told["state of ranks"] = message_of(lambda: plain.load_state_dict(before))
        short = {**before, "totals.counts": before["totals.counts"][:-1]}
        self.told["short state"] = message_of(lambda: calculator.load_state_dict(short))
        after = calculator.state_dict()
        self.told["unchanged"] = all(torch.equal(before[name], after[name]) for name in before)
        train(calculator, self.rank, self.size, [2])

    def look(self):
        calculator = train(self.calculator("look"), self.rank, self.size, range(2))
        if not self.rank:
            self.told["epochs"] = calculator.all_ranks.scores.describe()["epochs"]
            self.told["posterior"] = len(calculator.all_ranks.noise_posterior().probabilities)
            self.told["aligned"] = len(calculator.all_ranks.totals)
            self.told["left out"] = calculator.all_ranks.totals.left_out
        else:
            self.told["all_ranks"] = message_of(lambda: calculator.all_ranks)
        self.told["scores"] = message_of(lambda: calculator.scores)
        self.told["noise_posterior"] = message_of(calculator.noise_posterior)
        self.told["add_totals"] = message_of(lambda: calculator.add_totals(merge_ranks(calculator, dst=None)))
        self.told["add_epoch"] = message_of(lambda: calculator.add_epoch(None))
        self.told["needs"] = [calculator.needs.softmax, calculator.needs.logits]
        calculator.finalize(self.folder / f"without{self.rank}", merge=False)

    def alone(self):
        """Every rank has all batches, in a calculator that goes its own way."""
        calculator = train(self.calculator(f"alone{self.rank}", merge=False), 0, 1)
        self.told["own posterior"] = len(calculator.noise_posterior().probabilities)
        calculator.finalize()

    def search(self):
        """On one rank alone, while the others do nothing."""

        def learn(targets, num_classes, calculator):
            for epoch in range(EPOCHS):
                rows = np.random.default_rng(epoch).permutation(SAMPLES)
                calculator.accumulate(logits_of(epoch, rows), torch.tensor(targets[rows]), rows)
                calculator.end_epoch()

        if self.rank == 1:
            findings = find_by_posterior(learn, TARGETS, CLASSES, save_dir=self.folder / "search")
            self.told["found"] = int((findings.flagged & (TARGETS != TRUTH)).sum())

    def disagree(self):
        labels = self.calculator("labels", scores=["correctness"], noise_posterior=False)
        labels.accumulate(torch.eye(3), torch.tensor([0, 1, 2 if self.rank else 1]), [5, 7, 9])
        self.told["labels"] = message_of(labels.end_epoch)
        self.told["labels in the end"] = message_of(labels.finalize)
        self.told["in progress still"] = len(labels._rank_scores.collector.epoch()[0])
        wide = self.calculator("wide")
        wide.accumulate(torch.eye(3 + self.rank), torch.arange(3 + self.rank), np.arange(3 + self.rank))
        self.told["classes"] = message_of(wide.end_epoch)
        others = self.calculator("others", scores=["correctness" if self.rank else "confidence"])
        others.accumulate(torch.eye(3), torch.arange(3), np.arange(3))
        self.told["options"] = message_of(others.end_epoch)
        uneven = self.calculator("uneven")
        self.told["uneven"] = message_of(uneven.end_epoch if self.rank else uneven.finalize)
        self.told["before"] = message_of(self.made_before.finalize)
        self.told["still works"] = message_of(self.calculator("still").finalize)

    def forget_to_end_epochs(self):
        calculator = self.calculator("forgotten", scores=["confidence"], noise_posterior=False)
        for epoch in range(3):
            measure(calculator, epoch, self.rank, self.size)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            calculator.finalize()
        self.told["forgotten"] = [str(each.message) for each in found]


def main():
    folder = Path(sys.argv[1])
    made_before = AUMCalculator(folder / "before", scores=["correctness"])
    dist.init_process_group("gloo")
    job = Job(folder, made_before)
    job.whole_trainings()
    job.taken_up()
    job.states_that_do_not_fit()
    job.look()
    job.alone()
    job.search()
    job.disagree()
    job.forget_to_end_epochs()
    over = train(job.calculator("over"), job.rank, job.size, range(1))
    dist.barrier()
    dist.destroy_process_group()
    job.told["over"] = message_of(over.finalize)
    (folder / f"told{job.rank}.json").write_text(json.dumps(job.told))


if __name__ == "__main__":
    main()
