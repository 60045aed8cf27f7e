import csv
import json
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aum_core
from aum_core import Margins, Totals, compute_margins
from aum_core.margins import MARGIN_FIELDS

LOGITS = [[2.0, 0.5, -1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 4.0]]


@pytest.fixture
def batch(framework):
    """Logits, targets and ids of three samples; margins 1.5, -2, 3."""
    return framework.array(np.array(LOGITS, np.float32)), framework.array([0, 2, 2]), ["a", "b", "c"]


def random_stream(num_batches=30, num_samples=40, num_classes=5, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(num_batches):
        size = int(generator.integers(1, 20))
        logits = generator.normal(0, 3, (size, num_classes)).astype(np.float32)
        yield logits, generator.integers(0, num_classes, size), generator.integers(0, num_samples, size)


def assert_same_totals(left, right):
    assert left.sample_ids.tolist() == right.sample_ids.tolist()
    np.testing.assert_array_equal(left.sums, right.sums)
    np.testing.assert_array_equal(left.counts, right.counts)


def test_update_gives_the_records_of_the_batch_in_plain_python(framework, batch, tmp_path):
    records = framework.AUMCalculator(tmp_path).update(*batch)
    assert list(records) == ["a", "b", "c"]
    assert records["b"] == aum_core.AUMRecord("b", 1, 2, 1.0, 1, 3.0, -2.0, -2.0)
    types = [type(value) for value in vars(records["b"]).values()]
    assert types == [str, int, int, float, int, float, float, float]


def test_aum_is_the_mean_of_the_margins(framework, batch, tmp_path):
    calculator = framework.AUMCalculator(tmp_path)
    logits, targets, _ = batch
    calculator.update(logits, targets, [7, 8, 9])
    record = calculator.update(logits, targets, [8, 7, 9])[7]
    assert (record.num_measurements, record.margin, record.aum) == (2, -2.0, -0.25)
    assert dict(calculator.counts) == {7: 2, 8: 2, 9: 2}
    assert dict(calculator.sums) == {7: -0.5, 8: -0.5, 9: 6.0}


def test_counts_and_sums_are_plain_and_alive(framework, batch, tmp_path):
    calculator = framework.AUMCalculator(tmp_path)
    counts = calculator.counts
    assert (len(counts), "a" in counts) == (0, False)
    calculator.accumulate(*batch)
    assert counts["a"] == 1
    assert type(counts["a"]) is int
    assert type(calculator.sums["a"]) is float
    with pytest.raises(KeyError, match="z"):
        counts["z"]


def test_margins_of_a_stream_have_the_bits_of_the_formula(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path, compressed=False)
    expected = []
    for logits, targets, ids in random_stream():
        calculator.accumulate(framework.array(logits), framework.array(targets), framework.array(ids))
        expected += compute_margins(logits, targets).margin.tolist()
    assert [record.margin.hex() for record in calculator.records] == [margin.hex() for margin in expected]


def test_batch_of_one(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path)
    records = calculator.update(framework.array(np.float32([[1, 4]])), framework.array([1]), [0])
    assert records[0].margin == 3.0


def test_empty_batch_gives_no_records(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path, compressed=False)
    nothing = framework.array(np.empty((0, 4), np.float32)), framework.array(np.empty(0, np.int64)), []
    assert calculator.update(*nothing) == {}
    calculator.accumulate(*nothing)
    assert len(calculator.totals) == len(calculator.records) == 0


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint64"])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_targets_of_any_integer_dtype_and_as_a_column(framework, tmp_path, dtype, shape):
    calculator = framework.AUMCalculator(tmp_path)
    targets = framework.array(np.array([0, 2, 2], dtype).reshape(shape))
    records = calculator.update(framework.array(np.float32(LOGITS)), targets, [0, 1, 2])
    assert [record.margin for record in records.values()] == [1.5, -2.0, 3.0]
    assert [record.target_logit for record in records.values()] == [0, 2, 2]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_logits_of_any_float_dtype(framework, tmp_path, dtype):
    array = framework.array(np.array([[100.2, 3.3, 7.1]], dtype))
    record = framework.AUMCalculator(tmp_path).update(array, framework.array([0]), [0])[0]
    logits = np.asarray(array)  # float64 only where the framework has it
    wide = logits.astype(np.float32) if dtype == np.float16 else logits
    assert record.margin == float(wide[0, 0] - wide[0, 2])
    assert (record.target_val, record.other_val) == (float(logits[0, 0]), float(logits[0, 2]))


def test_ids_as_array_list_and_tuple_are_the_same_ids(framework, tmp_path):
    logits, targets = framework.array(np.float32(LOGITS)), framework.array([0, 2, 2])
    calculator = framework.AUMCalculator(tmp_path)
    for ids in (
        [3, 1, 2],
        (3, 1, 2),
        framework.array([3, 1, 2]),
        framework.array(np.int32([3, 1, 2])),
        np.array([3, 1, 2], np.uint64),
        list(framework.array([3, 1, 2])),
    ):
        records = calculator.update(logits, targets, ids)
        assert list(records) == [3, 1, 2]
        assert {type(each) for each in records} == {int}
    assert calculator.counts[3] == 6


def test_ids_of_any_size_and_kind(framework, tmp_path):
    ids = [-5, 2**63 - 1, -(2**63), 2**64, -(10**40), "7", 7, "", 'ü, "x"\n', True]
    logits = framework.array(np.float32([[3, 1]] * len(ids)))
    targets = framework.array([0] * len(ids))
    calculator = framework.AUMCalculator(tmp_path)
    for one in range(len(ids)):  # by turns, so that ints are there before the first str
        calculator.accumulate(logits[one : one + 1], targets[:1], ids[one : one + 1])
    records = calculator.update(logits, targets, ids)
    assert list(records) == [*ids[:-1], 1]
    assert calculator.totals.sample_ids.tolist() == [*ids[:-1], 1]
    assert set(calculator.counts.values()) == {2}


def test_array_of_strings_gives_strs(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path)
    records = calculator.update(
        framework.array(np.float32(LOGITS)), framework.array([0, 1, 2]), np.array(["x", "y", "z"])
    )
    assert [(type(each), each) for each in records] == [(str, "x"), (str, "y"), (str, "z")]


@pytest.mark.parametrize("num_classes", [2, 5, 700])
@pytest.mark.parametrize("as_strs", [False, True])
def test_accumulate_keeps_the_same_books_as_update(framework, tmp_path, as_strs, num_classes):
    updated, accumulated = framework.AUMCalculator(tmp_path), framework.AUMCalculator(tmp_path)
    for logits, targets, ids in random_stream(num_classes=num_classes):
        names = [f"sample {each}" for each in ids] if as_strs else framework.array(ids)
        updated.update(framework.array(logits), framework.array(targets), names)
        accumulated.accumulate(framework.array(logits), framework.array(targets), names)
    assert_same_totals(updated.totals, accumulated.totals)


def test_looking_at_the_totals_between_batches_changes_nothing(framework, tmp_path):
    watched, alone = framework.AUMCalculator(tmp_path), framework.AUMCalculator(tmp_path)
    for logits, targets, ids in random_stream():
        for calculator in (watched, alone):
            calculator.accumulate(framework.array(logits), framework.array(targets), framework.array(ids))
        assert len(watched.totals) == len(watched.totals.aums)
    assert_same_totals(watched.totals, alone.totals)


def test_batch_larger_than_what_waits_to_be_added(framework, tmp_path):
    generator = np.random.default_rng(0)
    logits, targets = generator.normal(size=(10_000, 3)), generator.integers(0, 3, 10_000)
    ids = generator.integers(0, 500, 10_000)
    whole, pieces = framework.AUMCalculator(tmp_path), framework.AUMCalculator(tmp_path)
    whole.accumulate(framework.array(logits), framework.array(targets), framework.array(ids))
    for at in range(0, 10_000, 300):
        part = slice(at, at + 300)
        pieces.accumulate(framework.array(logits[part]), framework.array(targets[part]), framework.array(ids[part]))
    assert_same_totals(whole.totals, pieces.totals)


ids_of_a_batch = st.lists(st.integers(-3, 3) | st.sampled_from(["a", "b"]), min_size=1, max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(ids_of_a_batch, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_repeated_ids_are_sequential_updates_bit_for_bit(framework, tmp_path, id_batches, seed):
    generator = np.random.default_rng(seed)
    together, one_by_one, accumulated = (framework.AUMCalculator(tmp_path, compressed=False) for _ in range(3))
    for ids in id_batches:
        logits = framework.array(generator.normal(0, 10, (len(ids), 3)).astype(np.float32))
        targets = framework.array(generator.integers(0, 3, len(ids)))
        records = together.update(logits, targets, ids)
        accumulated.accumulate(logits, targets, ids)
        singles = {}
        for at, each in enumerate(ids):
            singles |= one_by_one.update(logits[at : at + 1], targets[at : at + 1], [each])
        assert records == singles
        assert list(records) == list(dict.fromkeys(ids))
    assert list(together.records) == list(one_by_one.records) == list(accumulated.records)
    assert_same_totals(together.totals, one_by_one.totals)


BAD_INPUTS = {
    "fewer ids": (LOGITS, [0, 2, 2], ["a", "b"], ValueError, ["sample_ids", "2 ids", "3 rows"]),
    "more ids": (LOGITS, [0, 2, 2], [1, 2, 3, 4], ValueError, ["sample_ids", "4 ids", "3 rows"]),
    "fewer targets": (LOGITS, [0, 2], ["a", "b", "c"], ValueError, ["targets", "(2,)", "(3, 3)"]),
    "one class": ([[1.0], [2.0], [3.0]], [0, 0, 0], ["a", "b", "c"], ValueError, ["logits", "(3, 1)", "[0, z]"]),
    "one logit each": ([1.0, 2.0, 3.0], [0, 0, 0], ["a", "b", "c"], ValueError, ["logits", "(3,)", "[0, z]"]),
    "three dimensions": ([LOGITS], [0], ["a"], ValueError, ["logits", "(1, 3, 3)", "(B, C)"]),
    "target too high": (LOGITS, [0, 3, 2], ["a", "b", "c"], ValueError, ["targets", "'b'", "3", "[0, 3)"]),
    "ignored target": (LOGITS, [0, 1, -100], ["a", "b", "c"], ValueError, ["targets", "'c'", "-100", "leave"]),
    "float targets": (LOGITS, [0.0, 1.0, 2.0], ["a", "b", "c"], TypeError, ["targets", "float"]),
    "one-hot targets": (LOGITS, [[1, 0, 0]] * 3, ["a", "b", "c"], ValueError, ["targets", "(3, 3)"]),
    "float ids": (LOGITS, [0, 2, 2], [1.0, 2.0, 3.0], TypeError, ["sample_ids", "row 0", "1.0", "float"]),
    "float array of ids": (LOGITS, [0, 2, 2], np.array([1.0, 2.0, 3.0]), TypeError, ["sample_ids", "float64"]),
    "bool array of ids": (LOGITS, [0, 2, 2], np.array([True] * 3), TypeError, ["sample_ids", "bool"]),
    "id is None": (LOGITS, [0, 2, 2], ["a", None, "c"], TypeError, ["sample_ids", "row 1", "None"]),
    "ids of two dimensions": (LOGITS, [0, 2, 2], np.zeros((3, 1), int), ValueError, ["sample_ids", "(3, 1)"]),
    "one string for ids": (LOGITS, [0, 2, 2], "abc", TypeError, ["sample_ids", "'abc'", "list"]),
}


@pytest.mark.parametrize("method", ["update", "accumulate"])
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_named_and_changes_nothing(framework, batch, tmp_path, method, name):
    logits, targets, ids, error, words = BAD_INPUTS[name]
    calculator = framework.AUMCalculator(tmp_path, compressed=False)
    calculator.update(*batch)
    before = list(calculator.records), calculator.totals.sums.tolist(), calculator.totals.counts.tolist()
    with pytest.raises(error) as caught:
        getattr(calculator, method)(framework.array(np.float32(logits)), framework.array(targets), ids)
    for word in words:
        assert word in str(caught.value)
    after = list(calculator.records), calculator.totals.sums.tolist(), calculator.totals.counts.tolist()
    assert after == before
    assert calculator.totals.sample_ids.tolist() == ["a", "b", "c"]


def test_integer_logits_are_refused(framework, tmp_path):
    with pytest.raises(TypeError, match=r"logits.*int(32|64).*softmax"):
        framework.AUMCalculator(tmp_path).update(framework.array([[1, 2]]), framework.array([0]), [0])


def test_unknown_option_is_named(tmp_path):
    with pytest.raises(ValueError, match="nonfinite: 'ignore', want 'leave_out', 'raise' or 'propagate'"):
        aum_core.AUMCalculator(tmp_path, nonfinite="ignore")


@pytest.fixture
def spoilt(framework):
    """Margins inf, -2, NaN."""
    logits = np.array([[np.inf, 0, 0], [0, 3, 1], [np.nan, 1, 4]], np.float32)
    return framework.array(logits), framework.array([0, 2, 2]), ["a", "b", "c"]


@pytest.mark.parametrize("method", ["update", "accumulate"])
def test_non_finite_margins_are_left_out_counted_and_warned_of_once(framework, batch, spoilt, tmp_path, method):
    calculator = framework.AUMCalculator(tmp_path)
    getattr(calculator, method)(*batch)
    with pytest.warns(RuntimeWarning, match=r"2 of 3 margins are not finite.*'a' \(inf\)"):
        getattr(calculator, method)(*spoilt)
    getattr(calculator, method)(*spoilt)  # warnings are errors: a second one would end the test
    assert dict(calculator.counts) == {"a": 1, "b": 3, "c": 1}
    assert dict(calculator.sums) == {"a": 1.5, "b": -6.0, "c": 3.0}
    assert calculator.totals.left_out == 4
    calculator.finalize()
    assert json.loads((tmp_path / "run.json").read_text())["left_out"] == 4


def test_left_out_sample_keeps_its_count_and_aum_in_its_record(framework, batch, spoilt, tmp_path):
    calculator = framework.AUMCalculator(tmp_path, compressed=False)
    with pytest.warns(RuntimeWarning, match="not finite"):
        fresh = calculator.update(*spoilt)["a"]
    assert (fresh.num_measurements, fresh.margin) == (0, np.inf)
    assert np.isnan(fresh.aum)
    calculator.update(*batch)
    records = calculator.update(*spoilt)
    assert (records["a"].num_measurements, records["a"].margin, records["a"].aum) == (1, np.inf, 1.5)
    assert (records["b"].num_measurements, records["b"].aum) == (3, -2.0)
    assert [record.sample_id for record in calculator.records] == ["b", "a", "b", "c", "b"]


def test_sample_that_was_only_left_out_is_in_no_ranking(framework, spoilt, tmp_path):
    calculator = framework.AUMCalculator(tmp_path)
    with pytest.warns(RuntimeWarning, match="not finite"):
        calculator.accumulate(*spoilt)
    calculator.finalize()
    assert (tmp_path / "aum_values.csv").read_text() == "sample_id,aum\nb,-2.0\n"


def test_non_finite_margins_raise_where_asked(framework, batch, spoilt, tmp_path):
    calculator = framework.AUMCalculator(tmp_path, nonfinite="raise")
    calculator.update(*batch)
    with pytest.raises(ValueError, match="logits: 2 of 3 margins are not finite, the first for sample 'a'"):
        calculator.update(*spoilt)
    assert dict(calculator.counts) == {"a": 1, "b": 1, "c": 1}
    assert calculator.totals.left_out == 0


def test_non_finite_margins_propagate_where_asked(framework, batch, spoilt, tmp_path):
    calculator = framework.AUMCalculator(tmp_path, nonfinite="propagate")
    calculator.update(*batch)
    calculator.update(*spoilt)
    assert calculator.sums["a"] == np.inf
    assert np.isnan(calculator.sums["c"])
    assert calculator.counts["c"] == 2
    calculator.finalize()
    assert (tmp_path / "aum_values.csv").read_text() == "sample_id,aum\na,inf\nb,-2.0\nc,\n"


def test_large_finite_margins_are_not_taken_for_infinite(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path)
    logits = framework.array(np.float32([[1e38, -2e38], [3e38, 2e38]]))
    calculator.accumulate(logits, framework.array([0, 0]), [0, 1])
    assert calculator.totals.left_out == 0
    assert calculator.sums[0] == float(np.float32(1e38) - np.float32(-2e38))


def test_empty_run_writes_a_header_alone(framework, tmp_path):
    framework.AUMCalculator(tmp_path / "new" / "folder", compressed=False).finalize()
    assert (tmp_path / "new/folder/aum_values.csv").read_text() == "sample_id,aum\n"
    assert (tmp_path / "new/folder/full_aum_records.csv").read_text().count("\n") == 1


def test_files_of_a_run(framework, batch, tmp_path):
    calculator = framework.AUMCalculator(tmp_path / "run")
    calculator.update(*batch)
    calculator.finalize()
    assert sorted(each.name for each in (tmp_path / "run").iterdir()) == ["aum_values.csv", "run.json", "totals.npz"]
    assert (tmp_path / "run/aum_values.csv").read_text() == "sample_id,aum\nc,3.0\na,1.5\nb,-2.0\n"
    assert_same_totals(Totals.load(tmp_path / "run/totals.npz"), calculator.totals)
    assert json.loads((tmp_path / "run/run.json").read_text()) == {
        "format": 1,
        "aum_version": aum_core.__version__,
        "framework": framework.name,
        "samples": 3,
        "measurements": 3,
        "measurements_per_sample": {"min": 1, "max": 1, "usual": 1, "unusual_samples": 0},
        "left_out": 0,
        "options": {"compressed": True, "nonfinite": "leave_out"},
    }


def test_finalize_into_another_folder(framework, batch, tmp_path):
    calculator = framework.AUMCalculator(tmp_path / "own", compressed=False)
    calculator.update(*batch)
    calculator.finalize(save_dir=tmp_path / "other")
    left = [each.name for each in (tmp_path / "own").glob("*")]
    assert left == ([] if framework.name == "numpy" else ["records"])  # where they were logged
    with open(tmp_path / "other/full_aum_records.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [
        "sample_id",
        "num_measurements",
        "target_logit",
        "target_val",
        "other_logit",
        "other_val",
        "margin",
        "aum",
    ]
    assert rows[1] == ["a", "1", "0", "2.0", "1", "0.5", "1.5", "1.5"]


def test_records_are_a_sequence_of_all_measurements(framework, batch, tmp_path):
    calculator = framework.AUMCalculator(tmp_path, compressed=False)
    first = list(calculator.update(*batch).values())
    second = list(calculator.update(*batch).values())
    records = calculator.records
    assert len(records) == 6
    assert list(records) == first + second
    assert records[-1] == second[-1]
    assert records[1:5:2] == [first[1], second[0]]
    assert first[0] in records
    with pytest.raises(IndexError):
        records[6]


def test_a_compressed_calculator_has_no_records(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path)
    assert not hasattr(calculator, "records")
    with pytest.raises(AttributeError, match="compressed=False"):
        calculator.records  # noqa: B018 # the look-up is the test


def test_mixed_float_types_in_one_run_keep_every_bit(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path, compressed=False)
    single, double = framework.array(np.float32([[0.1, 0.3]])), framework.array(np.array([[0.1, 0.3]]))
    for logits in (single, double, single):
        calculator.update(logits, framework.array([0]), [0])
    margins = [record.margin for record in calculator.records]
    assert margins == [float(each[0, 0] - each[0, 1]) for each in map(np.asarray, (single, double, single))]


@pytest.mark.parametrize("num_classes", [5, 700])
def test_an_observer_is_told_which_class_was_the_largest_other(framework, tmp_path, num_classes):
    notes, calculator = Notes(), framework.AUMCalculator(tmp_path)
    calculator.observe(notes)
    batches = list(random_stream(num_classes=num_classes))
    for logits, targets, ids in batches:
        calculator.accumulate(framework.array(logits), framework.array(targets), ids)
    seen = np.concatenate([each.margins.other_logit for each in notes.batches])
    assert seen.tolist() == [
        other for logits, targets, _ in batches for other in compute_margins(logits, targets).other_logit
    ]


class Notes:
    """An observer that keeps every batch, and may refuse one."""

    needs_other_logit, needs_logits = True, False

    def __init__(self, refusal=None):
        self.batches, self.refusal = [], refusal

    def check(self, batch):
        if self.refusal is not None:
            raise self.refusal

    def take(self, batch):
        self.batches.append(batch)


@pytest.mark.parametrize("spoilt", [False, True])
def test_an_observer_that_refuses_a_batch_leaves_everything_as_it_was(framework, spoilt, tmp_path):
    first, second = Notes(), Notes(ValueError("not this one"))
    calculator = framework.AUMCalculator(tmp_path, scores=["correctness"], nonfinite="leave_out")
    calculator.observe(first)
    calculator.observe(second)
    logits = np.float32([[np.nan if spoilt else 0, 1], [2, 5]])
    with pytest.warns(RuntimeWarning) if spoilt else nullcontext(), pytest.raises(ValueError, match="not this one"):
        calculator.accumulate(framework.array(logits), framework.array([0, 0]), ["a", "b"])
    assert (len(calculator.totals), calculator.totals.left_out, first.batches) == (0, 0, [])
    assert calculator.scores.num_rows == 0


def measured_elsewhere(framework, logits, targets):
    """Margins as a compiled step returns them: columns of the framework, classes in 32 bits."""
    margins = compute_margins(logits, targets)
    columns = {name: getattr(margins, name) for name in MARGIN_FIELDS}
    columns |= {name: columns[name].astype(np.int32) for name in ("target_logit", "other_logit")}
    return Margins(**{name: framework.array(column) for name, column in columns.items()})


@pytest.mark.parametrize("compressed", [True, False])
def test_margins_measured_elsewhere_keep_the_same_books(framework, tmp_path, compressed):
    here, elsewhere = (framework.AUMCalculator(tmp_path, compressed=compressed) for _ in range(2))
    for logits, targets, ids in random_stream(num_batches=8):
        here.accumulate(framework.array(logits), framework.array(targets), framework.array(ids))
        elsewhere.accumulate_measured(measured_elsewhere(framework, logits, targets), framework.array(ids))
    assert_same_totals(here.totals, elsewhere.totals)
    if not compressed:
        assert list(here.records) == list(elsewhere.records)


def test_margins_measured_elsewhere_are_left_out_and_observed_as_others(framework, tmp_path):
    notes, calculator = Notes(), framework.AUMCalculator(tmp_path)
    calculator.observe(notes)
    logits, targets = np.float32([[np.nan, 1], [2, 5]]), np.array([0, 0])
    with pytest.warns(RuntimeWarning, match=r"1 of 2 margins are not finite.*'a' \(nan\)"):
        calculator.accumulate_measured(measured_elsewhere(framework, logits, targets), ["a", "b"])
    assert (dict(calculator.sums), calculator.totals.left_out) == ({"b": -3.0}, 1)
    assert [(list(each.ids), each.margins.other_logit.tolist()) for each in notes.batches] == [(["b"], [1])]


DO_NOT_GO_TOGETHER = {
    "fewer ids": (["a", "b"], {}, ValueError, ["sample_ids", "2 ids", "3 rows"]),
    "a short column": (["a", "b", "c"], {"other_val": [1.0, 2.0]}, ValueError, ["'other_val': (2,)", "(3,)"]),
    "float targets": (["a", "b", "c"], {"target_logit": [0.0, 2.0, 2.0]}, TypeError, ["target_logit", "float"]),
    "float ids": ([1.5, 2.5, 3.5], {}, TypeError, ["sample_ids", "1.5"]),
}


@pytest.mark.parametrize("name", DO_NOT_GO_TOGETHER)
def test_margins_measured_elsewhere_must_go_together_and_with_their_ids(framework, tmp_path, name):
    ids, columns, error, words = DO_NOT_GO_TOGETHER[name]
    calculator = framework.AUMCalculator(tmp_path, compressed=False)
    margins = measured_elsewhere(framework, np.float32(LOGITS), [0, 2, 2])
    for each, values in columns.items():
        setattr(margins, each, framework.array(values))
    with pytest.raises(error) as caught:
        calculator.accumulate_measured(margins, ids)
    for word in words:
        assert word in str(caught.value)
    assert len(calculator.totals) == len(calculator.records) == 0


def test_a_record_of_float32_logits_takes_36_bytes(tmp_path):
    calculator = aum_core.AUMCalculator(tmp_path, compressed=False)
    calculator.accumulate(np.zeros((1000, 2), np.float32), np.zeros(1000, np.int64), np.arange(1000))
    sample_id_as_row = 4
    columns = calculator.records.columns()
    assert sample_id_as_row + sum(values.itemsize for name, values in columns.items() if name != "sample_id") == 36


def test_totals_measured_elsewhere_count_as_if_measured_here(tmp_path):
    elsewhere, here = Totals(), aum_core.AUMCalculator(tmp_path)
    here.accumulate([[2.0, 0.5]], [0], ["a"])
    elsewhere.add(["b", "a"], [3.0, -0.5])
    elsewhere.left_out = 2
    here.add_totals(elsewhere)
    here.accumulate([[2.0, 0.5]], [1], ["b"])
    assert dict(here.sums) == {"a": 1.0, "b": 1.5}
    assert dict(here.counts) == {"a": 2, "b": 2}
    assert here.totals.left_out == 2
    assert elsewhere.sums.tolist() == [3.0, -0.5]


def test_totals_are_refused_where_records_are_kept_and_where_they_are_none(tmp_path):
    calculator = aum_core.AUMCalculator(tmp_path, compressed=False)
    with pytest.raises(ValueError, match="totals: they have no records"):
        calculator.add_totals(Totals())
    with pytest.raises(TypeError, match=r"totals: dict, want aum_core\.Totals"):
        aum_core.AUMCalculator(tmp_path).add_totals({})


def test_a_calculator_is_loaded_into_another_folder(tmp_path):
    calculator = aum_core.AUMCalculator(tmp_path / "first")
    calculator.accumulate([[2.0, 0.5]], [0], ["cat.png"])
    calculator.save(tmp_path / "aum.npz")
    loaded = aum_core.AUMCalculator.load(tmp_path / "aum.npz", tmp_path / "second")
    assert (loaded.save_dir, loaded.counts["cat.png"]) == (tmp_path / "second", 1)


def test_scores_have_what_the_totals_have_where_the_log_has_no_room(tmp_path):
    class Full(aum_core.RecordsInMemory):
        def append(self, rows, columns):
            raise OSError("no space left on device")

    calculator = aum_core.AUMCalculator(tmp_path, compressed=False, scores=["correctness"], log=Full)
    with pytest.raises(OSError, match="no space"):
        calculator.accumulate(np.eye(3), [0, 1, 2], [0, 1, 2])
    assert calculator.scores.num_rows == len(calculator.totals)


def test_accumulate_makes_no_records_that_nobody_sees(batch, tmp_path, monkeypatch):
    calculator = aum_core.AUMCalculator(tmp_path, compressed=False)

    def refuse(*values):
        raise AssertionError("a record was made")

    with monkeypatch.context() as patched:
        patched.setattr("aum_core.measurements.AUMRecord", refuse)
        patched.setattr("aum_core.records.AUMRecord", refuse)
        calculator.accumulate(*batch)
        with pytest.raises(AssertionError, match="a record was made"):
            calculator.update(*batch)
    assert len(calculator.records) > 0
