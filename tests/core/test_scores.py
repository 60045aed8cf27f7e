import csv
import json

import numpy as np
import pytest

from aum_core import AUMCalculator, EpochSums, Totals
from aum_core.scores.kinds import SCORES, oriented
from aum_core.softmax import softmax

ALL = list(SCORES)


def history(num_samples=60, epochs=7, num_classes=4, seed=0):
    """Logits (N, E, C) of a net that learns, in float32, and labels of which some are wrong."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, num_classes, num_samples)
    labels = truth.copy()
    labels[: num_samples // 5] = (labels[: num_samples // 5] + 1) % num_classes
    signal = np.linspace(0.3, 3, epochs)[None, :, None] * np.eye(num_classes)[truth][:, None]
    return (signal + generator.normal(0, 1, (num_samples, epochs, num_classes))).astype(np.float32), labels


def feed(calculator, logits, labels, *, framework=None, ids=None, ends=False, batch_size=16, seed=1, epochs=None):
    """Go through a history as a training would: every epoch in an order of its own."""
    array = np.array if framework is None else framework.array
    ids = np.arange(len(labels)) if ids is None else ids
    generator = np.random.default_rng(seed)
    for epoch in range(logits.shape[1]):
        order = generator.permutation(len(labels))
        if epochs is not None and epoch not in epochs:
            continue
        for rows in np.array_split(order, -(-len(labels) // batch_size)):
            calculator.accumulate(array(logits[rows, epoch]), array(labels[rows]), [ids[row] for row in rows.tolist()])
        if ends:
            calculator.end_epoch()
    return calculator


def by_row(calculator, values, num_samples):
    found = np.full(num_samples, np.nan)
    found[calculator.totals.sample_ids.astype(int)] = values
    return found


def expected_scores(logits, labels):
    """Every score by its definition, from the whole history."""
    chances = softmax(logits.reshape(-1, logits.shape[2])).reshape(logits.shape).astype(float)
    hot = np.eye(logits.shape[2])[labels][:, None] > 0
    own = np.where(hot, chances, 0).sum(axis=2)
    margins = np.where(hot, logits, 0).sum(axis=2) - np.where(hot, -np.inf, logits).max(axis=2)
    right = logits.argmax(axis=2) == labels[:, None]
    forgotten = (right[:, :-1] & ~right[:, 1:]).sum(axis=1)
    return {
        "bounded_aum": np.tanh(margins / (0.5 * np.abs(margins).mean(axis=0))).mean(axis=1),
        "confidence": own.mean(axis=1),
        "variability": own.std(axis=1),
        "correctness": right.mean(axis=1),
        "el2n": np.sqrt(((chances - hot) ** 2).sum(axis=2))[:, :3].mean(axis=1),
        "forgetting": np.where(right.any(axis=1), forgotten, logits.shape[1]),
    }


def test_scores_are_those_of_their_definitions(framework, tmp_path):
    logits, labels = history()
    calculator = feed(framework.AUMCalculator(tmp_path, scores=ALL), logits, labels, framework=framework)
    for name, expected in expected_scores(logits, labels).items():
        found = by_row(calculator, calculator.scores[name], len(labels))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_scores_of_half_logits_are_those_of_float32(framework, tmp_path):
    logits, labels = history()
    half = logits.astype(np.float16)
    found = [
        feed(framework.AUMCalculator(tmp_path, scores=ALL), each, labels, framework=framework)
        for each in (half, half.astype(np.float32))
    ]
    for name in ALL:
        np.testing.assert_array_equal(found[0].scores[name], found[1].scores[name])


def test_the_aum_is_the_same_with_and_without_scores(framework, tmp_path):
    logits, labels = history()
    plain = feed(framework.AUMCalculator(tmp_path), logits, labels, framework=framework)
    scored = framework.AUMCalculator(tmp_path, scores=ALL, noise_posterior=True)
    feed(scored, logits, labels, framework=framework)
    np.testing.assert_array_equal(plain.totals.sums, scored.totals.sums)


def test_update_scores_as_accumulate_does(tmp_path):
    logits, labels = history()
    one = feed(AUMCalculator(tmp_path, scores=ALL), logits, labels)
    other = AUMCalculator(tmp_path, scores=ALL, compressed=False)
    other.accumulate = other.update  # type: ignore[method-assign, assignment] # a stand-in
    feed(other, logits, labels)
    for name in ALL:
        np.testing.assert_array_equal(one.scores[name], other.scores[name])


@pytest.mark.parametrize("batch_size", [7, 16, 60])
def test_epochs_are_seen_to_end_where_they_are_told_to(tmp_path, batch_size):
    logits, labels = history()
    told = feed(AUMCalculator(tmp_path, scores=ALL), logits, labels, ends=True, batch_size=batch_size)
    seen = feed(AUMCalculator(tmp_path, scores=ALL), logits, labels, batch_size=batch_size)
    for name in ALL:
        np.testing.assert_array_equal(told.scores[name], seen.scores[name])


def test_a_padding_repeat_does_not_end_an_epoch(tmp_path):
    calculator = AUMCalculator(tmp_path, scores=["correctness"])
    calculator.accumulate(np.eye(4), np.arange(4), [0, 1, 2, 3])
    calculator.accumulate(np.eye(4), [1, 2, 3, 0], [4, 5, 6, 0])
    assert calculator.scores.describe()["epochs"] == 1
    calculator.accumulate(np.eye(4), [3, 2, 1, 2], [3, 2, 1, 5])
    assert calculator.scores.describe()["epochs"] == 2


def test_a_sample_that_comes_several_times_in_an_epoch_counts_by_its_mean(tmp_path):
    calculator = AUMCalculator(tmp_path, scores=["confidence", "correctness"])
    calculator.accumulate([[2.0, 0.0], [0.0, 2.0]], [0, 0], [7, 7])
    calculator.end_epoch()
    calculator.accumulate([[2.0, 0.0]], [0], [7])
    high, low = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))
    np.testing.assert_allclose(calculator.scores["confidence"], [((high + low) / 2 + high) / 2])
    np.testing.assert_allclose(calculator.scores["correctness"], [0.75])


def test_of_tied_logits_the_lowest_class_is_the_answer(tmp_path):
    calculator = AUMCalculator(tmp_path, scores=["correctness"])
    calculator.accumulate([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]], [0, 1], ["first", "second"])
    assert calculator.scores["correctness"].tolist() == [1.0, 0.0]


def test_looking_changes_nothing(tmp_path):
    logits, labels = history()
    looked = AUMCalculator(tmp_path, scores=ALL, noise_posterior=True)
    for epoch in range(logits.shape[1]):
        feed(looked, logits, labels, epochs=[epoch])
        _ = [looked.scores[name] for name in ALL], looked.noise_posterior(), looked.scores.describe()
    blind = feed(AUMCalculator(tmp_path, scores=ALL, noise_posterior=True), logits, labels)
    for name in ALL:
        np.testing.assert_array_equal(looked.scores[name], blind.scores[name])
    np.testing.assert_array_equal(looked.noise_posterior().probabilities, blind.noise_posterior().probabilities)


def test_low_is_suspicious_once_a_score_is_oriented():
    logits, labels = history(num_samples=400)
    wrong = np.arange(400) < 80
    scores = expected_scores(logits, labels)
    for name in set(ALL) - {"variability"}:
        found = oriented(name, scores[name])
        assert found[wrong].mean() < found[~wrong].mean(), name


def test_nonfinite_measurements_are_left_out_of_scores_too(framework, tmp_path):
    calculator = framework.AUMCalculator(tmp_path, scores=ALL)
    logits = framework.array(np.float32([[1.0, 0.0], [np.nan, 0.0]]))
    with pytest.warns(RuntimeWarning, match="not finite"):
        calculator.accumulate(logits, framework.array([0, 0]), ["good", "bad"])
    calculator.accumulate(framework.array(np.float32([[1.0, 0.0]])), framework.array([0]), ["bad"])
    for name in ALL:
        assert np.isfinite(calculator.scores[name]).all(), name


def test_a_measurement_that_is_left_out_does_not_lend_its_label_to_another(tmp_path):
    calculator = AUMCalculator(tmp_path, scores=["confidence"])
    with pytest.warns(RuntimeWarning, match="not finite"):
        calculator.accumulate([[np.nan, 0.0], [0.0, 9.0]], [0, 1], ["bad", "good"])
    assert calculator.scores["confidence"][0] > 0.99


def test_a_softmax_of_large_logits_is_finite():
    chances = softmax(np.float32([[1e4, 0.0], [-1e4, -1e4]]))
    np.testing.assert_array_equal(chances, [[1.0, 0.0], [0.5, 0.5]])


def test_a_calculator_without_scores_says_how_to_have_them(tmp_path):
    calculator = AUMCalculator(tmp_path)
    calculator.end_epoch()
    with pytest.raises(AttributeError, match=r'scores=\["confidence"\]'):
        _ = calculator.scores
    with pytest.raises(ValueError, match="noise_posterior=True"):
        calculator.noise_posterior()
    with pytest.raises(ValueError, match="noise_posterior=True"):
        AUMCalculator(tmp_path, scores=["confidence"]).noise_posterior()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scores": ["confidense"]}, ValueError, "'confidense', want some of 'bounded_aum'"),
        ({"scores": ["confidence", "confidence"]}, ValueError, "there twice"),
        ({"scores": "confidence"}, TypeError, "want a list of names"),
        ({"noise_posterior": "disk"}, ValueError, "'disk', want False, True or 'on_disk'"),
    ],
)
def test_options_that_do_not_fit_are_told(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        AUMCalculator(tmp_path, **options)


def test_a_label_or_a_number_of_classes_that_changes_is_told_before_anything_changes(tmp_path):
    calculator = AUMCalculator(tmp_path, scores=["confidence"])
    calculator.accumulate(np.eye(3), [0, 1, 2], ["a", "b", "c"])
    before = calculator.totals.sums.copy(), calculator.scores["confidence"]
    with pytest.raises(ValueError, match="sample 'b' has target 2, and 1 before"):
        calculator.accumulate(np.eye(3)[:2], [0, 2], ["a", "b"])
    with pytest.raises(ValueError, match="4 classes, and 3 before"):
        calculator.accumulate(np.eye(4), [0, 1, 2, 3], ["d", "e", "f", "g"])
    assert len(calculator.totals) == 3
    np.testing.assert_array_equal(before[0], calculator.totals.sums)
    np.testing.assert_array_equal(before[1], calculator.scores["confidence"])


@pytest.mark.parametrize("name", ["confidence", "forgetting"])
def test_two_labels_of_a_sample_are_told_whatever_the_score_needs(tmp_path, name):
    calculator = AUMCalculator(tmp_path, scores=[name])
    with pytest.raises(ValueError, match="sample 'b' has target 1, and 0 before"):
        calculator.accumulate(np.eye(3), [2, 0, 1], ["a", "b", "b"])
    assert len(calculator.totals) == 0
    calculator.accumulate(np.eye(3), [2, 0, 0], ["a", "b", "b"])
    with pytest.raises(ValueError, match="sample 'a' has target 1, and 2 before"):
        calculator.accumulate(np.eye(3)[:1], [1], ["a"])


def test_a_label_that_changes_once_the_window_has_closed_is_told(tmp_path):
    labels = np.arange(60) % 3
    calculator = AUMCalculator(tmp_path, noise_posterior=True)
    for _ in range(3):
        calculator.accumulate(9 * np.eye(3)[(labels + (np.arange(60) < 6)) % 3], labels, np.arange(60))
    for _ in range(2):
        calculator.accumulate(9 * np.eye(3)[labels], labels, np.arange(60))
    calculator.end_epoch()
    assert calculator.scores.describe()["averaging_window"]["closed"]
    with pytest.raises(ValueError, match="sample 8 has target 0, and 2 before"):
        calculator.accumulate(np.eye(3)[:1], [0], [8])


def test_measured_batches_need_their_softmax(tmp_path):
    from aum_core import compute_margins

    logits = np.float32([[1.0, 0.0]])
    calculator = AUMCalculator(tmp_path, scores=["confidence"])
    with pytest.raises(ValueError, match="logits: None"):
        calculator.accumulate_measured(compute_margins(logits, [0]), ["a"])
    calculator.accumulate_measured(compute_margins(logits, [0]), ["a"], logits=logits)
    np.testing.assert_allclose(calculator.scores["confidence"], softmax(logits)[0, 0])


def test_totals_alone_are_refused_where_scores_are_kept(tmp_path):
    totals = Totals()
    totals.add(["a"], [1.0])
    with pytest.raises(ValueError, match="add_epoch"):
        AUMCalculator(tmp_path, scores=["confidence"]).add_totals(totals)


def epoch_sums(needs, logits, labels, epoch, rows):
    """What a device would have added up in an epoch that measures some rows."""
    from aum_core import compute_margins
    from aum_core.scores.needs import columns

    counts = np.zeros(len(labels), np.int64)
    counts[rows] = 1
    margins, chances = compute_margins(logits[:, epoch], labels), softmax(logits[:, epoch])
    sums = {name: column * counts for name, column in columns(np, needs.columns, margins, chances).items()}
    sums["margin"] = margins.margin * counts
    return EpochSums(counts, sums, labels, chances * counts[:, None], logits[:, epoch] * counts[:, None])


def test_epochs_added_up_elsewhere_give_the_same_scores(tmp_path):
    logits, labels = history()
    eager = feed(AUMCalculator(tmp_path, scores=ALL, noise_posterior=True), logits, labels)
    device = AUMCalculator(tmp_path, scores=ALL, noise_posterior=True)
    for epoch in range(logits.shape[1]):
        device.add_epoch(epoch_sums(device.needs, logits, labels, epoch, np.arange(len(labels))))
    for name in ALL:
        found = by_row(eager, eager.scores[name], len(labels))
        np.testing.assert_allclose(device.scores[name], found, rtol=1e-6, atol=1e-7, err_msg=name)
    found = by_row(eager, eager.noise_posterior().probabilities, len(labels))
    np.testing.assert_allclose(device.noise_posterior().probabilities, found, atol=1e-6)
    np.testing.assert_array_equal(by_row(eager, eager.totals.sums, len(labels)), device.totals.sums)


def test_an_epoch_added_up_elsewhere_comes_after_the_one_in_progress(tmp_path):
    logits, labels = history()
    calculator = AUMCalculator(tmp_path, scores=["forgetting", "confidence"])
    calculator.accumulate(logits[:, 0], labels, np.arange(60))
    calculator.add_epoch(epoch_sums(calculator.needs, logits, labels, 1, np.arange(60)))
    assert calculator.scores.describe()["epochs"] == 2
    expected = expected_scores(logits[:, :2], labels)
    np.testing.assert_allclose(calculator.scores["confidence"], expected["confidence"], rtol=1e-5)
    np.testing.assert_array_equal(calculator.scores["forgetting"], expected["forgetting"])


def test_samples_that_an_epoch_elsewhere_leaves_out_are_no_samples(tmp_path):
    logits, labels = history()
    calculator = AUMCalculator(tmp_path, scores=["correctness"])
    calculator.add_epoch(epoch_sums(calculator.needs, logits, labels, 0, np.arange(5, 9)), [f"s{i}" for i in range(60)])
    assert calculator.totals.sample_ids.tolist() == ["s5", "s6", "s7", "s8"]
    assert len(calculator.scores["correctness"]) == 4


@pytest.mark.parametrize("broken", ["margin", "confidence", "labels", "softmax", "logits"])
def test_an_epoch_that_does_not_fit_is_refused_before_anything_changes(tmp_path, broken):
    logits, labels = history()
    calculator = AUMCalculator(tmp_path, scores=ALL, noise_posterior=True)
    epoch = epoch_sums(calculator.needs, logits, labels, 0, np.arange(60))
    parts = {"counts": epoch.counts, "labels": epoch.labels, "softmax": epoch.softmax, "logits": epoch.logits}
    parts["sums"] = dict(epoch.sums)
    if broken in parts:
        parts[broken] = parts[broken][:-1]
    else:
        del parts["sums"][broken]
    with pytest.raises(ValueError, match=broken):
        calculator.add_epoch(EpochSums(**parts))
    assert len(calculator.totals) == 0


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("labels", np.array([0, 1, 4]), r"labels: row 2 has target 4, want one in \[0, 4\)"),
        ("labels", np.array([0, -1, 2]), "labels: row 1 has target -1"),
        ("labels", np.array([0, 1, 2.0]), "labels: float64 of shape"),
        ("counts", np.array([1, -1, 1]), "counts: row 1 has -1"),
        ("counts", np.array([1, 1, 1.0]), "counts: float64 of shape"),
        ("softmax", np.ones(3), r"softmax of shape \(3,\), want \(3, C\)"),
        ("softmax", np.ones((3, 5)), r"softmax of 5 classes and logits of 4"),
    ],
)
def test_values_of_an_epoch_that_cannot_be_are_refused(tmp_path, part, value, words):
    parts = {
        "counts": np.ones(3, np.int64),
        "sums": {"margin": np.ones(3), "correct": np.ones(3)},
        "labels": np.arange(3),
        "softmax": np.ones((3, 4)) / 4,
        "logits": np.zeros((3, 4)),
    }
    calculator = AUMCalculator(tmp_path, noise_posterior=True)
    with pytest.raises(ValueError, match=f"epoch: {words}"):
        calculator.add_epoch(EpochSums(**{**parts, part: value}))
    assert len(calculator.totals) == 0
    calculator.add_epoch(EpochSums(**parts))


def test_totals_are_no_epoch(tmp_path):
    with pytest.raises(TypeError, match=r"epoch: Totals, want aum_core.EpochSums"):
        AUMCalculator(tmp_path).add_epoch(Totals())


def test_an_epoch_elsewhere_with_another_label_or_number_of_classes_is_refused(tmp_path):
    logits, labels = history()
    calculator = AUMCalculator(tmp_path, scores=ALL)
    calculator.add_epoch(epoch_sums(calculator.needs, logits, labels, 0, np.arange(60)))
    before = calculator.totals.sums.copy()
    other = labels.copy()
    other[7] = (other[7] + 1) % 4
    with pytest.raises(ValueError, match=rf"sample 7 has target {other[7]}, and {labels[7]} before"):
        calculator.add_epoch(epoch_sums(calculator.needs, logits, other, 1, np.arange(60)))
    wide = np.concatenate([logits, logits[:, :, :1]], axis=2)
    with pytest.raises(ValueError, match="5 classes, and 4 before"):
        calculator.add_epoch(epoch_sums(calculator.needs, wide, labels, 1, np.arange(60)))
    np.testing.assert_array_equal(before, calculator.totals.sums)


def test_a_run_that_measured_nothing_writes_its_files(tmp_path):
    AUMCalculator(tmp_path, scores=ALL, noise_posterior=True).finalize()
    assert (tmp_path / "scores.csv").read_text().count("\n") == 1
    told = json.loads((tmp_path / "run.json").read_text())["scores"]
    assert told["epochs"] == 0
    assert "noise_posterior" not in told


def same_state(left, right):
    first, second = left.to_arrays(), right.to_arrays()
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.parametrize("epochs", [0, 1, 3, 7])
def test_saved_and_loaded_scores_go_on_to_the_bit(tmp_path, epochs):
    logits, labels = history()
    calculator = AUMCalculator(tmp_path, scores=ALL, noise_posterior=True)
    feed(calculator, logits[:, :epochs], labels)
    loaded = calculator.scores.from_arrays(
        {name: array.copy() for name, array in calculator.scores.to_arrays().items()}
    )
    same_state(calculator.scores, loaded)
    from aum_core import Batch, compute_margins

    for each in (calculator.scores, loaded):
        batch = Batch(np.arange(60), compute_margins(logits[:, 0], labels), logits[:, 0])
        batch.rows = np.arange(60)
        each.take(batch)
    same_state(calculator.scores, loaded)


@pytest.mark.parametrize("kept", [True, "on_disk"])
@pytest.mark.parametrize("at", [2, 4, 6])
def test_a_training_taken_up_from_a_file_ends_with_the_same_scores(framework, tmp_path, at, kept):
    logits, labels = history()
    options = {"scores": ALL, "noise_posterior": kept}
    whole = feed(framework.AUMCalculator(tmp_path, **options), logits, labels, framework=framework)
    first = framework.AUMCalculator(tmp_path, **options)
    feed(first, logits, labels, framework=framework, epochs=range(at))
    first.save(tmp_path / "checkpoint.npz")
    second = framework.AUMCalculator.load(tmp_path / "checkpoint.npz")
    feed(second, logits, labels, framework=framework, epochs=range(at, 7))
    same_state(whole.scores, second.scores)
    np.testing.assert_array_equal(whole.noise_posterior().probabilities, second.noise_posterior().probabilities)
    assert second.describe()["options"] == whole.describe()["options"]


def test_arrays_that_contradict_each_other_are_refused(tmp_path):
    logits, labels = history()
    scores = feed(AUMCalculator(tmp_path, scores=ALL, noise_posterior=True), logits, labels).scores
    arrays = scores.to_arrays()
    for name in [name for name, array in arrays.items() if len(array)]:
        without = {each: array for each, array in arrays.items() if each != name}
        with pytest.raises(ValueError, match="scores"):
            scores.from_arrays(without)
        with pytest.raises(ValueError, match="scores"):
            scores.from_arrays({**arrays, name: arrays[name][:-1]})


def test_finalize_writes_the_scores_beside_the_ranking(tmp_path):
    logits, labels = history()
    calculator = feed(AUMCalculator(tmp_path, scores=["confidence", "forgetting"]), logits, labels)
    calculator.finalize()
    with open(tmp_path / "scores.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == ["sample_id", "aum", "confidence", "forgetting"]
    with open(tmp_path / "aum_values.csv", newline="") as file:
        assert [line[:2] for line in lines] == list(csv.reader(file))[1:]
    row = calculator.totals.sample_ids.tolist().index(int(lines[0][0]))
    assert float(lines[0][2]) == calculator.scores["confidence"][row]
    told = json.loads((tmp_path / "run.json").read_text())["scores"]
    assert told == {"names": ["confidence", "forgetting"], "epochs": 7}
    assert not (tmp_path / "noise_posterior.csv").exists()
