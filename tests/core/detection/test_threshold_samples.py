import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aum_core import ThresholdPlan
from aum_core.files.arrays import save_arrays

TARGETS = np.random.default_rng(0).integers(0, 4, 103)


@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 60), st.integers(0, 2**32))
def test_sets_are_disjoint_of_the_right_size_and_relabelled(num_classes, runs, extra, seed):
    targets = np.arange(runs * (num_classes + 1) + extra) % num_classes
    plan = ThresholdPlan.draw(targets, num_classes, runs=min(runs, num_classes + 1), seed=seed)
    assert plan.size == len(targets) // (num_classes + 1)
    chosen = np.concatenate([run.threshold_samples for run in plan.runs])
    assert len(set(chosen.tolist())) == len(chosen) == plan.size * len(plan.runs)
    for run in plan.runs:
        assert run.num_classes == num_classes + 1
        assert (run.targets[run.threshold_samples] == num_classes).all()
        np.testing.assert_array_equal(run.targets[run.regular], targets[run.regular])
        assert run.regular.sum() == len(targets) - plan.size


def test_a_seed_repeats_and_another_does_not():
    first, again, other = (ThresholdPlan.draw(TARGETS, 4, seed=s).threshold_samples.tolist() for s in (1, 1, 2))
    assert first == again != other


def test_every_row_is_as_likely():
    plans = [ThresholdPlan.draw(np.zeros(10, int), 2, runs=1, size=3, seed=seed) for seed in range(3000)]
    counts = np.bincount(np.concatenate([plan.threshold_samples[0] for plan in plans]), minlength=10)
    assert np.abs(counts - 900).max() < 125  # five standard deviations


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"targets": [0, 1], "num_classes": 2}, "2 samples are too few.*at least 3, or give size"),
        ({"targets": [0, 1] * 5, "num_classes": 2, "runs": 4}, "4 disjoint sets of 3 .*12 samples, there are 10"),
        ({"targets": [0, 1] * 5, "num_classes": 2, "size": 6}, "2 disjoint sets of 6 .*size <= 5"),
        ({"targets": [0, 1] * 5, "num_classes": 2, "size": 0}, "size: 0, want at least 1"),
        ({"targets": [0, 1] * 5, "num_classes": 2, "runs": 0}, "runs: 0, want at least 1"),
        ({"targets": [0, 2] * 5, "num_classes": 2}, r"targets: row 1 has class 2, want classes in \[0, 2\)"),
        ({"targets": [0, -1] * 5, "num_classes": 2}, "targets: row 1 has class -1"),
        ({"targets": [0, 0] * 5, "num_classes": 1}, "num_classes: 1, want at least 2"),
        ({"targets": [], "num_classes": 2}, r"targets: shape \(0,\), want \(N,\)"),
        ({"targets": np.eye(4, dtype=int), "num_classes": 4}, r"targets: shape \(4, 4\)"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ThresholdPlan.draw(**arguments)


def test_float_targets_are_refused():
    with pytest.raises(TypeError, match="targets: dtype float64, want integers"):
        ThresholdPlan.draw([0.0, 1.0] * 5, 2)


def plan_of(threshold_samples, num_samples=8):
    rows = np.array(threshold_samples)
    return ThresholdPlan(np.zeros(num_samples, np.int64), 2, rows, seed=0)


# Two runs over eight samples; threshold samples 0, 1 in run 0 with AUMs -2, 0 and 6, 7 in run 1 with AUMs -4, 2.
PLAN = plan_of([[0, 1], [6, 7]])
AUMS = np.array([[-2.0, 0, 5, -5, -5, np.nan, -9, 9], [-9, 9, 5, -5, 0.5, -5, -4, 2]])


def test_cutoffs_are_the_percentile_of_the_threshold_samples():
    assert PLAN.cut(AUMS, percentile=50).cutoffs.tolist() == [-1.0, -1.0]
    assert PLAN.cut(AUMS, percentile=99).cutoffs.tolist() == pytest.approx([-0.02, 1.94])


@pytest.mark.parametrize(
    ("combine", "flagged"),
    [
        # 0 and 6 are regular in one run only, and low there; 4 is low in one of two runs; 5 was measured in one
        ("all", [0, 3, 5, 6]),
        ("any", [0, 3, 4, 5, 6]),
        ("mean", [0, 3, 4, 5, 6]),
    ],
)
def test_flagged_by_each_way_to_combine(combine, flagged):
    cut = PLAN.cut(AUMS, percentile=50, combine=combine)
    assert np.flatnonzero(cut.flagged).tolist() == flagged
    np.testing.assert_array_equal(cut.keep, ~cut.flagged)


def test_mean_weighs_the_distances():
    aums = AUMS.copy()
    aums[:, 4] = -5.0, 20.0
    assert not PLAN.cut(aums, percentile=50, combine="mean").flagged[4]
    assert PLAN.cut(aums, percentile=50, combine="any").flagged[4]


def test_an_aum_at_the_cutoff_is_not_flagged():
    aums = AUMS.copy()
    aums[:, 2] = -1.0
    assert not PLAN.cut(aums, percentile=50).flagged[2]


def test_a_sample_that_no_run_could_judge_is_undecided_and_kept():
    aums = AUMS.copy()
    aums[:, 3] = np.nan
    aums[1, 0] = np.nan  # threshold sample in run 0, unmeasured in run 1
    for combine in ("all", "any", "mean"):
        cut = PLAN.cut(aums, percentile=50, combine=combine)
        assert np.flatnonzero(cut.undecided).tolist() == [0, 3]
        assert not cut.flagged[[0, 3]].any()


def test_infinite_aums_are_cut_without_a_warning():
    aums = AUMS.copy()
    aums[:, 3] = -np.inf
    aums[:, 2] = np.inf
    for combine in ("all", "any", "mean"):
        flagged = PLAN.cut(aums, percentile=50, combine=combine).flagged
        assert (flagged[3], flagged[2]) == (True, False)


def test_cut_says_every_choice():
    cut = PLAN.cut(AUMS, percentile=50, combine="any")
    choices = cut.describe()
    assert json.loads(json.dumps(choices)) == choices
    expected = {
        "percentile": 50.0,
        "percentile_interpolation": "linear",
        "combine": "any",
        "runs": 2,
        "threshold_samples_per_run": 2,
        "threshold_samples_measured": [2, 2],
        "seed": 0,
        "cutoffs": [-1.0, -1.0],
        "flagged": 5,
        "undecided": 0,
    }
    assert choices.items() >= expected.items()


def test_arrays_are_aligned_to_the_rows_of_the_data_set():
    plan = ThresholdPlan.draw(TARGETS, 4, seed=5)
    aums = np.random.default_rng(1).normal(5, 1, (2, len(TARGETS)))
    for run in plan.runs:
        aums[run.index, run.threshold_samples] = 0.0
    wrong = np.array([3, 50, 101])
    aums[:, wrong] = -5.0
    assert np.flatnonzero(plan.cut(list(aums)).flagged).tolist() == wrong.tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"aums_per_run": AUMS[:1]}, "aums_per_run: 1 of them, want one for each of 2 runs"),
        ({"aums_per_run": AUMS[:, :5]}, r"aums_per_run: run 0 has shape \(5,\), want \(8,\)"),
        ({"aums_per_run": [AUMS[0], np.full(8, np.nan)]}, "in run 1 no threshold sample has an AUM"),
        ({"aums_per_run": AUMS, "percentile": 0}, r"percentile: 0, want one in \(0, 100\)"),
        ({"aums_per_run": AUMS, "percentile": 100}, "percentile: 100"),
        ({"aums_per_run": AUMS, "percentile": float("nan")}, "percentile: nan"),
        ({"aums_per_run": AUMS, "combine": "most"}, "combine: 'most', want one of 'all', 'any', 'mean'"),
    ],
)
def test_a_cut_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        PLAN.cut(**arguments)


