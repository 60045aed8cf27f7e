"""Several workers, real processes: under a strategy that connects them, and each by itself."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aum.command.cli import main
from aum_core import Totals, compute_margins

pytestmark = pytest.mark.slow  # starts processes

WORKER = Path(__file__).with_name("workers.py")
SIZE = 2


def free_ports():
    opened = [socket.socket() for _ in range(SIZE)]
    for each in opened:
        each.bind(("localhost", 0))
    ports = [str(each.getsockname()[1]) for each in opened]
    for each in opened:
        each.close()
    return ports


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The folder of a job that has ended."""
    folder, ports = tmp_path_factory.mktemp("workers"), ",".join(free_ports())
    processes = [
        subprocess.Popen([sys.executable, WORKER, folder, ports, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(SIZE)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * SIZE, errors
    return folder


def assert_whole(totals):
    logits = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    margins = compute_margins(logits, np.arange(30) % 3).margin.astype(np.float64)
    assert totals.sample_ids.tolist() == list(range(30))
    np.testing.assert_array_equal(totals.counts, np.full(30, 2))
    np.testing.assert_array_equal(totals.sums, 2 * margins)


def test_a_strategy_over_workers_gives_each_of_them_everything(job):
    for rank in range(SIZE):
        assert_whole(Totals.load(job / f"together{rank}.npz"))


def test_everything_twice_is_not_merged(job, capsys):
    both = [str(job / f"together{rank}.npz") for rank in range(SIZE)]
    assert main(["merge", *both, "--out", str(job / "twice")]) == 2
    assert "would count twice" in capsys.readouterr().err


def test_files_of_workers_apart_merge(job):
    assert len(Totals.load(job / "job/totals_rank0.npz")) == 15
    assert main(["merge", str(job / "job"), "--out", str(job / "merged")]) == 0
    assert_whole(Totals.load(job / "merged/totals.npz"))
