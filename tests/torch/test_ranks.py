"""Totals of several ranks, from real processes that torchrun starts and gloo connects."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, TensorDataset

from aum.torch import AUMCalculator, Totals, mark_padding, merge_ranks
from aum_core import read_aum_values

pytestmark = pytest.mark.slow  # starts processes

WORKER = Path(__file__).with_name("ranks.py")
KINDS = ("rows", "sparse", "beyond 64 bits", "strings", "mixed")


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


class Finished:
    """A job that several ranks have run, and what they left."""

    def __init__(self, folder, size):
        self.folder, self.size = folder, size
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
        done = subprocess.run([*launcher, WORKER, folder], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        self.told = [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(size)]

    def on_all(self, name):
        """What every rank told, and the same."""
        told = [each[name] for each in self.told]
        assert told == told[:1] * self.size
        return told[0]


@pytest.fixture(scope="module", params=[2, 4])
def job(request, tmp_path_factory):
    return Finished(tmp_path_factory.mktemp(f"ranks{request.param}"), request.param)


def alone(kind):
    """What one process makes of the same stream."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("ranks", WORKER)
    worker = module_from_spec(spec)
    spec.loader.exec_module(worker)
    return worker.measured(kind, 0, 1)


def assert_same(one, other):
    ours, theirs = one.to_arrays(), other.to_arrays()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], name)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_ranks_gives_the_bits_of_one_process(job, kind):
    whole = alone(kind).totals.sorted()
    for rank in range(job.size):
        assert_same(Totals.load(job.folder / f"{kind} {rank}.npz"), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_changes_nothing_and_can_be_done_again(job, kind):
    assert job.on_all(f"unchanged {kind}")
    assert job.on_all(f"idempotent {kind}")
    assert job.on_all(f"last {kind}")


@pytest.mark.parametrize("kind", ["rows", "strings"])
def test_ranks_that_measured_nothing(job, kind):
    whole = alone(kind).totals.sorted()
    for who in (0, job.size - 1):
        for rank in range(job.size):
            assert_same(Totals.load(job.folder / f"only {who} {kind} {rank}.npz"), whole)
    assert job.on_all("all empty") == 0


def test_what_is_wrong_on_one_rank_is_raised_by_all(job):
    assert job.on_all("options") == (
        "ValueError: nonfinite is leave_out on process 0 and raise on process 1, want the same on all"
    )
    assert job.on_all("dst") == "ValueError: dst is 0 on process 0 and 1 on process 1, want the same on all"
    assert job.on_all("dst range") == f"ValueError: dst: 9, want None or a rank in [0, {job.size})"
    wanted = "ValueError: on process 1: TypeError: measured: list, want a calculator or aum_core.Totals"
    assert job.on_all("type") == wanted
    assert job.on_all("still works") == 60


def test_a_folder_that_one_rank_cannot_write_to(job):
    for rank, told in enumerate(job.told):
        assert told["folder"].startswith("ValueError: finalize: on process 1: FileExistsError: ")
        assert told["folder"].endswith(
            f"what ranks measured is in files such as {job.folder}/blocked{rank}/totals_rank{rank}.npz, of which "
            "`aum merge` makes one"
        )
        assert (job.folder / f"blocked{rank}/totals_rank{rank}.npz").exists() == (rank != 1)
        assert not (job.folder / f"blocked{rank}/aum_values.csv").exists()


def test_a_rank_that_never_comes_is_an_error_and_no_hang(job):
    wanted = f"TimeoutError: not all of the {job.size} ranks came within 1 s, want a call on each of them"
    assert job.told[0]["alone"] == wanted


def test_merging_within_groups(job):
    if job.size == 4:
        assert [told["group"] for told in job.told] == [[0, 1], [0, 1], [2, 3], [2, 3]]


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_finalize_on_every_rank_writes_one_ranking(job, name):
    folder = job.folder / name
    shards = {f"totals_rank{rank}.npz" for rank in range(job.size)}
    files = {"totals.npz", "aum_values.csv", "run.json", "full_aum_records.csv", "records", "scores.csv"}
    assert {path.name for path in folder.iterdir()} == shards | files
    totals = Totals.load(folder / "totals.npz")
    assert totals.sample_ids.tolist() == list(range(101))
    merged = Totals()
    for shard in shards:
        merged.include(Totals.load(folder / shard))
    assert_same(merged.sorted(), totals)
    ids, aums = read_aum_values(folder / "aum_values.csv")
    np.testing.assert_array_equal(aums, totals.aums[[int(each) for each in ids]])
    run = json.loads((folder / "run.json").read_text())
    assert (run["framework"], run["samples"], run["measurements"]) == ("torch", 101, 202)
    assert [each["samples"] for each in run["per_rank"]] == [told[f"{name} own"] for told in job.told]


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_records_and_other_scores_are_those_of_all_ranks(job, name):
    folder = job.folder / name
    records = read_csv(folder / "full_aum_records.csv")
    assert [(int(each["sample_id"]), int(each["num_measurements"])) for each in records] == [
        (row, times) for row in range(101) for times in (1, 2)
    ]
    totals = Totals.load(folder / "totals.npz")
    np.testing.assert_array_equal([float(each["aum"]) for each in records[1::2]], totals.aums)
    found = {int(each["sample_id"]): float(each["confidence"]) for each in read_csv(folder / "scores.csv")}
    wanted = np.load(job.folder / f"{name} confidence 0.npy")
    np.testing.assert_allclose([found[row] for row in range(101)], wanted, rtol=1e-5)
    assert json.loads((folder / "run.json").read_text())["scores"]["names"] == ["confidence"]


def test_finalize_judges_the_labels_by_what_all_ranks_measured(job):
    judged = read_csv(job.folder / "judged" / "noise_posterior.csv")
    assert len(judged) == 240
    assert {int(each["sample_id"]) for each in judged if each["flagged"] == "1"} == set(range(24))
    scores = {int(each["sample_id"]): float(each["el2n"]) for each in read_csv(job.folder / "judged" / "scores.csv")}
    other, own = np.exp(0) / (np.exp(4) + 3), np.exp(4) / (np.exp(4) + 3)
    right, wrong = np.hypot(1 - own, 3**0.5 * other), np.sqrt((1 - other) ** 2 + own**2 + 2 * other**2)
    np.testing.assert_allclose([scores[row] for row in range(240)], [wrong] * 24 + [right] * 216, rtol=1e-6)


def test_records_on_different_disks_are_told_of(job):
    (told,) = job.told[0]["disks"]
    assert f"disk0/full_aum_records.csv is not written: {job.folder}/disk0 has 3 of {3 * job.size} records" in told
    assert (job.folder / "disk0/aum_values.csv").exists()
    assert [each["disks"] for each in job.told[1:]] == [[]] * (job.size - 1)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_padding_is_reported_and_can_be_left_out(job, name):
    careful, careless = (
        json.loads((job.folder / each / "run.json").read_text()) for each in (name, f"{name} careless")
    )
    assert careful["measurements_per_sample"] == {"min": 2, "max": 2, "usual": 2, "unusual_samples": 0}
    padding = -101 % job.size  # an epoch
    assert careless["measurements"] == 2 * (101 + padding)
    assert careless["measurements_per_sample"]["max"] > 2
    assert 0 < careless["measurements_per_sample"]["unusual_samples"] <= 2 * padding
    # with a learning rate of 0 a repeat has the same margin
    first, second = (Totals.load(job.folder / each / "totals.npz") for each in (name, f"{name} careless"))
    np.testing.assert_allclose(first.aums, second.aums, rtol=1e-6)


def test_a_search_over_ranks_finds_the_same_on_all(job):
    assert set(range(6)) <= set(job.on_all("flagged"))
    assert job.on_all("measured") == 2 * 120


def test_finalize_of_a_rank_alone(job):
    for rank in range(job.size):
        folder = job.folder / f"alone{rank}"
        assert {path.name for path in folder.iterdir()} == {"totals.npz", "aum_values.csv", "run.json"}


def test_without_a_job_the_totals_are_the_own_ones(tmp_path):
    calculator = AUMCalculator(tmp_path)
    calculator.accumulate(torch.eye(3), torch.tensor([0, 1, 1]), [5, 3, 9])
    for dst in (0, None):
        merged = merge_ranks(calculator, dst=dst)
        assert merged.sample_ids.tolist() == [3, 5, 9]
        merged.add([3], [1.0])
    assert calculator.counts[3] == 1
    with pytest.raises(ValueError, match=r"dst: 1, want None or a rank in \[0, 1\)"):
        merge_ranks(calculator, dst=1)
    with pytest.raises(ValueError, match="TypeError: measured: float, want a calculator"):
        merge_ranks(1.0)


def test_files_of_an_earlier_job_with_more_ranks_go(tmp_path):
    from aum.torch.rank_files import _remove_files_of_more_ranks

    names = ["totals_rank0.npz", "totals_rank1.npz", "totals_rank2.npz", "totals_rank12.npz", "totals_rank_mine.npz"]
    for name in names:
        (tmp_path / name).touch()
    _remove_files_of_more_ranks(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["totals_rank0.npz", "totals_rank1.npz", names[-1]]


@pytest.mark.parametrize("num_samples", [1, 5, 8, 23])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_sample_is_real_once(num_samples, num_ranks, drop_last):
    data = TensorDataset(torch.arange(num_samples))
    seen = []
    for rank in range(num_ranks):
        sampler = DistributedSampler(data, num_ranks, rank, shuffle=True, drop_last=drop_last)
        for (ids,), real in mark_padding(DataLoader(data, batch_size=2, sampler=sampler)):
            seen += ids[real].tolist()
    assert len(set(seen)) == len(seen)
    assert drop_last or sorted(seen) == list(range(num_samples))


def test_loaders_whose_padding_nobody_knows():
    data = TensorDataset(torch.arange(5))
    with pytest.raises(TypeError, match="loader: its sampler is a RandomSampler, want a DistributedSampler"):
        mark_padding(DataLoader(data, sampler=RandomSampler(data)))
    sampler = DistributedSampler(data, 2, 0)
    with pytest.raises(ValueError, match="loader: it has no batch_size"):
        mark_padding(DataLoader(data, batch_size=None, sampler=sampler))