def test_a_saved_plan_is_the_same_plan(tmp_path):
    plan = ThresholdPlan.draw(TARGETS, 4, runs=3, seed=11)
    path = tmp_path / "plan.npz"
    plan.save(path)
    loaded = ThresholdPlan.load(path)
    np.testing.assert_array_equal(loaded.targets, plan.targets)
    np.testing.assert_array_equal(loaded.threshold_samples, plan.threshold_samples)
    assert (loaded.num_classes, loaded.seed, loaded.size) == (plan.num_classes, plan.seed, plan.size)


def test_a_truncated_plan_is_refused(tmp_path):
    path = tmp_path / "plan.npz"
    PLAN.save(path)
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 11):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="not a file of aum threshold plan"):
            ThresholdPlan.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "something else"},
        {"threshold_samples": [[0, 1], [1, 2]]},
        {"threshold_samples": [[0, 1], [2, 8]]},
        {"threshold_samples": [[0, 1], [2, -1]]},
        {"threshold_samples": [0, 1]},
        {"threshold_samples": np.zeros((0, 2), np.int64)},
        {"threshold_samples": [[0.0, 1.0], [2.0, 3.0]]},
        {"targets": [0, 5, 0, 0, 0, 0, 0, 0]},
        {"targets": [[0] * 8]},
        {"num_classes": [1]},
        {"num_classes": [2, 2]},
        {"seed": []},
        {"targets": ...},
    ],
    ids=str,
)
def test_a_plan_that_contradicts_itself_is_refused(tmp_path, change):
    kind = "aum threshold plan, version 1"
    arrays = {"targets": [0] * 8, "threshold_samples": [[0, 1], [2, 3]], "num_classes": [2], "seed": [0]}
    path = tmp_path / "plan.npz"
    save_arrays(path, kind, {name: np.array(value) for name, value in arrays.items()})
    assert ThresholdPlan.load(path).size == 2
    changed = {name: value for name, value in {**arrays, **change}.items() if value is not ...}
    kind = changed.pop("kind", kind)
    arrays = {name: np.array(value, dtype=None if np.size(value) else np.int64) for name, value in changed.items()}
    save_arrays(path, kind, arrays)
    with pytest.raises(ValueError, match=r"plan\.npz: not a file of aum threshold plan"):
        ThresholdPlan.load(path)
