from pathlib import Path

import numpy as np
import pytest

from aum_core import AUMCalculator, Needs, NoisePosterior, Precision, flip_pairs
from aum_core.posterior.confident_learning import MeanProbabilities
from aum_core.posterior.early_statistics import Disagreement, EarlyStatistics, SymmetricNoise
from aum_core.posterior.estimate import estimate
from aum_core.softmax import softmax

GOLDEN = Path(__file__).parents[2] / "golden_posteriors"
VERDICTS = {b"spread": "symmetric", b"classes": "class-conditional", b"cannot tell": "undetermined"}  # in the files


def feed(calculator, logits, labels, *, array=np.array, epochs=None, ends=False):
    """Go through epochs of a history, each in an order of its own."""
    for epoch in range(logits.shape[1]) if epochs is None else epochs:
        for rows in np.array_split(np.random.default_rng(epoch).permutation(len(labels)), -(-len(labels) // 64)):
            calculator.accumulate(array(logits[rows, epoch]), array(labels[rows]), array(rows))
        if ends:
            calculator.end_epoch()
    return calculator


def sure_of(truth, num_classes, sureness=0.7):
    rest = (1 - sureness) / (num_classes - 1)
    return (sureness - rest) * np.eye(num_classes)[truth] + rest


def posterior_of(means, targets):
    """What mean probabilities give, those of the first epochs being the same."""
    averages = MeanProbabilities(means, np.ones(len(means), np.int64), targets)
    return estimate(averages, EarlyStatistics(SymmetricNoise.of(averages), Disagreement.of(averages)))


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
    assert not Precision(0.01).cut(1 - found.probabilities, found).flagged.any()
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
        posterior_of(means, golden["targets"]),
        posterior_of(means[:, names], names.argsort()[golden["targets"]]),
    )
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-9)
    np.testing.assert_array_equal(one.suggested, names[other.suggested])
    np.testing.assert_allclose(one.transition[names][:, names], other.transition, atol=1e-9)


def test_confusions_are_found_and_their_rates_told():
    truth = np.random.default_rng(0).integers(0, 5, 4000)
    given, wrong = flip_pairs(truth, 5, 0.2, seed=1)
    found = posterior_of(sure_of(truth, 5), given)
    np.testing.assert_array_equal(found.flagged, wrong)
    np.testing.assert_array_equal(found.suggested, truth)
    assert found.expected_wrong == wrong.sum()
    np.testing.assert_allclose(np.diag(found.transition), 0.8, atol=0.05)
    np.testing.assert_allclose(found.transition.sum(axis=1), 1.0)


def test_the_answer_does_not_depend_on_the_size_of_the_blocks(golden, monkeypatch):
    from aum_core.posterior import confident_learning

    means = mean_softmax(golden, 4)
    whole = posterior_of(means, golden["targets"])
    monkeypatch.setattr(confident_learning, "_FLOATS_PER_BLOCK", 700)
    in_blocks = posterior_of(means, golden["targets"])
    np.testing.assert_allclose(whole.probabilities, in_blocks.probabilities, atol=1e-12)


def test_what_comes_in_is_left_as_it_is_and_what_was_not_measured_is_nan(golden):
    means = mean_softmax(golden, 4)
    means[7] = np.nan
    copy = means.copy()
    found = posterior_of(means, golden["targets"])
    np.testing.assert_array_equal(means, copy)
    assert np.flatnonzero(np.isnan(found.probabilities)).tolist() == [7]
    assert found.suggested[7] == -1
    assert found.most_suspicious()[-1] == 7
    others = np.delete(np.arange(len(means)), 7)
    alone = posterior_of(means[others], golden["targets"][others])
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


def made(probabilities):
    chances = np.array(probabilities)
    return NoisePosterior(chances, np.zeros(len(chances), int), np.eye(2), 2, "class-conditional", 1.0, 0.0)


def test_predictions_are_means_of_the_chances():
    posterior = made([0.2, 0.9, 0.7, 0.4])
    assert posterior.predicted_precision == pytest.approx(0.8)
    assert posterior.predicted_recall == pytest.approx(1.6 / 2.2)
    nothing = made([0.0, 0.0])
    assert (nothing.predicted_precision, nothing.predicted_recall) == (None, None)
