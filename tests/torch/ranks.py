"""What each rank of a job does, started by torchrun: ranks.py FOLDER. Leaves files for test_ranks.py to look at."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import aum_core
from aum.torch import AUMCalculator, DatasetWithIndex, Totals, find_mislabeled, mark_padding, merge_ranks

warnings.simplefilter("error")
KINDS = ("rows", "sparse", "beyond 64 bits", "strings", "mixed")
BATCHES = 40


def ids_of(kind):
    """Sixty different ids of a kind."""
    generator = np.random.default_rng(7)
    if kind == "rows":
        return list(range(60))
    sparse = generator.integers(-(2**62), 2**62, 60).tolist()
    strings = [f"image {each}.png\N{SNOWMAN}" for each in sparse]
    others = {"sparse": sparse, "strings": strings, "beyond 64 bits": [each * 2**40 for each in sparse]}
    return others.get(kind) or [*strings[:30], *sparse[:30]]


def stream(kind):
    """Batches of float32 logits, targets and ids; some ids are there twice in a batch."""
    generator, ids = np.random.default_rng(0), ids_of(kind)
    for _ in range(BATCHES):
        size = int(generator.integers(1, 30))
        logits = (generator.normal(size=(size, 5)) * 10).astype(np.float32)
        yield logits, generator.integers(0, 5, size), [ids[i] for i in generator.integers(0, 60, size)]


def measured(kind, rank, num_ranks):
    """The totals of this rank's uneven share of the stream: the first rank has twice as many batches as the others."""
    calculator = AUMCalculator("nowhere")
    for number, batch in enumerate(stream(kind)):
        if number % (num_ranks + 1) % num_ranks == rank:
            calculator.accumulate(torch.from_numpy(batch[0]), torch.from_numpy(batch[1]), batch[2])
    return calculator


