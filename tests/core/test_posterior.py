import json
from pathlib import Path

import numpy as np
import pytest

from aum_core import (
    AUMCalculator,
    Budget,
    LikelyWrong,
    Needs,
    NoisePosterior,
    Precision,
    Ranking,
    ZeroMargin,
    find_by_posterior,
    flip_pairs,
    noise_posterior,
    self_check,
)
from aum_core.softmax import softmax

GOLDEN = Path(__file__).parents[1] / "golden_posteriors"
VERDICTS = {b"spread": "symmetric", b"classes": "class-conditional", b"cannot tell": "undetermined"}  # in the files
VERDICTS = {b"spread": "symmetric", b"classes": "class-conditional", b"undetermined": "undetermined"}  # in the files
VERDICTS = {b"spread": "symmetric", b"classes": "class-conditional", b"undetermined": "undetermined"}  # in the files


def feed(calculator, logits, labels, *, array=np.array, epochs=None, ends=False):
    """Go through epochs of a history, each in an order of its own."""
    for epoch in range(logits.shape[1]) if epochs is None else epochs:
        for rows in np.array_split(np.random.default_rng(epoch).permutation(len(labels)), -(-len(labels) // 64)):
            calculator.accumulate(array(logits[rows, epoch]), array(labels[rows]), array(rows))
        if ends:
            calculator.end_epoch()
    return calculator


def beliefs(truth, num_classes, sureness=0.7):
    rest = (1 - sureness) / (num_classes - 1)
    return (sureness - rest) * np.eye(num_classes)[truth] + rest


@pytest.fixture(params=["pairs", "uniform", "clean"])
def golden(request):
    with np.load(GOLDEN / f"{request.param}.npz") as file:
        return dict(file)


def mean_softmax(golden, epochs):
    logits = golden["logits"][:, :epochs]
    return softmax(logits.reshape(-1, 10)).reshape(-1, epochs, 10).mean(axis=1)


@pytest.mark.parametrize("kept", [True, "on_disk"])
def test_streaming_gives_what_others_made_of_the_whole_history(framework, golden, tmp_path, kept):
    calculator = framework.AUMCalculator(tmp_path, noise_posterior=kept)
    feed(calculator, golden["logits"], golden["targets"], array=framework.array)
    window = calculator.scores.describe()["averaging_window"]
    assert window["epochs"] == golden["window"]
    assert window["early_noise"] == pytest.approx(float(golden["early_noise"]))
    found, rows = calculator.noise_posterior(), calculator.totals.sample_ids
    np.testing.assert_allclose(found.probabilities, golden["judged_probabilities"][rows], atol=1e-5)
    np.testing.assert_array_equal(found.suggested, golden["judged_suggested"][rows])
    np.testing.assert_array_equal(found.flagged, golden["judged_flagged"][rows])
    np.testing.assert_allclose(found.transition, golden["judged_transition"], atol=1e-6)
    assert found.expected_wrong == pytest.approx(float(golden["judged_expected_wrong"]), rel=1e-5, abs=1e-9)
    assert found.verdict == VERDICTS[golden["judged_verdict"].tobytes()]


def test_the_mean_softmax_of_the_window_gives_the_model_of_classes(golden):
    found = noise_posterior(mean_softmax(golden, int(golden["window"])), golden["targets"])
    np.testing.assert_allclose(found.probabilities, golden["classes_probabilities"], atol=1e-6)


def test_the_window_closes_by_itself_and_then_costs_no_more(golden, tmp_path):
    calculator = AUMCalculator(tmp_path, noise_posterior=True)
    epochs = golden["logits"].shape[1]
    for epoch in range(epochs):
        assert calculator.needs == Needs(("correct",), softmax=epoch < 3, logits=epoch <= golden["window"])
        feed(calculator, golden["logits"], golden["targets"], epochs=[epoch], ends=True)
    sizes = {name: len(array) for name, array in calculator.scores.to_arrays().items()}
    assert sizes["window_inside"] == golden["logits"][:, 0].size
    assert (sizes["window_second"] == 0) == (golden["window"] < epochs)


def test_where_nothing_can_be_told_nothing_is_flagged_and_it_is_said():
    with np.load(GOLDEN / "clean.npz") as file:
        logits, targets = file["logits"], file["targets"]
    found = feed(AUMCalculator("unused", noise_posterior=True), logits, targets).noise_posterior()
    assert found.verdict == "undetermined"
    assert not found.flagged.any()
    assert not found.flag_at_precision(0.01).any()
    told = found.describe()
    assert (told["verdict"], told["predicted_precision"]) == ("undetermined", None)
    assert "for review" in told["conditions"]


def test_a_net_that_agrees_with_all_labels_in_an_early_epoch_has_the_shortest_window(tmp_path):
    truth = np.random.default_rng(0).integers(0, 4, 400)
    labels, _ = flip_pairs(truth, 4, 0.2, seed=0)
    logits = np.repeat(3.0 * np.eye(4)[truth][:, None], 6, axis=1)
    logits[:, 2] = 1.5 * np.eye(4)[truth] + 1.6 * np.eye(4)[labels]  # the label wins, narrowly where it is wrong
    logits += np.random.default_rng(1).normal(0, 0.01, logits.shape)
    calculator = feed(AUMCalculator(tmp_path, noise_posterior=True), logits.astype(np.float32), labels, ends=True)
    window = calculator.scores.describe()["averaging_window"]
    assert (window["epochs"], window["closed"]) == (3, True)


def test_a_run_of_fewer_epochs_than_the_window_needs_uses_them_all(tmp_path):
    truth = np.arange(90) % 3
    logits = (3 * np.eye(3)[truth])[:, None].repeat(2, axis=1).astype(np.float32)
    found = feed(AUMCalculator(tmp_path, noise_posterior=True), logits, truth)
    assert found.scores.describe()["averaging_window"] == {"epochs": 2, "closed": False, "early_noise": None}
    assert not found.noise_posterior().flagged.any()


def test_permuting_the_classes_permutes_the_answer(golden):
    means = mean_softmax(golden, 4)
    names = np.random.default_rng(0).permutation(10)
    one, other = (
        noise_posterior(means, golden["targets"]),
        noise_posterior(means[:, names], names.argsort()[golden["targets"]]),
    )
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-9)
    np.testing.assert_array_equal(one.suggested, names[other.suggested])
    np.testing.assert_allclose(one.transition[names][:, names], other.transition, atol=1e-9)


def test_confusions_are_found_and_their_rates_told():
    truth = np.random.default_rng(0).integers(0, 5, 4000)
    given, wrong = flip_pairs(truth, 5, 0.2, seed=1)
    found = noise_posterior(beliefs(truth, 5), given)
    np.testing.assert_array_equal(found.flagged, wrong)
    np.testing.assert_array_equal(found.suggested, truth)
    assert found.expected_wrong == wrong.sum()
    np.testing.assert_allclose(np.diag(found.transition), 0.8, atol=0.05)
    np.testing.assert_allclose(found.transition.sum(axis=1), 1.0)


def test_the_answer_does_not_depend_on_the_size_of_the_blocks(golden, monkeypatch):
    from aum_core.posterior import confident_learning

    means = mean_softmax(golden, 4)
    whole = noise_posterior(means, golden["targets"])
    monkeypatch.setattr(confident_learning, "_FLOATS_PER_BLOCK", 70)
    in_blocks = noise_posterior(means, golden["targets"])
    np.testing.assert_allclose(whole.probabilities, in_blocks.probabilities, atol=1e-12)


def test_what_comes_in_is_left_as_it_is_and_what_was_not_measured_is_nan(golden):
    means = mean_softmax(golden, 4)
    means[7] = np.nan
    copy = means.copy()
    found = noise_posterior(means, golden["targets"])
    np.testing.assert_array_equal(means, copy)
    assert np.flatnonzero(np.isnan(found.probabilities)).tolist() == [7]
    assert found.suggested[7] == -1
    assert found.most_suspicious()[-1] == 7
    others = np.delete(np.arange(len(means)), 7)
    alone = noise_posterior(means[others], golden["targets"][others])
    np.testing.assert_allclose(found.probabilities[others], alone.probabilities, atol=1e-12)


def test_a_sample_whose_logits_are_no_numbers_is_not_judged_and_spoils_no_other(tmp_path):
    logits, labels = sums_of_logits()
    logits[0, 0], logits[1, 1] = np.nan, np.inf
    options = {"noise_posterior": True}
    found = AUMCalculator(tmp_path, nonfinite="propagate", **options)
    others = AUMCalculator(tmp_path, **options)
    for _ in range(4):
        found.accumulate(logits, labels, np.arange(60))
        others.accumulate(logits[2:], labels[2:], np.arange(2, 60))
    posterior = found.noise_posterior()
    assert np.isnan(posterior.probabilities[:2]).all()
    np.testing.assert_allclose(posterior.probabilities[2:], others.noise_posterior().probabilities, atol=0.05)
    found.finalize()
    assert (tmp_path / "noise_posterior.csv").read_text().splitlines()[-2:] == [
        f"0,{labels[0]},,,0",
        f"1,{labels[1]},,,0",
    ]


def test_logits_that_are_too_large_for_float32_sums_do_not_break_the_training(tmp_path):
    logits, labels = sums_of_logits()
    logits[0] *= 1e200
    calculator = AUMCalculator(tmp_path, noise_posterior=True)
    for sign in (1, 1, 1, -1, 1):
        logits[0] *= sign
        calculator.accumulate(logits, labels, np.arange(60))
    posterior = calculator.noise_posterior()
    assert np.isfinite(posterior.probabilities[1:]).all()


def sums_of_logits():
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return 4 * np.eye(3)[labels] + generator.normal(size=(60, 3)), labels


@pytest.mark.parametrize(
    ("means", "targets", "error", "words"),
    [
        (np.array([[0.5, 0.5], [2.0, -1.0]]), [0, 1], ValueError, "mean_softmax: row 1 is not of probabilities"),
        (np.array([[0.5, 0.5], [0.2, 0.2]]), [0, 1], ValueError, "mean_softmax: row 1 is not of probabilities"),
        (np.array([[np.inf, 0.5], [0.2, 0.8]]), [0, 1], ValueError, "mean_softmax: row 0 is not of probabilities"),
        (np.zeros(3), [0, 1, 0], ValueError, "mean_softmax: dtype float64 and shape"),
        (np.zeros((3, 1)), [0, 0, 0], ValueError, "C at least 2"),
        (np.zeros((3, 2), int), [0, 1, 0], ValueError, "want floats"),
        (np.full((3, 2), 0.5), [0, 1], ValueError, "targets: 2 of them, want 3"),
        (np.full((3, 2), 0.5), [0, 1, 2], ValueError, "row 2 has class 2"),
        (np.full((3, 2), np.nan), [0, 1, 0], ValueError, "no sample was measured"),
    ],
)
def test_input_that_does_not_fit_is_told(means, targets, error, words):
    with pytest.raises(error, match=words):
        noise_posterior(means, targets)


def made(probabilities):
    chances = np.array(probabilities)
    return NoisePosterior(chances, np.zeros(len(chances), int), np.eye(2), 2, "class-conditional", 1.0, 0.0)


def test_a_wanted_precision_flags_the_longest_head_that_keeps_it():
    posterior = made([0.2, 0.9, np.nan, 0.7, 0.4])
    assert posterior.flag_at_precision(0.8).tolist() == [False, True, False, True, False]
    assert posterior.flag_at_precision(0.95).sum() == 0
    assert posterior.flag_at_precision(0.5).sum() == 4
    with pytest.raises(ValueError, match="precision: 0, want a share"):
        posterior.flag_at_precision(0)


def test_predictions_are_means_of_the_chances():
    posterior = made([0.2, 0.9, 0.7, 0.4])
    assert posterior.predicted_precision == pytest.approx(0.8)
    assert posterior.predicted_recall == pytest.approx(1.6 / 2.2)
    nothing = made([0.0, 0.0])
    assert (nothing.predicted_precision, nothing.predicted_recall) == (None, None)


RANKING = Ranking(np.array([0.8, 0.1, np.nan, 0.3]), np.array([1.0, -2.0, np.nan, 0.5]), made([0.2, 0.9, np.nan, 0.7]))


@pytest.mark.parametrize(
    ("cutoff", "flagged", "told"),
    [
        (Budget(1), [1], {"budget": 1}),
        (Budget(0.5), [1, 3], {"budget": 0.5}),
        (Budget(10), [0, 1, 3], {"budget": 10}),
        (ZeroMargin(), [1], {"rule": "AUM below zero"}),
        (LikelyWrong(), [1, 3], {"predicted_precision": 0.8}),
        (Precision(0.85), [1], {"precision": 0.85, "predicted_precision": 0.9}),
    ],
    ids=str,
)
def test_cutoffs_flag_what_they_say_and_tell_it(cutoff, flagged, told):
    cut = cutoff.cut(RANKING)
    assert np.flatnonzero(cut.flagged).tolist() == flagged
    assert np.flatnonzero(cut.undecided).tolist() == [2]
    assert np.flatnonzero(cut.keep).tolist() == sorted({0, 1, 2, 3} - set(flagged))
    choices = cut.describe()
    assert (choices["flagged"], choices["undecided"]) == (len(flagged), 1)
    for name, value in told.items():
        assert choices[name] == pytest.approx(value), name
    json.dumps(choices, allow_nan=False)


@pytest.mark.parametrize("size", [0, -1, 1.5, 0.0, float("nan"), float("inf")])
def test_a_budget_is_a_number_or_a_share(size):
    with pytest.raises(ValueError, match="size: "):
        Budget(size)


@pytest.mark.parametrize("wrong", ["3", None, True, [1]])
def test_numbers_of_cutoffs_are_numbers(wrong):
    with pytest.raises(TypeError, match="size: "):
        Budget(wrong)
    with pytest.raises(TypeError, match="precision: "):
        Precision(wrong)


@pytest.mark.parametrize("cutoff", [Budget(np.int64(2)), Budget(np.float32(0.25)), Precision(np.float64(0.5))])
def test_cutoffs_of_numpy_numbers_can_be_written(cutoff):
    json.dumps(cutoff.cut(RANKING).describe(), allow_nan=False)


def test_cutoffs_that_need_a_posterior_say_so():
    for cutoff in (LikelyWrong(), Precision(0.9)):
        with pytest.raises(ValueError, match="needs the noise posterior"):
            cutoff.cut(Ranking(RANKING.scores, RANKING.aums))
    with pytest.raises(ValueError, match="precision: 2"):
        Precision(2)


def training(truth, framework=None, epochs=4):
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
    findings = find(training(truth, framework), given, 4, save_dir=tmp_path, class_names=["a", "b", "c", "d"])
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


def test_a_run_that_measures_nothing_is_an_error(tmp_path):
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
    findings = find_by_posterior(training(truth), given, 4, save_dir=tmp_path, cutoff=Budget(50))
    table = np.genfromtxt(tmp_path / "noise_posterior.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(np.sort(table["sample_id"][table["flagged"] == 1]), np.flatnonzero(findings.flagged))
    assert (tmp_path / "flagged.csv").read_text().count("\n") == 51


def test_self_check_takes_the_findings_of_one_run(tmp_path):
    truth = np.arange(400) % 4

    def find(noisy):
        return find_by_posterior(training(truth), noisy, 4, save_dir=tmp_path)

    found = self_check(find, truth, 4, noise_rate=0.2, flip=flip_pairs)
    assert (found.auroc, found.precision, found.recall) == (1.0, 1.0, 1.0)


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
