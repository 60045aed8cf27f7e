"""The adapter for scikit-learn: what it measures, when, and what it makes of each kind of classifier."""

import csv
import inspect
import json
import subprocess
import sys
import types
import warnings
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC

import aum_core
from aum.sklearn import AUMCalculator, find_by_posterior, find_mislabeled, fit, logits, partial_fit, search

# ruff: noqa: N803, N806 # scikit-learn calls its features X

CLASSIFIERS = [
    MLPClassifier((16,), learning_rate_init=0.02, random_state=0),
    SGDClassifier(loss="log_loss", random_state=0),
    SGDClassifier(loss="hinge", random_state=0),
    Perceptron(random_state=0),
    GaussianNB(),
    MultinomialNB(),
    BernoulliNB(binarize=0.5),
]
by_name = pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda each: f"{type(each).__name__}")
TAKE_SPARSE = [each for each in CLASSIFIERS if not isinstance(each, GaussianNB)]


def blobs(num_samples=60, num_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(num_samples) % num_classes)
    return np.abs(rng.normal(scale=0.3, size=(num_samples, 5)) + 2 * np.eye(5)[y]), y


@pytest.fixture
def calculator(tmp_path):
    return AUMCalculator(tmp_path)


class Witness(ClassifierMixin, BaseEstimator):
    """Writes down all that happens to it; its score of a class is that class times the batches learnt so far."""

    def __init__(self):
        self.calls = []

    def partial_fit(self, X, y, classes=None):
        self.calls.append(("learn", X[:, 0].tolist(), list(y)))
        if classes is not None:
            self.classes_ = np.asarray(classes)
        return self

    def decision_function(self, X):
        self.calls.append(("score", X[:, 0].tolist()))
        learnt = sum(call[0] == "learn" for call in self.calls)
        return np.tile(learnt * np.arange(len(self.classes_), dtype=float), (len(X), 1))


# logits


@pytest.mark.parametrize("num_classes", [2, 3])
@by_name
def test_the_largest_score_is_the_predicted_class(classifier, num_classes):
    X, y = blobs(num_classes=num_classes)
    fitted = clone(classifier)
    for _ in range(20):
        fitted.partial_fit(X, y, classes=np.arange(num_classes))
    scores = logits(fitted, X)
    assert scores.shape == (60, num_classes)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert (scores.argmax(axis=1) == fitted.predict(X)).all()


def test_log_probabilities_have_the_margins_of_the_logits():
    X, y = blobs()
    network = MLPClassifier((8,), random_state=0, max_iter=20, solver="lbfgs").fit(X, y)
    hidden = np.maximum(X @ network.coefs_[0] + network.intercepts_[0], 0)
    raw = hidden @ network.coefs_[1] + network.intercepts_[1]
    wanted = aum_core.compute_margins(raw, y).margin
    np.testing.assert_allclose(aum_core.compute_margins(logits(network, X), y).margin, wanted, rtol=1e-9, atol=1e-9)


def test_one_binary_score_is_two_columns():
    X, y = blobs(num_classes=2)
    svm = LinearSVC().fit(X, y)
    z = svm.decision_function(X)
    assert (logits(svm, X) == np.stack([0 * z, z], axis=1)).all()


def test_binary_margins_of_probabilities_are_the_log_odds_both_ways():
    X, y = blobs(num_classes=2)
    network = MLPClassifier((8,), random_state=0).partial_fit(X, y, classes=[0, 1])
    p = network.predict_proba(X)[:, 1]
    margins = aum_core.compute_margins(logits(network, X), np.ones(60, int)).margin
    np.testing.assert_allclose(margins, np.log(p) - np.log(1 - p), rtol=1e-6)