def message_of(call):
    """The type and words of what a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 # to be compared, whatever it is
        return f"{type(error).__name__}: {error}"
    return "nothing raised"


def same(one, other):
    ours, theirs = one.to_arrays(), other.to_arrays()
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


class Job:
    def __init__(self, folder):
        self.folder, self.rank, self.size = folder, dist.get_rank(), dist.get_world_size()
        self.told = {}

    def merge_streams(self):
        for kind in KINDS:
            calculator = measured(kind, self.rank, self.size)
            before = calculator.totals.to_arrays()
            on_all = merge_ranks(calculator, dst=None)
            again = merge_ranks(calculator.totals)
            last = merge_ranks(calculator, dst=self.size - 1)
            on_all.save(self.folder / f"{kind} {self.rank}.npz")
            after = calculator.totals.to_arrays()
            self.told[f"unchanged {kind}"] = all(np.array_equal(before[name], after[name]) for name in before)
            self.told[f"idempotent {kind}"] = again is None if self.rank else same(on_all, again)
            self.told[f"last {kind}"] = same(on_all, last) if self.rank == self.size - 1 else last is None

    def merge_where_some_are_empty(self):
        for kind in ("rows", "strings"):
            for who in (0, self.size - 1):
                own = measured(kind, 0, 1).totals if self.rank == who else Totals()
                merge_ranks(own, dst=None).save(self.folder / f"only {who} {kind} {self.rank}.npz")
        self.told["all empty"] = len(merge_ranks(Totals(), dst=None))

    def disagree(self):
        nonfinite = "raise" if self.rank == 1 else "leave_out"
        calculator = AUMCalculator("nowhere", nonfinite=nonfinite)
        self.told["options"] = message_of(lambda: merge_ranks(calculator))
        self.told["dst"] = message_of(lambda: merge_ranks(Totals(), dst=self.rank))
        self.told["dst range"] = message_of(lambda: merge_ranks(Totals(), dst=9))
        self.told["type"] = message_of(lambda: merge_ranks([1.0] if self.rank == 1 else Totals()))
        blocked = self.folder / f"blocked{self.rank}"
        if self.rank == 1:
            blocked.write_text("a file where the folder should be")
        self.told["folder"] = message_of(lambda: AUMCalculator(blocked).finalize())
        self.told["still works"] = len(merge_ranks(measured("rows", self.rank, self.size), dst=None))

    def wait_in_vain(self):
        if self.rank == 0:
            self.told["alone"] = message_of(lambda: merge_ranks(Totals(), timeout=1.0))
        dist.barrier()

    def merge_within_groups(self):
        if self.size < 4:
            return
        pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
        own = Totals()
        own.add([self.rank], [1.0])
        merged = merge_ranks(own, dst=None, group=pairs[self.rank // 2])
        self.told["group"] = merged.sample_ids.tolist()

    def train(self, name, wrap):
        """Two epochs with a learning rate of 0, so that each sample's margin is known; finalize on every rank."""
        torch.manual_seed(0)
        features = torch.randn(101, 8)
        labels = torch.arange(101) % 3
        model = torch.nn.Linear(8, 3)
        confidence = model(features).softmax(1)[torch.arange(101), labels].detach()
        model = wrap(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        data = DatasetWithIndex(TensorDataset(features, labels))
        sampler = DistributedSampler(data, shuffle=True)
        loader = DataLoader(data, batch_size=8, sampler=sampler)
        careful = AUMCalculator(self.folder / name, compressed=False, scores=["confidence"])
        careless = AUMCalculator(self.folder / f"{name} careless")
        for epoch in range(2):
            sampler.set_epoch(epoch)
            for (inputs, targets, ids), real in mark_padding(loader):
                logits = model(inputs)
                careful.accumulate(logits[real], targets[real], ids[real])
                careless.accumulate(logits, targets, ids)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(logits, targets).backward()
                optimizer.step()
            careful.end_epoch()
        careful.finalize()
        careless.finalize()
        np.save(self.folder / f"{name} confidence {self.rank}.npy", confidence.numpy())
        self.told[f"{name} own"] = len(careful.totals)

    def keep_records_on_different_disks(self):
        calculator = AUMCalculator(self.folder / f"disk{self.rank}", compressed=False)
        calculator.accumulate(torch.eye(3), torch.tensor([0, 1, 2]), [self.rank, 1, 2])
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            calculator.finalize()
        self.told["disks"] = [str(each.message) for each in found if each.category is RuntimeWarning]

    def search(self):
        """The whole procedure, each rank with its rows of the data."""
        truth = np.arange(120) % 3
        given = truth.copy()
        given[:6] = (truth[:6] + 1) % 3

        def train(targets, num_classes, calculator):
            own = AUMCalculator("nowhere")
            rows = np.arange(self.rank, len(targets), self.size)
            logits = np.random.default_rng(0).normal(size=(len(targets), num_classes)) + 4 * np.eye(num_classes)[truth]
            own.accumulate(torch.from_numpy(logits.astype(np.float32)[rows]), torch.from_numpy(targets[rows]), rows)
            calculator.add_totals(merge_ranks(own, dst=None))

        findings = find_mislabeled(train, given, 3, save_dir=self.folder / f"search{self.rank}", seed=0)
        self.told["flagged"] = np.flatnonzero(findings.flagged).tolist()
        self.told["measured"] = findings.run["measurements"]

    def judge(self, name, epochs):
        """A net that knows the truth of 240 samples of which 24 have another label; each epoch they are dealt anew."""
        truth = np.arange(240) % 4
        targets = np.where(np.arange(240) < 24, (truth + 1) % 4, truth)
        calculator = AUMCalculator(self.folder / name, scores=["el2n"], noise_posterior=True)
        for epoch in range(epochs):
            rows = np.random.default_rng(epoch).permutation(240)[self.rank :: self.size]
            calculator.accumulate(torch.tensor(4.0 * np.eye(4)[truth[rows]]), torch.tensor(targets[rows]), rows)
            calculator.end_epoch()
        return calculator

    def finalize_alone(self):
        calculator = measured("rows", self.rank, self.size)
        calculator.finalize(self.folder / f"alone{self.rank}", merge=False)
        aum_core.Totals.load(self.folder / f"alone{self.rank}/totals.npz")


def main():
    dist.init_process_group("gloo")
    job = Job(Path(sys.argv[1]))
    job.merge_streams()
    job.merge_where_some_are_empty()
    job.disagree()
    job.merge_within_groups()
    job.train("ddp", DistributedDataParallel)
    job.train("fsdp", lambda model: fully_shard(model, mesh=dist.init_device_mesh("cpu", (job.size,))))  # type: ignore[attr-defined] # it is there
    job.keep_records_on_different_disks()
    job.judge("judged", 8).finalize()
    job.search()
    job.finalize_alone()
    job.wait_in_vain()
    (job.folder / f"told{job.rank}.json").write_text(json.dumps(job.told))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
