"""Scores and the noise posterior of several ranks: those of one process, to rounding."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aum.torch import AUMCalculator

pytestmark = pytest.mark.slow  # starts processes

WORKER = Path(__file__).with_name("score_ranks.py")
WHOLE = ["judged", "on disk", "records", "last", "by state", "by file"]


def worker():
    spec = importlib.util.spec_from_file_location("score_ranks", WORKER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_csv(path):
    """Rows by sample id: those that are as suspicious as another may come in another order."""
    with open(path, newline="") as file:
        return {row["sample_id"]: row for row in csv.DictReader(file)}


def read_run(folder):
    return json.loads((folder / "run.json").read_text())


class Finished:
    def __init__(self, folder, size):
        self.folder, self.size = folder, size
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
        done = subprocess.run([*launcher, WORKER, folder], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        self.told = [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(size)]

    def on_all(self, name):
        told = [each[name] for each in self.told]
        assert told == told[:1] * self.size
        return told[0]


@pytest.fixture(scope="module", params=[2, 3])
def job(request, tmp_path_factory):
    return Finished(tmp_path_factory.mktemp(f"ranks{request.param}"), request.param)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process makes of the same batches."""
    whole = worker()
    folder = tmp_path_factory.mktemp("one process")
    calculator = AUMCalculator(folder, compressed=False, scores=whole.SCORES, noise_posterior=True)
    whole.train(calculator, 0, 1).finalize()
    return folder


@pytest.mark.parametrize("name", WHOLE)
def test_the_ranking_has_the_bytes_of_one_process(job, alone, name):
    assert (job.folder / name / "aum_values.csv").read_bytes() == (alone / "aum_values.csv").read_bytes()


@pytest.mark.parametrize("name", WHOLE)
def test_scores_are_those_of_one_process(job, alone, name):
    ours, theirs = read_csv(job.folder / name / "scores.csv"), read_csv(alone / "scores.csv")
    assert list(ours) == list(theirs)
    for score in worker().SCORES:
        found, wanted = ([float(row[score]) for row in rows.values()] for rows in (ours, theirs))
        exact = score in ("correctness", "forgetting", "bounded_aum")
        np.testing.assert_allclose(found, wanted, rtol=1e-12 if exact else 1e-6, atol=1e-7, err_msg=score)


@pytest.mark.parametrize("name", WHOLE)
def test_the_noise_posterior_is_that_of_one_process(job, alone, name):
    ours, theirs = (read_csv(folder / "noise_posterior.csv") for folder in (job.folder / name, alone))
    assert ours.keys() == theirs.keys()
    for column in next(iter(theirs.values())):
        found, wanted = ([rows[each][column] for each in theirs] for rows in (ours, theirs))
        if column == "probability_wrong":
            np.testing.assert_allclose([*map(float, found)], [*map(float, wanted)], rtol=1e-5, atol=1e-7)
        else:
            assert found == wanted, column


@pytest.mark.parametrize("name", WHOLE)
def test_the_run_tells_what_one_process_would(job, alone, name):
    ours, theirs = read_run(job.folder / name), read_run(alone)
    for key in ("samples", "measurements", "measurements_per_sample", "left_out"):
        assert ours[key] == theirs[key]
    assert ours["options"]["scores"] == theirs["options"]["scores"]
    ours, theirs = ours["scores"], theirs["scores"]
    assert ours["names"] == theirs["names"]
    assert ours["epochs"] == theirs["epochs"] == worker().EPOCHS
    window, other_window = ours["averaging_window"], theirs["averaging_window"]
    assert (window["epochs"], window["closed"]) == (other_window["epochs"], other_window["closed"])
    assert window["closed"]
    assert window["early_noise"] == pytest.approx(other_window["early_noise"])


def test_a_training_that_was_taken_up_ends_with_the_same_bytes(job):
    for name in ("by state", "by file", "last"):
        for file in ("scores.csv", "noise_posterior.csv", "transition.csv"):
            assert (job.folder / name / file).read_bytes() == (job.folder / "judged" / file).read_bytes(), (name, file)


def test_a_state_that_does_not_fit_changes_nothing(job):
    assert job.on_all("other state").startswith("ValueError: epoch: its arrays contradict")
    assert job.on_all("plain state").startswith("ValueError: epoch: its arrays contradict")
    for told in job.told:
        assert "want ['totals']" in told["state of ranks"]
        assert "samples and totals of" in told["short state"]
    assert job.on_all("unchanged")


def test_rank_0_can_look_at_the_scores_and_the_others_are_told_so(job):
    first, *others = job.told
    assert (first["epochs"], first["posterior"], first["aligned"], first["left out"]) == (2, 240, 240, 1)
    assert all("all_ranks is kept only on rank 0" in told["all_ranks"] for told in others)
    assert "AttributeError: scores: those of several ranks are calculator.all_ranks.scores" in job.on_all("scores")
    assert "calculator.all_ranks.noise_posterior(), on rank 0" in job.on_all("noise_posterior")
    assert job.on_all("add_totals").startswith("ValueError: totals: they have no other scores")
    assert job.on_all("add_epoch").startswith("ValueError: epoch: several ranks add theirs up by themselves")
    assert job.on_all("needs") == [True, True]


def test_one_rank_alone_has_no_scores(job):
    for rank in range(job.size):
        files = {path.name for path in (job.folder / f"without{rank}").iterdir()}
        assert files == {"totals.npz", "aum_values.csv", "run.json"}


def test_a_calculator_that_goes_its_own_way(job, alone):
    assert job.on_all("own posterior") == 240
    for rank in range(job.size):
        for file in ("aum_values.csv", "scores.csv", "noise_posterior.csv"):
            assert (job.folder / f"alone{rank}" / file).read_bytes() == (alone / file).read_bytes()


def test_a_search_on_one_rank_waits_for_nobody(job):
    assert job.told[1]["found"] > 20  # of 24


def test_what_does_not_go_together_is_told_on_every_rank(job):
    words = "targets: sample 9 has target 2, and 1 before; scores go with one label"
    assert job.on_all("labels") == f"ValueError: {words}"
    assert all(told["labels in the end"].startswith(f"ValueError: finalize: {words}; what ranks") for told in job.told)
    assert job.on_all("in progress still") == 3
    files = {path.name for path in (job.folder / "labels").iterdir()}
    assert files == {f"totals_rank{rank}.npz" for rank in range(job.size)}
    assert (
        job.on_all("classes") == "ValueError: logits: 3 classes on process 0 and 4 on process 1, want the same on all"
    )
    assert "scores is ['confidence'] on process 0 and ['correctness'] on process 1" in job.on_all("options")
    for told in job.told:
        assert "call is finalize on process 0 and end_epoch on process 1, want the same on all" in told["uneven"]
        assert "the calculator was made before the job had several ranks" in told["before"]
    assert job.on_all("still works") == "nothing raised"


def test_epochs_that_nobody_ended_are_told_of(job):
    (warning,) = job.told[0]["forgotten"]
    assert "most samples were measured 3 times" in warning
    assert "want calculator.end_epoch() at the end of every epoch, on every rank" in warning
    assert [told["forgotten"] for told in job.told[1:]] == [[]] * (job.size - 1)
    assert (job.folder / "forgotten" / "scores.csv").exists()


def test_a_job_that_has_ended_has_no_scores(job):
    assert "the job of several ranks has ended, and the scores with it" in job.on_all("over")
