import json

import numpy as np
import pytest

import aum_core
from aum_core import accumulate_dynamics

SIZE = 150


def write_epoch(folder, epoch, logits, targets, guids):
    lines = [
        {"guid": guid, f"logits_epoch_{epoch}": row, "gold": int(target)}
        for guid, row, target in zip(guids, logits.tolist(), targets, strict=True)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"dynamics_epoch_{epoch}.jsonl").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("guids", [list(range(SIZE)), [f"ü{i}" for i in range(SIZE)]])
def test_a_logged_training_has_the_aums_of_one_that_was_tracked(framework, tmp_path, guids, dtype, monkeypatch):
    monkeypatch.setattr("aum_core.cartography._LINES", 64)  # a file in several blocks
    tracked, imported = (framework.AUMCalculator(tmp_path, compressed=False) for _ in range(2))
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, SIZE)
    for epoch in range(11):  # the tenth comes after the ninth, not after the first
        order = generator.permutation(SIZE)
        logits = generator.normal(0, 5, (SIZE, 3)).astype(dtype)
        tracked.accumulate(framework.array(logits), framework.array(targets[order]), [guids[i] for i in order])
        write_epoch(tmp_path, epoch, logits, targets[order], [guids[i] for i in order])
    (tmp_path / "something_else.jsonl").write_text("no dynamics")
    accumulate_dynamics(tmp_path, imported, dtype=dtype)
    if framework.name == "jax" and dtype == "float64":
        return  # it has no float64 of its own: what it tracked is rounded
    assert list(imported.records) == list(tracked.records)


GOOD = '{"guid": 1, "logits_epoch_0": [1.0, 2.0], "gold": 1}'
BAD = {
    "no JSON": "{guid: 1",
    "found ['gold', 'guid']": '{"guid": 1, "gold": 1}',
    "want guid, logits_epoch_0 and gold": '{"guid": 1, "logits_epoch_1": [1.0, 2.0], "gold": 1}',
    "found list": "[1, 2]",
    "guid 1.5": '{"guid": 1.5, "logits_epoch_0": [1.0, 2.0], "gold": 1}',
    "guid True": '{"guid": true, "logits_epoch_0": [1.0, 2.0], "gold": 1}',
    "gold '1'": '{"guid": 1, "logits_epoch_0": [1.0, 2.0], "gold": "1"}',
    "gold 2, want a class in [0, 2)": '{"guid": 1, "logits_epoch_0": [1.0, 2.0], "gold": 2}',
    "gold -1": '{"guid": 1, "logits_epoch_0": [1.0, 2.0], "gold": -1}',
    "want a list of numbers": '{"guid": 1, "logits_epoch_0": [1.0, "2"], "gold": 1}',
    "at least two": '{"guid": 1, "logits_epoch_0": [1.0], "gold": 0}',
    "3 logits, and 2 in the lines before": '{"guid": 1, "logits_epoch_0": [1.0, 2.0, 3.0], "gold": 1}',
}


@pytest.mark.parametrize("words", BAD)
def test_a_bad_line_is_named(tmp_path, words):
    (tmp_path / "dynamics_epoch_0.jsonl").write_text(f"{GOOD}\n\n{BAD[words]}\n{GOOD}\n")
    calculator = aum_core.AUMCalculator(tmp_path)
    with pytest.raises(ValueError, match=r"dynamics_epoch_0\.jsonl, line 3: ") as caught:
        accumulate_dynamics(tmp_path, calculator)
    assert words in str(caught.value) or words == "no JSON"
    assert len(calculator.totals) == 0


def test_text_of_another_encoding_is_named_by_its_line(tmp_path):
    (tmp_path / "dynamics_epoch_0.jsonl").write_bytes(GOOD.encode() + b'\n{"guid": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"dynamics_epoch_0\.jsonl, line 2: .*utf-8"):
        accumulate_dynamics(tmp_path, aum_core.AUMCalculator(tmp_path))


def test_what_the_calculator_refuses_is_named_by_its_lines(tmp_path):
    (tmp_path / "dynamics_epoch_0.jsonl").write_text(GOOD.replace("1.0", "NaN"))
    with pytest.raises(ValueError, match=r"dynamics_epoch_0\.jsonl, lines 1 to 1: .*not finite"):
        accumulate_dynamics(tmp_path, aum_core.AUMCalculator(tmp_path, nonfinite="raise"))


def test_numbers_that_no_float_holds(tmp_path):
    calculator = aum_core.AUMCalculator(tmp_path)
    (tmp_path / "dynamics_epoch_0.jsonl").write_text(GOOD.replace("1.0", "1e300"))
    with pytest.warns(RuntimeWarning, match="1 of 1 margins are not finite"):
        accumulate_dynamics(tmp_path, calculator)
    assert calculator.totals.left_out == 1
    (tmp_path / "dynamics_epoch_0.jsonl").write_text(GOOD.replace("1.0", "1" + "0" * 400))
    with pytest.raises(ValueError, match="lines 1 to 1: int too large"):
        accumulate_dynamics(tmp_path, calculator)


def test_a_folder_without_dynamics_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no dynamics_epoch_N"):
        accumulate_dynamics(tmp_path, aum_core.AUMCalculator(tmp_path))
