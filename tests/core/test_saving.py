"""A calculator that is saved and loaded goes on as if nothing had been."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aum_core
from aum_core.files.arrays import check_arrays, save_arrays
from aum_core.state import KIND

FILES = ("aum_values.csv", "full_aum_records.csv", "totals.npz")


def stream(ids, num_batches=12, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(num_batches):
        size = int(generator.integers(0, 9))
        logits = generator.normal(0, 3, (size, 4)).astype(np.float32)
        yield logits, generator.integers(0, 4, size), [ids[i] for i in generator.integers(0, len(ids), size)]


def feed(framework, calculator, batches):
    for logits, targets, ids in batches:
        calculator.accumulate(framework.array(logits), framework.array(targets), ids)


def assert_same_files(one, other, compressed):
    for name in FILES:
        if compressed and name == "full_aum_records.csv":
            continue
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


IDS = {"ints": list(range(10)), "strs": ["a", "ü", "", 'x,"\n'], "both": [7, "7", -1, 2**70]}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("ids", IDS)
def test_a_resumed_run_ends_in_the_bytes_of_an_uninterrupted_one(framework, tmp_path, ids, compressed):
    batches = list(stream(IDS[ids]))
    whole = framework.AUMCalculator(tmp_path / "whole", compressed)
    feed(framework, whole, batches)
    whole.finalize()
    calculator = framework.AUMCalculator(tmp_path / "run", compressed)
    for at in range(0, 12, 4):
        feed(framework, calculator, batches[at : at + 4])
        calculator.save(tmp_path / "saved.npz")
        feed(framework, calculator, batches[at : at + 2])  # lost, since the run is resumed from before
        calculator = framework.AUMCalculator.load(tmp_path / "saved.npz")
    calculator.finalize()
    assert_same_files(tmp_path / "run", tmp_path / "whole", compressed)
    if not compressed:
        assert list(calculator.records) == list(whole.records)


def test_what_is_saved_is_options_and_left_out_too(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path / "run", nonfinite="propagate")
    calculator.save(tmp_path / "saved.npz")
    loaded = framework.AUMCalculator.load(tmp_path / "saved.npz")
    assert type(loaded) is type(calculator)
    assert (loaded.save_dir, loaded.compressed) == (str(tmp_path / "run"), True)
    assert loaded.describe() == calculator.describe()
    warned = framework.AUMCalculator(tmp_path / "run")
    with pytest.warns(RuntimeWarning, match="not finite"):
        warned.accumulate(framework.array(np.float32([[np.nan, 1]])), framework.array([0]), [0])
    warned.save(tmp_path / "saved.npz")
    loaded = framework.AUMCalculator.load(tmp_path / "saved.npz")
    assert loaded.totals.left_out == 1
    loaded.accumulate(framework.array(np.float32([[np.nan, 1]])), framework.array([0]), [0])  # warns no second time


def test_the_folder_may_have_another_name_by_now(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path / "run", compressed=False)
    feed(framework, calculator, stream([1, 2]))
    calculator.save(tmp_path / "saved.npz")
    records = list(calculator.records)
    if (tmp_path / "run").exists():
        (tmp_path / "run").rename(tmp_path / "moved")
    loaded = framework.AUMCalculator.load(tmp_path / "saved.npz", tmp_path / "moved")
    assert list(loaded.records) == records


def saved_arrays(tmp_path, compressed=False):
    calculator = aum_core.AUMCalculator(tmp_path, compressed)
    calculator.update(np.eye(3), [0, 1, 2], ["a", "b", "c"])
    calculator.save(tmp_path / "saved.npz")
    with np.load(tmp_path / "saved.npz") as file:
        return {name: file[name] for name in file.files if name != "kind"}


def without(name):
    return lambda arrays: arrays.pop(name)


def put(name, value):
    return lambda arrays: arrays.update({name: value})


DAMAGES = {
    "no totals": (without("totals.sums"), "it holds"),
    "no options": (without("options"), "cannot be taken up"),
    "options that are none": (put("options", np.frombuffer(b"[1]", np.uint8)), r"options are \[1\]"),
    "a column too short": (put("records.margin", np.zeros(2, np.float32)), "not of one length"),
    "a record of no sample": (put("records.sample_id", np.array([0, 1, 3], np.int32)), "of no sample"),
    "a negative row": (put("records.sample_id", np.array([0, 1, -1], np.int32)), "of no sample"),
    "another dtype": (put("records.aum", np.zeros(3, np.float32)), "aum is float32"),
    "something more": (put("surprise.x", np.zeros(3)), "surprise"),
    "counts of zero": (put("totals.counts", np.zeros(3, np.int64)), "out of range"),
    "records on disk": (lambda arrays: arrays.update({"records.parts": np.zeros(1, np.uint8)}), "calculator of a fra"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_file_that_contradicts_itself_is_refused_by_its_name(tmp_path, name):
    arrays = saved_arrays(tmp_path)
    damage, words = DAMAGES[name]
    damage(arrays)
    save_arrays(tmp_path / "damaged.npz", KIND, arrays)
    with pytest.raises(ValueError, match=words) as caught:
        aum_core.AUMCalculator.load(tmp_path / "damaged.npz")
    assert "damaged.npz" in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_means_the_same(tmp_path, data):
    saved_arrays(tmp_path)
    whole = (tmp_path / "saved.npz").read_bytes()
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "other.npz").write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        calculator = aum_core.AUMCalculator.load(tmp_path / "other.npz")
    except ValueError as error:
        assert "other.npz" in str(error)
    else:
        assert [record.margin for record in calculator.records] == [1.0, 1.0, 1.0]


def test_a_file_of_totals_is_no_calculator(tmp_path):
    aum_core.Totals().save(tmp_path / "totals.npz")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "totals.npz"))):
        aum_core.AUMCalculator.load(tmp_path / "totals.npz")


def test_arrays_are_checked_by_name_dtype_and_dimension():
    check_arrays({"a": np.zeros(2, np.float32)}, {"a": "float64 or float32"})
    with pytest.raises(ValueError, match=r"a is int64 of shape \(2,\), want float32"):
        check_arrays({"a": np.zeros(2, np.int64)}, {"a": "float32"})
    with pytest.raises(ValueError, match=r"shape \(1, 1\)"):
        check_arrays({"a": np.zeros((1, 1))}, {"a": "float64"})


@pytest.mark.parametrize("keep", [True, "on_disk"])
def test_other_scores_go_on_as_well(framework, tmp_path, keep):
    options = {"scores": ["confidence", "forgetting"], "noise_posterior": keep}
    label = {each: each % 4 for each in range(10)}
    batches = [(logits, [label[i] for i in ids], ids) for logits, _, ids in stream(IDS["ints"])]
    whole = framework.AUMCalculator(tmp_path / "whole", **options)
    feed(framework, whole, batches)
    whole.finalize()
    calculator = framework.AUMCalculator(tmp_path / "run", **options)
    feed(framework, calculator, batches[:7])
    calculator.save(tmp_path / "saved.npz")
    resumed = framework.AUMCalculator.load(tmp_path / "saved.npz")
    feed(framework, resumed, batches[7:])
    resumed.finalize()
    written = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert {"scores.csv", "noise_posterior.csv"} <= set(written)
    for name in written:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_scores_of_another_kind_are_refused(tmp_path):
    aum_core.AUMCalculator(tmp_path, scores=["confidence"]).save(tmp_path / "saved.npz")
    with pytest.raises(ValueError, match=r"saved\.npz.*names .*want the same"):
        aum_core.AUMCalculator.load(tmp_path / "saved.npz", scores=["el2n"])
    with pytest.raises(ValueError, match=r"saved\.npz.*scores"):
        aum_core.AUMCalculator.load(tmp_path / "saved.npz", scores=[])
