import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

import aum_core
from aum_core import (
    Budget,
    Findings,
    Precision,
    ThresholdPlan,
    Totals,
    find_by_posterior,
    find_mislabeled,
    flip_pairs,
    flip_uniform,
)

NUM_CLASSES = 4
NUMPY = SimpleNamespace(array=np.array)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def data():
    """Features of four overlapping clusters, noisy labels, and which of them are flipped."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, NUM_CLASSES, 600)
    features = generator.normal(0, 1, (600, 8)) + 6 * np.eye(NUM_CLASSES, 8)[truth]
    noisy, flipped = flip_uniform(truth, NUM_CLASSES, 0.1)
    return features.astype(np.float32), truth, noisy, flipped


def softmax_regression(framework, features):
    """A training function as a user would write it, over NumPy weights."""

    def train(targets, num_classes, calculator):
        generator = np.random.default_rng(1)
        weights = np.zeros((features.shape[1], num_classes), np.float32)
        for _ in range(5):
            for rows in np.array_split(generator.permutation(len(targets)), 20):
                logits = features[rows] @ weights
                calculator.accumulate(framework.array(logits), framework.array(targets[rows]), framework.array(rows))
                chances = np.exp(logits - logits.max(1, keepdims=True))
                chances /= chances.sum(1, keepdims=True)
                chances[np.arange(len(rows)), targets[rows]] -= 1
                weights -= 0.1 * features[rows].T @ chances / len(rows)

    return train


def test_flipped_labels_are_found_and_corrected(framework, data, tmp_path):
    features, truth, noisy, flipped = data
    findings = framework.find_mislabeled(softmax_regression(framework, features), noisy, NUM_CLASSES, save_dir=tmp_path)
    assert isinstance(findings, Findings)
    assert (findings.flagged & flipped).sum() / flipped.sum() > 0.95
    assert (findings.flagged & flipped).sum() / findings.flagged.sum() > 0.8
    assert (findings.suggested[flipped] == truth[flipped]).mean() > 0.95
    assert flipped[findings.most_suspicious(40)].all()
    assert np.isfinite(findings.aums).all()
    np.testing.assert_array_equal(findings.keep, ~findings.flagged)
    assert findings.run["framework"] == framework.name


def test_files_of_the_job(data, framework, tmp_path):
    features, _, noisy, _ = data
    names = [f"{row:04}.png" for row in range(len(noisy))]
    findings = framework.find_mislabeled(
        softmax_regression(framework, features),
        noisy,
        NUM_CLASSES,
        save_dir=tmp_path / "run",
        sample_ids=names,
        class_names=["cat", "dog", "owl", "emu"],
        seed=3,
        metadata={"purpose": "a test"},
    )
    assert {each.name for each in (tmp_path / "run").iterdir()} == {
        "aum_values.csv",
        "flagged.csv",
        "run.json",
        "threshold_plan.npz",
        "totals_run0.npz",
        "totals_run1.npz",
    }
    ranking = read_csv(tmp_path / "run/aum_values.csv")
    aums = dict(zip(names, findings.aums.tolist(), strict=True))
    assert [(row["sample_id"], float(row["aum"])) for row in ranking] == sorted(aums.items(), key=lambda item: -item[1])
    flagged = read_csv(tmp_path / "run/flagged.csv")
    assert [row["sample_id"] for row in flagged] == [
        names[i] for i in sorted(np.flatnonzero(findings.flagged), key=lambda i: findings.aums[i])
    ]
    row = names.index(flagged[0]["sample_id"])
    assert flagged[0] == {
        "sample_id": names[row],
        "given_label": ["cat", "dog", "owl", "emu"][noisy[row]],
        "suggested_label": ["cat", "dog", "owl", "emu"][findings.suggested[row]],
        "aum": repr(float(findings.aums[row])),
    }
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run == findings.run
    assert run["cut"] == findings.cut.describe()
    assert run["purpose"] == "a test"
    assert run["samples"] == 600
    plan = ThresholdPlan.load(tmp_path / "run/threshold_plan.npz")
    assert plan.seed == 3
    np.testing.assert_array_equal(plan.threshold_samples, findings.plan.threshold_samples)
    assert len(Totals.load(tmp_path / "run/totals_run1.npz")) == 600


def scripted(margin_of):
    """A training function whose margins are told by ``margin_of(run, row)``; class 1 beats wherever one does."""
    runs = iter(range(100))

    def train(targets, num_classes, calculator):
        run = next(runs)
        for row, target in enumerate(targets):
            margin = margin_of(run, row)
            if margin is None:
                continue
            logits = np.full((1, num_classes), -100.0)
            logits[0, target] = 0.0
            logits[0, 1 if target != 1 else 0] = -margin
            calculator.accumulate(logits, [target], [row])

    return train


def test_aum_is_the_mean_over_the_runs_in_which_a_sample_is_regular(tmp_path):
    targets = np.zeros(30, np.int64)
    findings = find_mislabeled(
        scripted(lambda run, row: -4.0 - run if row == 7 else 10.0 + run), targets, 2, save_dir=tmp_path
    )
    regular = [run.regular for run in findings.plan.runs]
    for row in range(30):
        values = [(-4.0 - run if row == 7 else 10.0 + run) for run in range(2) if regular[run][row]]
        assert findings.aums[row] == np.mean(values)


def test_rows_are_those_of_the_data_set_in_whatever_order_they_come(tmp_path):
    def train(targets, num_classes, calculator):
        for row in reversed(range(len(targets))):
            logits = np.zeros((1, num_classes))
            logits[0, targets[row]] = row
            calculator.accumulate(logits, targets[row : row + 1], [row])

    findings = find_mislabeled(train, [0, 1] * 10, 2, save_dir=tmp_path, runs=1)
    regular = findings.plan.runs[0].regular
    np.testing.assert_array_equal(findings.aums[regular], np.arange(20.0)[regular])


def test_what_was_not_measured_is_nan_unflagged_and_counted(tmp_path):
    findings = find_mislabeled(
        scripted(lambda _, row: None if row == 5 else -1.0), np.zeros(30, np.int64), 2, save_dir=tmp_path
    )
    assert np.isnan(findings.aums[5])
    assert not findings.flagged[5]
    assert findings.cut.undecided[5]
    assert [run["unmeasured"] for run in findings.run["per_run"]] == [1, 1]
    assert read_csv(tmp_path / "aum_values.csv")[-1] == {"sample_id": "5", "aum": ""}


def test_suggested_is_the_class_that_most_often_beat_the_label(tmp_path):
    def train(targets, num_classes, calculator):
        for beaten_by in (2, 1, 2, None):
            logits = np.zeros((len(targets), num_classes))
            logits[np.arange(len(targets)), targets] = 1.0
            if beaten_by is not None:
                logits[3, beaten_by] = 5.0
            calculator.accumulate(logits, targets, np.arange(len(targets)))

    findings = find_mislabeled(train, [0] * 20, 3, save_dir=tmp_path)
    assert findings.suggested.tolist() == [0] * 3 + [2] + [0] * 16


def on_a_device(train, measured_elsewhere=lambda calculator: calculator.totals):
    """A training function whose calculator is given totals, as when margins are added up on a device."""

    def train_there(targets, num_classes, calculator):
        elsewhere = aum_core.AUMCalculator(calculator.save_dir)
        train(targets, num_classes, elsewhere)
        calculator.add_totals(measured_elsewhere(elsewhere))

    return train_there


def test_totals_from_a_device_give_the_same_cut_and_suggest_nothing(framework, data, tmp_path):
    features, _, noisy, _ = data
    train = softmax_regression(framework, features)
    here = framework.find_mislabeled(train, noisy, NUM_CLASSES, save_dir=tmp_path)
    numpy_train = softmax_regression(NUMPY, features)
    there = framework.find_mislabeled(on_a_device(numpy_train), noisy, NUM_CLASSES, save_dir=tmp_path)
    np.testing.assert_array_equal(there.aums, here.aums)
    np.testing.assert_array_equal(there.flagged, here.flagged)
    assert there.suggested.tolist() == [-1] * len(noisy)
    lines = read_csv(tmp_path / "flagged.csv")
    assert len(lines) == here.flagged.sum()
    assert {line["suggested_label"] for line in lines} == {""}
    assert there.run["measurements"] == here.run["measurements"]


@pytest.mark.parametrize("wrong", [-1, 600, "row"])
def test_totals_of_ids_that_are_no_rows_are_an_error(data, wrong, tmp_path):
    features, _, noisy, _ = data

    def with_a_wrong_one(calculator):
        calculator.totals.add([wrong], [0.0])
        return calculator.totals

    train = on_a_device(softmax_regression(NUMPY, features), with_a_wrong_one)
    with pytest.raises(ValueError, match=f"sample_ids: {wrong!r} is no row of the data set"):
        find_mislabeled(train, noisy, NUM_CLASSES, save_dir=tmp_path)


def test_the_extra_class_is_never_suggested(tmp_path):
    def train(targets, num_classes, calculator):
        logits = np.zeros((len(targets), num_classes))
        logits[:, num_classes - 1] = 5.0
        calculator.accumulate(logits, targets, np.arange(len(targets)))

    assert find_mislabeled(train, [0, 1] * 10, 2, save_dir=tmp_path).suggested.tolist() == [0, 1] * 10


def never(targets, num_classes, calculator):
    raise AssertionError("nothing may be trained")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": [0, 1]}, "2 samples are too few"),
        ({"targets": [0, 5] * 10}, "targets: row 1 has class 5"),
        ({"num_classes": 1}, "num_classes: 1"),
        ({"runs": 0}, "runs: 0"),
        ({"runs": 9}, "runs: 9 disjoint sets"),
        ({"size": 11}, "2 disjoint sets of 11"),
        ({"percentile": 100}, "percentile: 100"),
        ({"combine": "both"}, "combine: 'both'"),
        ({"sample_ids": ["a"]}, "sample_ids: 1 names for 20 rows"),
        ({"sample_ids": ["a"] * 20}, "sample_ids: 'a' stands for rows 0 and 1"),
        ({"class_names": ["a"]}, "class_names: 1 names for 2 classes"),
        ({"score": "auc"}, "scores: 'auc', want some of"),
        (
            {"score": "variability"},
            "score: 'variability', but neither .* want one that ranks labels: 'aum'",
        ),
    ],
)
def test_wrong_arguments_show_before_anything_is_trained(tmp_path, changes, words):
    arguments = {"targets": [0, 1] * 10, "num_classes": 2, **changes}
    with pytest.raises(ValueError, match=words):
        find_mislabeled(never, save_dir=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_a_run_that_measured_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"run 0 measured nothing; call calculator\.accumulate"):
        find_mislabeled(lambda *_: None, [0, 1] * 10, 2, save_dir=tmp_path)


@pytest.mark.parametrize(("ids", "words"), [([0, 99], "99"), ([0, -1], "-1"), (["a", "b"], "'a'")])
def test_ids_that_are_no_rows_are_an_error_that_says_so(tmp_path, ids, words):
    def train(targets, num_classes, calculator):
        calculator.accumulate(np.zeros((2, num_classes)), targets[:2], ids)

    with pytest.raises(ValueError, match=rf"sample_ids: .*{words}.*row"):
        find_mislabeled(train, [0, 1] * 10, 2, save_dir=tmp_path)


def test_a_training_function_cannot_change_the_plan(tmp_path):
    def train(targets, num_classes, calculator):
        calculator.accumulate(np.eye(num_classes)[targets], targets, np.arange(len(targets)))
        targets[:] = 0

    findings = find_mislabeled(train, [0, 1] * 10, 2, save_dir=tmp_path)
    assert findings.targets.tolist() == [0, 1] * 10


def test_an_interrupted_job_leaves_the_runs_that_ended_whole(tmp_path):
    find_mislabeled(scripted(lambda *_: 1.0), [0, 1] * 10, 2, save_dir=tmp_path, runs=3)
    seen = []

    def train(targets, num_classes, calculator):
        calculator.accumulate(np.eye(num_classes)[targets], targets, np.arange(len(targets)))
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_mislabeled(train, [0, 1] * 10, 2, save_dir=tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"threshold_plan.npz", "totals_run0.npz"}
    assert len(Totals.load(tmp_path / "totals_run0.npz")) == 20


def test_non_finite_margins_are_told_in_run_json(tmp_path):
    def train(targets, num_classes, calculator):
        logits = np.eye(num_classes)[targets]
        logits[3] = np.nan
        calculator.accumulate(logits, targets, np.arange(len(targets)))

    with pytest.warns(RuntimeWarning, match="not finite"):
        findings = find_mislabeled(train, [0, 1] * 10, 2, save_dir=tmp_path)
    assert [run["left_out"] for run in findings.run["per_run"]] == [1, 1]
    assert findings.run["left_out"] == 2


def test_version_is_told(tmp_path):
    findings = find_mislabeled(scripted(lambda *_: 1.0), [0, 1] * 10, 2, save_dir=tmp_path)
    assert findings.run["aum_version"] == aum_core.__version__


def epochs_of(truth, framework=None, epochs=4):
    array = np.array if framework is None else framework.array

    def train(targets, num_classes, calculator):
        logits = (4.0 * np.eye(num_classes)[truth]).astype(np.float32)
        for epoch in range(epochs):
            for rows in np.array_split(np.random.default_rng(epoch).permutation(len(truth)), 5):
                calculator.accumulate(array(logits[rows]), array(targets[rows]), array(rows))

    return train


def test_one_run_finds_confusions_and_leaves_its_files(framework, tmp_path):
    truth = np.arange(200) % 4
    given, wrong = flip_pairs(truth, 4, 0.1, seed=0)
    find = framework.find_by_posterior
    findings = find(epochs_of(truth, framework), given, 4, save_dir=tmp_path, class_names=["a", "b", "c", "d"])
    np.testing.assert_array_equal(findings.flagged, wrong)
    np.testing.assert_array_equal(findings.suggested, truth)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "aum_values.csv",
        "flagged.csv",
        "noise_posterior.csv",
        "run.json",
        "totals.npz",
        "transition.csv",
    ]
    told = json.loads((tmp_path / "run.json").read_text())
    assert told["cut"]["rule"] == "noise posterior above one half"
    assert told["noise_posterior"]["expected_wrong"] == pytest.approx(wrong.sum())
    first = (tmp_path / "flagged.csv").read_text().splitlines()
    row = findings.most_suspicious(1)[0]
    assert first[0] == "sample_id,given_label,suggested_label,aum,probability_wrong"
    assert first[1].startswith(f"{row},{'abcd'[given[row]]},{'abcd'[truth[row]]},-4.0,")
    assert (tmp_path / "transition.csv").read_text().splitlines()[0] == "true_label,a,b,c,d"


def test_a_sample_that_is_never_measured_is_undecided_and_keeps_its_label(tmp_path):
    truth = np.arange(40) % 2

    def train(targets, num_classes, calculator):
        calculator.accumulate(4.0 * np.eye(2)[truth[1:]], targets[1:], np.arange(1, 40))

    findings = find_by_posterior(train, truth, 2, save_dir=tmp_path, sample_ids=[f"s{i}" for i in range(40)])
    assert np.flatnonzero(findings.cut.undecided).tolist() == [0]
    assert findings.suggested[0] == 0
    assert not findings.flagged[0]
    assert (tmp_path / "noise_posterior.csv").read_text().splitlines()[-1] == "s0,0,0,,0"


def test_a_run_by_posterior_that_measures_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="the run measured nothing"):
        find_by_posterior(lambda *_: None, [0, 1], 2, save_dir=tmp_path)


@pytest.mark.parametrize("wrong", [0.9, Precision, "budget"])
def test_what_is_no_cutoff_is_told_before_anything_is_trained(tmp_path, wrong):
    with pytest.raises(TypeError, match=r"cutoff: .*, want LikelyWrong"):
        find_by_posterior(lambda *_: pytest.fail("trained"), [0, 1], 2, save_dir=tmp_path, cutoff=wrong)


def test_logits_of_another_number_of_classes_than_was_told_are_an_error(tmp_path):
    truth = np.arange(40) % 2

    def train(targets, num_classes, calculator):
        calculator.accumulate(4.0 * np.eye(3)[truth], targets, np.arange(40))

    with pytest.raises(ValueError, match="train: logits of 3 classes, want num_classes=2"):
        find_by_posterior(train, truth, 2, save_dir=tmp_path)


def test_the_files_of_another_cut_agree_on_what_is_flagged(tmp_path):
    truth = np.arange(200) % 4
    given, _ = flip_pairs(truth, 4, 0.1, seed=0)
    findings = find_by_posterior(epochs_of(truth), given, 4, save_dir=tmp_path, cutoff=Budget(50))
    table = np.genfromtxt(tmp_path / "noise_posterior.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(np.sort(table["sample_id"][table["flagged"] == 1]), np.flatnonzero(findings.flagged))
    assert (tmp_path / "flagged.csv").read_text().count("\n") == 51


def test_threshold_samples_cut_any_score(framework, tmp_path):
    truth = np.arange(300) % 4
    given, wrong = flip_pairs(truth, 4, 0.1, seed=0)

    def train(targets, num_classes, calculator):
        noise = np.random.default_rng(0).normal(0, 0.3, (4, 300, num_classes))
        logits = (4.0 * np.eye(num_classes)[truth] + noise).astype(np.float32)
        for epoch in range(4):
            calculator.accumulate(
                framework.array(logits[epoch]), framework.array(targets), framework.array(np.arange(300))
            )

    for score in ("bounded_aum", "el2n", "confidence"):
        findings = framework.find_mislabeled(train, given, 4, save_dir=tmp_path, score=score, seed=1)
        assert findings.flagged[wrong].all(), score
        assert findings.flagged[~wrong].mean() < 0.1, score
        assert json.loads((tmp_path / "run.json").read_text())["score"] == score
    with pytest.raises(ValueError, match="'auc', want some of"):
        framework.find_mislabeled(train, given, 4, save_dir=tmp_path, score="auc")