class Sure(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are those it is given."""

    def __init__(self, probabilities):
        self.probabilities = probabilities
        self.classes_ = np.arange(np.shape(probabilities)[1])

    def predict_proba(self, X):
        return np.asarray(self.probabilities)[: len(X)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saturated_probabilities_stay_finite_and_symmetric(dtype):
    tiny = np.finfo(dtype).tiny
    beyond = np.finfo(dtype).eps ** 2
    both = logits(Sure(np.array([[1.0, 0.0], [0.0, 1.0], [beyond, 1.0]], dtype)), np.zeros((3, 1)))
    assert np.isfinite(both).all()
    assert (both[0] == both[1][::-1]).all()
    assert (both[1] == both[2]).all()  # 1 - p could not say it the other way round
    three = logits(Sure(np.array([[1.0, 0.0, tiny]], dtype)), np.zeros((1, 1)))
    assert three[0].tolist() == [0.0, np.log(float(tiny)), np.log(float(tiny))]


def test_nan_is_for_the_calculator_to_see():
    assert np.isnan(logits(Sure(np.array([[np.nan, 0.5, 0.5]])), np.zeros((1, 1)))[0, 0])


def test_naive_bayes_scores_reach_beyond_what_probabilities_can_tell():
    X, y = blobs()
    bayes = GaussianNB(var_smoothing=1e-12).fit(X, y)
    far = np.array([[0.0, 0.0, 0.0, 0.0, 1e6], [0.0, 0.0, 0.0, 0.0, 2e6]])
    assert (bayes.predict_proba(far).min(axis=1) == 0).all()
    margins = aum_core.compute_margins(logits(bayes, far), bayes.predict(far)).margin
    assert 0 < margins[0] < margins[1]


def test_a_class_that_naive_bayes_has_not_seen_is_unlikely_but_not_infinitely():
    X, y = blobs()
    bayes = GaussianNB().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    scores = logits(bayes, X)
    assert np.isfinite(scores).all()
    assert (scores.argmin(axis=1) == 2).sum() > 30


@pytest.mark.parametrize("num_classes", [3, 4])
def test_scores_of_pairs_of_classes_are_refused(num_classes):
    X, y = blobs(num_classes=num_classes)
    with pytest.raises(ValueError, match=r"SVC scores pairs of classes .*decision_function_shape='ovr'"):
        logits(SVC(decision_function_shape="ovo").fit(X, y), X)
    assert logits(SVC().fit(X, y), X).shape == (60, num_classes)


def test_scores_that_are_not_one_per_class_are_refused():
    odd = Sure([[0.5, 0.5]])
    odd.classes_ = np.arange(5)
    with pytest.raises(ValueError, match=r"predict_proba of Sure has shape \(1, 2\), want \(B, 5\)"):
        logits(odd, np.zeros((1, 1)))


def test_no_scores_no_fit_several_outputs():
    X, y = blobs()
    with pytest.raises(ValueError, match="MLPClassifier is not fitted"):
        logits(MLPClassifier(), X)
    with pytest.raises(TypeError, match="NoScores has neither"):
        logits(type("NoScores", (), {"classes_": np.arange(3)})(), X)
    with pytest.raises(ValueError, match="several outputs"):
        logits(KNeighborsClassifier().fit(X, np.stack([y, y], axis=1)), X)


# partial_fit


def test_a_batch_is_measured_before_it_is_learnt(calculator):
    witness = Witness()
    for ids in (["a", "b"], ["c", "a"]):
        assert partial_fit(witness, np.zeros((2, 1)), [0, 1], calculator, ids, classes=[0, 1]) is witness
    partial_fit(witness, np.ones((1, 1)), [1], calculator, ["b"])
    assert [call[0] for call in witness.calls] == ["learn", "score", "learn", "score", "learn"]
    # after one batch class 1 is ahead by 1, after two by 2
    assert dict(calculator.sums) == {"c": -1.0, "a": 1.0, "b": 2.0}


@by_name
def test_margins_are_those_of_the_classifier_as_it_was(classifier, calculator):
    X, y = blobs()
    ours, alone = clone(classifier), clone(classifier)
    wanted = np.zeros(60)
    for epoch in range(3):
        partial_fit(ours, X, y, calculator, np.arange(60), classes=[0, 1, 2])
        if epoch:
            wanted += aum_core.compute_margins(logits(alone, X), y).margin
        alone.partial_fit(X, y, classes=[0, 1, 2])
    assert (calculator.totals.sums == wanted).all()
    assert (calculator.totals.counts == 2).all()


def test_labels_of_any_kind_are_told_by_their_place(tmp_path):
    X, y = blobs()
    sums = []
    for names in (np.arange(3), np.array([-7, 0, 900]), np.array(["ant", "bee", "cow"])):
        calculator = AUMCalculator(tmp_path)
        classifier = SGDClassifier(random_state=0)
        for _ in range(3):
            partial_fit(classifier, X, names[y].tolist(), calculator, list(range(60)), classes=names)
        sums.append(calculator.totals.sums.copy())
    assert all((each == sums[0]).all() for each in sums)


def test_a_label_nobody_told_of_is_named_and_nothing_changes(calculator):
    witness = Witness()
    partial_fit(witness, np.zeros((2, 1)), ["a", "b"], calculator, [0, 1], classes=["a", "b"])
    before = list(witness.calls)
    for label in ("aa", "z", ""):
        with pytest.raises(ValueError, match=rf"sample 'x7' has label '{label}', want one of the classes 'a', 'b'"):
            partial_fit(witness, np.zeros((2, 1)), ["a", label], calculator, ["x6", "x7"])
    assert witness.calls == before
    assert not len(calculator.totals)


def test_a_batch_that_cannot_be_measured_is_not_learnt(calculator):
    witness = Witness()
    partial_fit(witness, np.zeros((2, 1)), [0, 1], calculator, [0, 1], classes=[0, 1])
    with pytest.raises(TypeError, match="sample_ids"):
        partial_fit(witness, np.zeros((2, 1)), [0, 1], calculator, [0, 1.5])
    assert [call[0] for call in witness.calls].count("learn") == 1


@pytest.mark.parametrize(
    ("X", "y", "ids", "wanted"),
    [
        (np.zeros((2, 1)), [0], [0, 1], "2 rows, 1 labels, 2 ids"),
        (np.zeros((2, 1)), [0, 1], [0], "2 rows, 2 labels, 1 ids"),
        (np.zeros((2, 1)), [[0, 1], [1, 0]], [0, 1], r"y: shape \(2, 2\)"),
    ],
)
def test_lengths_and_shapes_are_checked(calculator, X, y, ids, wanted):
    with pytest.raises(ValueError, match=wanted):
        partial_fit(Witness(), X, y, calculator, ids, classes=[0, 1])


def test_the_first_batch_wants_the_classes(calculator):
    with pytest.raises(ValueError, match="classes: None"):
        partial_fit(Witness(), np.zeros((2, 1)), [0, 1], calculator, [0, 1])


# fit


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_every_epoch_has_every_row_once_in_even_batches(num_samples, batch_size, epochs, seed):
    X = np.arange(float(num_samples)).reshape(-1, 1)
    witness, calculator = Witness(), AUMCalculator("nowhere")
    fit(witness, X, X[:, 0] % 2, calculator, classes=[0, 1], epochs=epochs, batch_size=batch_size, seed=seed)
    learnt = [call[1] for call in witness.calls if call[0] == "learn"]
    per_epoch = len(learnt) // epochs
    assert len(learnt) == epochs * per_epoch
    for start in range(0, len(learnt), per_epoch):
        batches = learnt[start : start + per_epoch]
        assert sorted(chain.from_iterable(batches)) == X[:, 0].tolist()
        assert max(map(len, batches)) <= batch_size
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
    measured = dict(calculator.counts)
    first = set(learnt[0])
    assert all(measured.get(row, 0) == epochs - (row in first) for row in range(num_samples))


def test_an_epoch_has_an_order_of_its_own_which_the_seed_decides(calculator):
    X = np.arange(50.0).reshape(-1, 1)

    def orders(seed):
        witness = fit(Witness(), X, X[:, 0] % 2, calculator, epochs=2, batch_size=50, seed=seed)
        return [call[1] for call in witness.calls if call[0] == "learn"]

    first, second = orders(0)
    assert first != second
    assert orders(0) == [first, second]
    assert orders(1)[0] != first


def test_a_row_stays_with_its_label_and_its_id(calculator):
    X = np.arange(40.0).reshape(-1, 1)
    names = [f"row {row}" if row % 3 else row for row in range(40)]
    witness = fit(Witness(), X, X[:, 0] * 10, calculator, batch_size=7, epochs=2, sample_ids=names)
    for call in witness.calls:
        if call[0] == "learn":
            assert (np.array(call[2]) == 10 * np.array(call[1])).all()
    assert set(calculator.totals.sample_ids.tolist()) == set(names)


def test_what_is_learnt_is_what_was_augmented_and_measured(calculator):
    X = np.zeros((20, 1))
    witness = fit(
        Witness(), X, np.arange(20) % 2, calculator, batch_size=10, augment=lambda X, rng: X + rng.normal(size=X.shape)
    )
    scored = [call[1] for call in witness.calls if call[0] == "score"]
    learnt = [call[1] for call in witness.calls if call[0] == "learn"]
    assert scored == learnt[1:]
    assert len({value for batch in learnt for value in batch}) == 20 * 20
    assert (X == 0).all()


def test_epochs_are_told_as_they_end(calculator):
    told = []
    witness = Witness()
    fit(
        witness,
        np.zeros((9, 1)),
        [0, 1, 1] * 3,
        calculator,
        epochs=3,
        batch_size=3,
        on_epoch=lambda epoch: told.append((epoch, len(witness.calls))),
    )
    assert told == [(1, 5), (2, 11), (3, 17)]


@pytest.mark.parametrize("batch_size", [13, 20, 40])  # with 40 nothing at all is measured in the first epoch
def test_epochs_are_told_to_the_scores(tmp_path, batch_size):
    X, y = blobs(40)
    scored = {row: [] for row in range(40)}

    class Recorded(SGDClassifier):
        def decision_function(self, X):
            scores = super().decision_function(X)
            for row, right in zip(X[:, -1].astype(int), scores.argmax(axis=1) == y[X[:, -1].astype(int)], strict=True):
                scored[row].append(float(right))
            return scores

    X = np.column_stack([X, np.arange(40)])
    calculator = AUMCalculator(tmp_path, scores=["correctness", "forgetting"], noise_posterior=True)
    fit(
        Recorded(eta0=1e-6, learning_rate="constant", random_state=0), X, y, calculator, epochs=4, batch_size=batch_size
    )
    epochs = [len(scored[row]) for row in calculator.totals.sample_ids]
    assert set(epochs) == ({3} if batch_size == 40 else {3, 4})
    assert calculator.totals.counts.tolist() == calculator.scores._kept["epochs"].values.tolist() == epochs
    assert calculator.scores.describe()["epochs"] == max(epochs)
    wanted = [np.mean(scored[row]) for row in calculator.totals.sample_ids]
    np.testing.assert_allclose(calculator.scores["correctness"], wanted)
    assert np.isfinite(calculator.noise_posterior().probabilities).all()


def test_ctrl_c_stops_a_network_that_is_just_learning(calculator, monkeypatch):
    X, y = blobs()
    learn, calls = MLPClassifier._backprop, []

    def interrupted(self, *batch):
        calls.append(len(calls))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return learn(self, *batch)

    monkeypatch.setattr(MLPClassifier, "_backprop", interrupted)
    warnings.simplefilter("ignore")  # what raises is not that warnings are errors here
    with pytest.raises(KeyboardInterrupt):
        fit(MLPClassifier((4,), random_state=0), X, y, calculator)
    assert len(calls) == 5


def test_a_warning_stays_what_it_is(calculator):
    class Loud(Witness):
        def partial_fit(self, X, y, classes=None):
            warnings.warn("mind the gap", UserWarning, stacklevel=1)
            return super().partial_fit(X, y, classes)

    with pytest.warns(UserWarning, match="mind the gap"):
        fit(Loud(), np.zeros((4, 1)), [0, 1, 0, 1], calculator, epochs=1)


def test_a_fitted_classifier_is_trained_further_and_all_is_measured(calculator):
    X, y = blobs()
    classifier = SGDClassifier(random_state=0).fit(X, y)
    fit(classifier, X, y, calculator, epochs=1)
    assert (calculator.totals.counts == 1).all()
    assert len(calculator.totals) == 60


@pytest.mark.parametrize("classifier", TAKE_SPARSE, ids=lambda each: f"{type(each).__name__}")
def test_sparse_features_are_as_good(classifier, tmp_path):
    X, y = blobs()
    X[X < 1] = 0
    ranking = []
    for features in (sparse.csr_array(X), sparse.coo_array(X), sparse.csc_array(X)):  # not all can be indexed by row
        calculator = AUMCalculator(tmp_path)
        fit(clone(classifier), features, y, calculator, epochs=3)
        ranking.append(calculator.totals.aums.copy())
    assert (ranking[0] > 0).mean() > 0.8
    assert (ranking[1] == ranking[0]).all()
    assert (ranking[2] == ranking[0]).all()


def test_the_callers_arrays_are_left_alone(calculator):
    X, y = blobs()
    for array in (X, y):
        array.flags.writeable = False
    fit(MLPClassifier((4,), random_state=0), X, y, calculator, epochs=2)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"epochs": 0}, "epochs: 0"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"sample_ids": [1, 2]}, "60 rows, 60 labels, 2 ids"),
        ({"y": np.zeros(59, int)}, "60 rows, 59 labels"),
        ({"X": np.full((60, 5), np.nan)}, "NaN"),
        ({"classes": [0, 1]}, "sample 2 has label 2"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_learnt(calculator, change, wanted):
    witness = Witness()
    given_ = {"X": blobs()[0], "y": np.arange(60) % 3} | change
    with pytest.raises(ValueError, match=wanted):
        fit(witness, given_.pop("X"), given_.pop("y"), calculator, **given_)
    assert not witness.calls


# find_mislabeled


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    noisy, flipped = aum_core.flip_uniform(y, 10, 0.1, seed=1)
    return X / 16, noisy, flipped, y


@pytest.mark.slow
@by_name
def test_flipped_digits_are_found(classifier, digits, tmp_path):
    X, noisy, flipped, truth = digits
    findings = find_mislabeled(classifier, X, noisy, save_dir=tmp_path, epochs=5, seed=1)
    assert not hasattr(classifier, "classes_")
    # naive Bayes is the weakest: over six draws of flips and threshold samples its AUROC was 0.87 to 0.90, the share
    # of right suggestions 0.62 to 0.78, the recall 0.86 to 0.99
    assert roc_auc_score(flipped, -findings.aums) > 0.85
    assert (findings.suggested == truth)[flipped].mean() > 0.55
    assert findings.flagged[flipped].mean() > 0.8


@pytest.mark.slow
def test_names_of_classes_reach_the_files(digits, tmp_path):
    X, noisy, flipped, _ = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    ids = [f"{row:04d}.png" for row in range(len(X))]
    findings = find_mislabeled(
        SGDClassifier(loss="log_loss"), X, names[noisy], save_dir=tmp_path, epochs=3, sample_ids=ids, metadata={"a": 1}
    )
    with open(tmp_path / "flagged.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == findings.flagged.sum() > flipped.sum() / 2
    given_names = dict(zip(ids, names[noisy], strict=True))
    assert all(row["given_label"] == given_names[row["sample_id"]] for row in rows)
    assert {row["suggested_label"] for row in rows} <= set(names)
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["class_names"] == sorted(names)
    assert report["a"] == 1
    assert report["classifier"] == "SGDClassifier(loss='log_loss', random_state=0)"
    assert (np.unique(names[noisy])[findings.targets] == names[noisy]).all()


def test_a_run_has_a_fresh_classifier_of_its_own_seed(tmp_path):
    X, y = blobs()
    made = []

    def make():
        made.append(SGDClassifier())
        return made[-1]

    told = []
    find_mislabeled(make, X, y, save_dir=tmp_path, epochs=2, seed=5, runs=3, on_epoch=lambda *at: told.append(at))
    trained = [each for each in made if hasattr(each, "classes_")]
    assert [each.random_state for each in trained] == [5, 6, 7]
    assert all(each.classes_.tolist() == [0, 1, 2, 3] for each in trained)
    assert told == [(run, epoch) for run in range(3) for epoch in (1, 2)]


def test_the_same_call_finds_the_same(tmp_path):
    X, y = blobs()
    found = [find_mislabeled(MLPClassifier((4,)), X, y, save_dir=tmp_path, epochs=2, seed=seed) for seed in (0, 0, 1)]
    assert (found[0].aums == found[1].aums).all()
    assert not (found[0].aums == found[2].aums).all()


def test_two_classes_and_classes_without_a_sample(tmp_path):
    X, y = blobs(num_classes=2)
    findings = find_mislabeled(GaussianNB(), X, y * 4, save_dir=tmp_path, classes=[0, 2, 4], epochs=3)
    assert set(findings.targets.tolist()) == {0, 2}
    assert findings.plan.num_classes == 3
    assert find_mislabeled(Perceptron(), X, y > 0, save_dir=tmp_path, epochs=3).plan.num_classes == 2


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"y": np.zeros(60, int)}, ValueError, "y: one class, 0"),
        ({"y": np.zeros(61, int)}, ValueError, "60 rows, 61 labels"),
        ({"epochs": 0}, ValueError, "epochs: 0"),
        ({"epochs": 1}, ValueError, "epochs: 1, whose first batch"),
        ({"percentile": 100.0}, ValueError, "percentile"),
        ({"runs": 9}, ValueError, "runs: 9"),
        ({"classes": [0, 1]}, ValueError, "sample 2 has label 2"),
        ({"estimator": LogisticRegression()}, TypeError, "LogisticRegression has no partial_fit"),
        ({"estimator": MLPClassifier(solver="lbfgs")}, TypeError, "MLPClassifier has no partial_fit"),
        ({"estimator": "sgd"}, TypeError, "estimator: 'sgd'"),
        ({"epoch": 3}, TypeError, "unexpected keyword argument 'epoch'"),
        ({"cutoff": aum_core.Budget(3)}, TypeError, "unexpected keyword argument 'cutoff'"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(tmp_path, change, error, wanted):
    given_ = {"estimator": SGDClassifier(), "X": blobs()[0], "y": np.arange(60) % 3} | change
    with pytest.raises(error, match=wanted):
        find_mislabeled(save_dir=tmp_path / "out", **given_)
    assert not (tmp_path / "out").exists()


# find_by_posterior


@pytest.mark.slow
def test_flipped_digits_are_likely_wrong(digits, tmp_path):
    X, noisy, flipped, truth = digits
    names = np.array([f"digit {each}" for each in range(10)])
    told = []
    findings = find_by_posterior(
        SGDClassifier(loss="log_loss"),
        X,
        names[noisy],
        save_dir=tmp_path,
        epochs=8,
        seed=3,
        cutoff=aum_core.Budget(180),
        metadata={"a": 1},
        on_epoch=lambda *at: told.append(at),
    )
    assert roc_auc_score(flipped, findings.posterior.probabilities) > 0.9
    assert findings.flagged.sum() == 180
    assert (findings.suggested == truth)[flipped].mean() > 0.6
    assert told == [(0, epoch) for epoch in range(1, 9)]
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["class_names"] == names.tolist()
    assert (run["a"], run["epochs"], run["batch_size"]) == (1, 8, 32)
    assert run["classifier"] == "SGDClassifier(loss='log_loss', random_state=3)"


@pytest.mark.parametrize(
    ("change", "error", "wanted"),
    [
        ({"y": np.zeros(60, int)}, ValueError, "y: one class, 0"),
        ({"epochs": 0}, ValueError, "epochs: 0"),
        ({"cutoff": 0.5}, TypeError, "cutoff: 0.5"),
        ({"runs": 2}, TypeError, "unexpected keyword argument 'runs'"),
    ],
)
def test_the_posterior_is_refused_before_anything_is_written(tmp_path, change, error, wanted):
    given_ = {"estimator": SGDClassifier(), "X": blobs()[0], "y": np.arange(60) % 3} | change
    with pytest.raises(error, match=wanted):
        find_by_posterior(save_dir=tmp_path / "out", **given_)
    assert not (tmp_path / "out").exists()


def test_one_epoch_will_do_where_it_measures_more_than_its_first_batch(tmp_path):
    X, y = blobs()
    given_ = {"X": X, "y": y, "save_dir": tmp_path / "out", "epochs": 1}
    with pytest.raises(ValueError, match=f"epochs: 1, whose first batch .* all {len(y)} samples; want at least 2"):
        find_by_posterior(SGDClassifier(), batch_size=len(y), **given_)
    assert not (tmp_path / "out").exists()
    findings = find_by_posterior(SGDClassifier(), batch_size=len(y) - 1, **given_)
    assert 0 < np.isnan(findings.aums).sum() < len(y)


@pytest.mark.parametrize(
    ("find", "engine", "options"),
    [
        (find_mislabeled, aum_core.find_mislabeled, search._ThresholdSearch),
        (find_by_posterior, aum_core.find_by_posterior, search._PosteriorSearch),
    ],
)
def test_every_option_is_in_the_help_and_goes_somewhere(find, engine, options):
    documented = find.__doc__.partition("Parameters")[2].partition("Returns")[0]
    names = {
        name
        for line in documented.split("\n    ")
        if " : " in line and line[0] != " "
        for name in line.partition(" : ")[0].split(", ")
    }
    assert names == {"estimator", "X", "y", "save_dir", *options.__annotations__}
    taken = {*inspect.signature(fit).parameters, *inspect.signature(engine).parameters}
    assert set(options.__annotations__) <= taken


# the import


def import_with(finder):
    code = f"import sys\n{finder}\nimport aum.sklearn"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


MISSING = """
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{0}":
            raise ModuleNotFoundError("No module named '{0}'", name="{0}")
sys.meta_path.insert(0, Missing())
"""


def test_without_scikit_learn_one_line_says_what_to_run():
    done = import_with(MISSING.format("sklearn"))
    last = done.stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: aum.sklearn needs scikit-learn: pip install 'aum[sklearn]'"


def test_a_scikit_learn_that_lacks_something_says_so_itself():
    done = import_with(MISSING.format("scipy"))
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'scipy'"


def test_the_calculator_is_the_engines():
    import aum.sklearn

    assert AUMCalculator is aum_core.AUMCalculator
    assert isinstance(aum.sklearn, types.ModuleType)
    assert set(aum.sklearn.__all__) <= set(vars(aum.sklearn))
