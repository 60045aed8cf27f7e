"""A calculator in a PyTorch checkpoint."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from aum.torch import AUMCalculator


def batches(ids, count=8):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        chosen = torch.randint(len(ids), (6,), generator=generator).tolist()
        yield (
            torch.randn(6, 4, generator=generator),
            torch.randint(4, (6,), generator=generator),
            [ids[i] for i in chosen],
        )


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("ids", [list(range(9)), ["a", "b", "c"], [2**70, "a", -1]])
def test_a_checkpoint_of_weights_only_goes_on_to_the_same_bytes(tmp_path, compressed, ids):
    whole = AUMCalculator(tmp_path / "whole", compressed)
    for batch in batches(ids):
        whole.accumulate(*batch)
    whole.finalize()
    calculator = AUMCalculator(tmp_path / "run", compressed)
    for number, batch in enumerate(batches(ids)):
        if number == 5:
            torch.save({"aum": calculator.state_dict(), "epoch": 5}, tmp_path / "checkpoint.pt")
        calculator.accumulate(*batch)
    resumed = AUMCalculator(tmp_path / "run", compressed)
    resumed.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["aum"])
    for batch in [*batches(ids)][5:]:
        resumed.accumulate(*batch)
    resumed.finalize()
    for path in (tmp_path / "whole").iterdir():
        if path.suffix != "" and path.name != "run.json":
            assert (tmp_path / "run" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_state_dict_is_a_copy(tmp_path):
    calculator = AUMCalculator(tmp_path)
    calculator.accumulate(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), ["a"])
    state = calculator.state_dict()
    calculator.accumulate(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), ["a"])
    assert {type(each) for each in state.values()} == {torch.Tensor}
    assert state["totals.counts"].tolist() == [1]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_state_that_does_not_fit_changes_nothing(tmp_path, compressed):
    other = AUMCalculator(tmp_path / "other", not compressed).state_dict()
    calculator = AUMCalculator(tmp_path / "run", compressed)
    calculator.accumulate(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), ["a"])
    with pytest.raises(ValueError, match=f"compressed': {compressed}"):
        calculator.load_state_dict(other)
    broken = calculator.state_dict()
    broken["totals.sums"] = broken["totals.sums"][:0]
    with pytest.raises(ValueError, match="do not go together"):
        calculator.load_state_dict(broken)
    assert dict(calculator.counts) == {"a": 1}


def test_without_pyarrow_the_calculator_says_so_when_it_is_made(tmp_path):
    code = """
import sys
sys.modules["pyarrow"] = None  # as if it were not installed
import aum.torch
aum.torch.AUMCalculator("run")
try:
    aum.torch.AUMCalculator("run", compressed=False)
except ModuleNotFoundError as error:
    assert str(error) == "records on disk (compressed=False) need pyarrow: pip install pyarrow", error
    assert error.name == "pyarrow"
else:
    raise AssertionError("made")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_pyarrow_is_loaded_for_records_alone(tmp_path):
    code = """
import sys
import aum.torch
aum.torch.AUMCalculator("run")
assert "pyarrow" not in sys.modules
aum.torch.AUMCalculator("run", compressed=False)
assert "pyarrow" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_rank_of_a_process_group_has_parts_of_its_own(tmp_path):
    store = torch.distributed.HashStore()  # type: ignore[attr-defined] # it is there
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        calculator = AUMCalculator(tmp_path, compressed=False)
    finally:
        torch.distributed.destroy_process_group()
    calculator.accumulate(torch.tensor([[2.0, 0.5]]), torch.tensor([0]), np.array([7]))
    calculator.finalize()
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["rank0-part000000.parquet"]
