"""Totals of several processes, real ones that `jax.distributed` connects."""

import json
import os
import socket
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from aum.jax import AUMCalculator, Totals, init, merge_processes, to_totals

pytestmark = pytest.mark.slow  # starts processes

WORKER = Path(__file__).with_name("processes.py")
SIZE = 2


def worker():
    spec = spec_from_file_location("processes", WORKER)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module", params=[False, True], ids=["x64 off", "x64 on"])
def job(request, tmp_path_factory):
    """The folder of a job that has ended, and what its processes told."""
    folder, port = tmp_path_factory.mktemp("processes"), free_port()
    environ = {**os.environ, "JAX_ENABLE_X64": str(request.param)}
    environ.pop("XLA_FLAGS", None)
    processes = [
        subprocess.Popen(
            [sys.executable, WORKER, folder, str(port), str(rank)], env=environ, stderr=subprocess.PIPE, text=True
        )
        for rank in range(SIZE)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * SIZE, errors
    told = [json.loads((folder / f"told{rank}.json").read_text()) for rank in range(SIZE)]
    assert told[0] == told[1]
    assert told[0]["x64"] == request.param
    return folder, told[0]


def assert_same(one, other):
    ours, theirs = one.to_arrays(), other.to_arrays()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], name)


@pytest.mark.parametrize("kind", ["rows", "beyond 64 bits", "strings", "mixed"])
def test_two_processes_give_the_bits_of_one(job, kind):
    folder, told = job
    whole = worker().measured(kind, 0, 1).totals.sorted()
    assert (whole.sums != whole.sums.astype(np.float32)).any()  # or float32 would pass
    for rank in range(SIZE):
        assert_same(Totals.load(folder / f"{kind} {rank}.npz"), whole)
    assert told[f"idempotent {kind}"]


def test_states_on_devices(job):
    folder, _ = job
    parts = [to_totals(worker().on_device(rank, SIZE)) for rank in range(SIZE)]
    for name, shards in (("state", parts), ("half", parts[1:])):
        merged = [Totals.load(folder / f"{name} {rank}.npz") for rank in range(SIZE)]
        assert_same(*merged)
        wanted = Totals()
        for shard in shards:
            wanted.include(shard)
        np.testing.assert_array_equal(merged[0].counts, wanted.sorted().counts)
        np.testing.assert_allclose(merged[0].sums, wanted.sorted().sums, rtol=1e-12)


def test_what_is_wrong_in_one_process_is_raised_by_all(job):
    _, told = job
    assert told["nothing"] == 0
    assert told["options"] == (
        "ValueError: nonfinite is leave_out on process 0 and raise on process 1, want the same on all"
    )
    wanted = "ValueError: on process 1: TypeError: measured: list, want a calculator or aum_core.Totals"
    assert told["type"] == wanted
    assert told["names"].startswith("ValueError: on process 0 (and on 1 others): ValueError: sample_ids: ")
    assert told["still works"] == 30


def test_alone_the_totals_are_the_own_ones(tmp_path):
    calculator = AUMCalculator(tmp_path)
    calculator.accumulate(np.eye(3, dtype=np.float32), [0, 1, 1], [5, 3, 9])
    merged = merge_processes(calculator)
    assert merged.sample_ids.tolist() == [3, 5, 9]
    merged.add([3], [1.0])
    assert calculator.counts[3] == 1
    assert len(merge_processes(init(3))) == 0
    with pytest.raises(ValueError, match="sample_ids: they name the rows of a state"):
        merge_processes(calculator, ["a"])
