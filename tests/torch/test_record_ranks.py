"""Records of several ranks, from real processes that torchrun starts: one run, resumed, numbered together."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import aum_core
from aum.parquet import read_records
from aum.torch import AUMCalculator

pytestmark = pytest.mark.slow  # starts processes

WORKER = Path(__file__).with_name("record_ranks.py")


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_ranks_leave_the_files_of_one_process(tmp_path, num_ranks):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_ranks}"]
    done = subprocess.run([*launcher, WORKER, tmp_path], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(WORKER.parent))
    try:
        from record_ranks import batches, feed
    finally:
        sys.path.pop(0)
    alone = AUMCalculator(tmp_path / "alone", compressed=False)
    feed(alone, batches(), 0, 1)
    alone.finalize()
    for name in ("aum_values.csv", "full_aum_records.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    assert read_records(tmp_path / "run").ranks == [*range(num_ranks)]
    assert {path.name for path in tmp_path.glob("told*")} == {f"told{rank}" for rank in range(1, num_ranks)}
    assert "of rank 0, and this is rank 1: want each rank to save and load its own" in (tmp_path / "told1").read_text()
    alone = AUMCalculator(tmp_path / "alone")
    alone.load_state_dict(torch.load(tmp_path / "state1.pt", weights_only=True))
    assert list(alone.counts) == [1, 5, 6]
    assert aum_core.AUMCalculator.load(tmp_path / "state1.npz").counts[1] == 1
