"""The command as its users meet it: what it prints, what it writes, and what it says when something does not fit."""

# ruff: noqa: N803, N806 # scikit-learn calls its features X

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import aum_core
from aum.command.cli import main

RESULTS = {"threshold_plan.npz", "totals_run0.npz", "totals_run1.npz", "aum_values.csv", "flagged.csv", "run.json"}
OF_POSTERIOR = {"totals.npz", "aum_values.csv", "flagged.csv", "run.json", "noise_posterior.csv", "transition.csv"}
PAPER = ["--method", "threshold-samples"]
QUICK = ["--epochs", "2", *PAPER]


def run(*words, timeout=300, **options):
    """The command in a process of its own, as a shell would start it."""
    return subprocess.run(
        [sys.executable, "-m", "aum", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **options,
    )


def blobs(num_samples=90, num_classes=3, seed=0):
    """Features (N, 4) around one centre per class, and their classes; three of them wrong."""
    rng = np.random.default_rng(seed)
    y = np.arange(num_samples) % num_classes
    X = rng.normal(scale=0.2, size=(num_samples, 4)) + np.eye(4)[y]
    y[:3] = (y[:3] + 1) % num_classes
    return X, y


def table(X, labels, **more):
    columns = {f"x{place}": X[:, place] for place in range(X.shape[1])}
    return pa.table({**columns, "label": labels, **more})


def csv_rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def findings_in(folder):
    """What a run found, without the words that tell one source from another."""
    report = json.loads((folder / "run.json").read_text())
    return csv_rows(folder / "aum_values.csv"), csv_rows(folder / "flagged.csv"), report["cut"], report["class_names"]


# what it finds


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "out"
    done = run("find", "digits", "--flip-labels", "0.1", "--seed", "0", "--out", folder, *PAPER)
    return done, folder


@pytest.mark.slow
def test_the_self_check_finds_the_flipped_digits(digits):
    done, folder = digits
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "run.json").read_text())
    check = report["self_check"]
    assert check["wrong"] == check["budget"] == 180
    assert check["found_within_budget"] > 0.96
    assert check["auroc"] > 0.998
    assert check["average_precision"] > 0.99
    assert check["precision"] > 0.9
    assert check["recall"] > 0.96
    assert report["job"] == "find_mislabeled"
    assert report["epochs"] == 20
    assert report["cut"]["flagged"] == len(csv_rows(folder / "flagged.csv")) - 1


@pytest.mark.slow
def test_the_self_check_is_that_of_the_files(digits):
    _, folder = digits
    from sklearn.datasets import load_digits
    from sklearn.metrics import average_precision_score, roc_auc_score

    _, flipped = aum_core.flip_uniform(load_digits().target, 10, 0.1, seed=0)
    ids, aums = aum_core.read_aum_values(folder / "aum_values.csv")
    truth = flipped[np.array(ids, dtype=int)]
    check = json.loads((folder / "run.json").read_text())["self_check"]
    assert check["auroc"] == pytest.approx(roc_auc_score(truth, -aums), abs=1e-12)
    assert check["average_precision"] == pytest.approx(average_precision_score(truth, -aums), abs=1e-12)
    flagged = np.array([row[0] for row in csv_rows(folder / "flagged.csv")[1:]], dtype=int)
    assert check["precision"] == pytest.approx(flipped[flagged].mean())
    assert check["recall"] == pytest.approx(flipped[flagged].sum() / 180)


def test_what_is_printed_when_piped(digits):
    done, folder = digits
    assert "\x1b" not in done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r"\s*\d+\s+\d+\s", line)]
    assert [row[0] for row in rows] == [str(rank) for rank in range(1, 21)]
    listed = [(row[1], row[2], row[3]) for row in rows]
    assert listed == [tuple(row[:3]) for row in csv_rows(folder / "flagged.csv")[1:21]]
    for words in ("Self-check: 180 labels were flipped", "AUROC", "recall", "flipped by us", "look at me", str(folder)):
        assert words in done.stdout
    assert done.stderr.splitlines()[-1] == "training, run 2 of 2: epoch 20 of 20"


def test_the_files_of_a_run(digits):
    _, folder = digits
    assert {path.name for path in folder.iterdir()} == RESULTS
    assert aum_core.ThresholdPlan.load(folder / "threshold_plan.npz").num_samples == 1797
    assert len(aum_core.Totals.load(folder / "totals_run1.npz")) == 1797


@pytest.mark.parametrize("top", [0, 3, 1000])
def test_top_is_the_number_of_rows(tmp_path, capsys, top):
    X, y = blobs()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    assert main(["find", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out"), "--top", str(top), *QUICK]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"(?m)^ +\d+ +\d+ ", out)) == min(top, 90)
    assert ("Most suspicious" in out) == bool(top)


# from what it finds it


@pytest.fixture(scope="module")
def from_npz(tmp_path_factory):
    folder = tmp_path_factory.mktemp("npz")
    X, y = blobs()
    np.savez(folder / "data.npz", X=X, y=y)
    assert main(["find", str(folder / "data.npz"), "--out", str(folder / "out")]) == 0
    found = findings_in(folder / "out")
    assert {row[0] for row in found[1][1:]} >= {"0", "1", "2"}
    assert {row[0] for row in found[0][-3:]} == {"0", "1", "2"}
    return found


def save_npz_images(folder, X, y):
    np.savez_compressed(folder / "data.npz", X=X.reshape(-1, 2, 2), y=y.astype(float).reshape(-1, 1))
    return ["data.npz"]


def save_npy(folder, X, y):
    np.save(folder / "X.npy", np.asfortranarray(X))
    np.save(folder / "y.npy", y.astype(np.uint8))
    return ["X.npy", "--labels", "y.npy"]


def save_big_endian(folder, X, y):
    np.save(folder / "X.npy", X.astype(">f8"))
    np.save(folder / "y.npy", y.astype("S1"))
    return ["X.npy", "--labels", "y.npy"]


def save_csv(folder, X, y):
    pa.csv.write_csv(table(X, y), folder / "data.csv")
    return ["data.csv", "--label-column", "label"]


def save_csv_with_bom(folder, X, y):
    content = io.BytesIO()
    pa.csv.write_csv(table(X, y).select(["label", "x0", "x1", "x2", "x3"]), content)
    (folder / "data.CSV").write_bytes(b"\xef\xbb\xbf" + content.getvalue().replace(b"\n", b"\r\n"))
    return ["data.CSV", "--label-column", "label"]


def save_parquet(folder, X, y):
    pa.parquet.write_table(table(X, y), folder / "data.parquet")
    return ["data.parquet", "--label-column", "label"]


def save_parquet_categories(folder, X, y):
    pa.parquet.write_table(table(X, pa.array(y.astype(str)).dictionary_encode()), folder / "data.parquet")
    return ["data.parquet", "--label-column", "label"]


@pytest.mark.parametrize(
    "save",
    [save_npz_images, save_npy, save_big_endian, save_csv, save_csv_with_bom, save_parquet, save_parquet_categories],
)
def test_every_format_gives_the_same_findings(save, from_npz, tmp_path, monkeypatch):
    words = save(tmp_path, *blobs())
    monkeypatch.chdir(tmp_path)
    assert main(["find", *words, "--out", "out"]) == 0
    assert findings_in(tmp_path / "out") == from_npz


def test_float32_features_come_to_the_same_samples(from_npz, tmp_path):
    X, y = blobs()
    np.savez(tmp_path / "data.npz", X=X.astype(np.float32), y=y)
    assert main(["find", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out")]) == 0
    found = findings_in(tmp_path / "out")
    assert [row[0] for row in found[1]] == [row[0] for row in from_npz[1]]


def test_names_of_classes_and_samples_come_through(tmp_path, capsys):
    X, y = blobs()
    names = np.array(["a cat", "Hündin", "[red]"])[y]
    ids = [f"{row:03d}" for row in range(len(y))]
    ids[1] = 'odd, "one"\nof two lines'
    pa.csv.write_csv(table(X, names, id=ids), tmp_path / "data.csv")
    words = [str(tmp_path / "data.csv"), "--label-column", "label", "--id-column", "id", "--out", str(tmp_path / "out")]
    assert main(["find", *words]) == 0
    flagged = {row[0]: row[1:3] for row in csv_rows(tmp_path / "out" / "flagged.csv")[1:]}
    assert flagged["000"] == ["Hündin", "a cat"]
    assert flagged[ids[1]] == ["[red]", "Hündin"]
    assert {row[0] for row in csv_rows(tmp_path / "out" / "aum_values.csv")[1:]} == set(ids)
    out = capsys.readouterr().out
    assert "[red]" in out
    assert r"one\"\nof" not in out
    assert r"\nof two lines" in out  # one row of the table is one line


def test_leading_zeros_are_part_of_an_id_and_of_a_label(tmp_path):
    X, y = blobs()
    lines = [f"{row:03d},{','.join(map(str, x))},0{label}" for row, (x, label) in enumerate(zip(X, y, strict=True))]
    (tmp_path / "data.csv").write_text("\n".join(["id,a,b,c,d,label", *lines]))
    words = [str(tmp_path / "data.csv"), "--label-column", "label", "--id-column", "id", *QUICK]
    assert main(["find", *words, "--out", str(tmp_path / "out")]) == 0
    ranking, _, _, names = findings_in(tmp_path / "out")
    assert {row[0] for row in ranking[1:]} == {f"{row:03d}" for row in range(90)}
    assert names == ["00", "01", "02"]


def test_parquet_ids_keep_their_type(tmp_path):
    X, y = blobs()
    pa.parquet.write_table(table(X, y, key=np.arange(1000, 1090)), tmp_path / "data.parquet")
    words = [str(tmp_path / "data.parquet"), "--label-column", "label", "--id-column", "key", *QUICK]
    assert main(["find", *words, "--out", str(tmp_path / "out")]) == 0
    assert {row[0] for row in csv_rows(tmp_path / "out" / "aum_values.csv")[1:]} == set(map(str, range(1000, 1090)))


def test_na_is_a_label_like_any_other(tmp_path):
    X, y = blobs()
    pa.csv.write_csv(table(X, np.array(["NA", "EU", "null"])[y]), tmp_path / "data.csv")
    words = [str(tmp_path / "data.csv"), "--label-column", "label", "--out", str(tmp_path / "out"), *QUICK]
    assert main(["find", *words]) == 0
    assert findings_in(tmp_path / "out")[3] == ["EU", "NA", "null"]


def test_constant_features_single_members_and_outliers_do_no_harm(tmp_path, recwarn):
    X, y = blobs()
    X[:, 3] = 7.0
    X[5, 0] = 1e30
    y[10] = 9
    np.savez(tmp_path / "data.npz", X=X, y=y)
    words = [str(tmp_path / "data.npz"), "--flip-labels", "0.1", "--out", str(tmp_path / "out")]
    assert main(["find", *words]) == 0
    assert findings_in(tmp_path / "out")[3] == ["0", "1", "2", "9"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["self_check"]["auroc"] > 0.9


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float16, np.float32, ">f4"])
def test_features_are_scaled_alike_whatever_their_type(dtype):
    from aum.command import model

    given = np.random.default_rng(0).integers(-128, 128, size=(50, 3)).astype(dtype)
    given[0] = np.array(-128).astype(dtype)
    given[:, 2] = 0
    wanted = given.astype(np.float64)
    wanted = (wanted - wanted.mean(axis=0)) / np.maximum(wanted.std(axis=0), 1e-9)
    np.testing.assert_allclose(model.scaled(given), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_callers_warnings_are_not_spilt(tmp_path):
    X, y = blobs()
    np.savez(tmp_path / "data.npz", X=X * 1e300, y=y)
    done = run("find", tmp_path / "data.npz", "--out", tmp_path / "out", *QUICK)
    assert done.returncode == 0
    assert all(line.startswith("training, run ") for line in done.stderr.splitlines())


def test_features_that_tell_nothing_are_told(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", X=rng.normal(size=(200, 8)), y=np.arange(200) % 4)
    assert main(["find", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out"), *QUICK]) == 0
    assert "more than half is flagged" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    X, y = blobs()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    for out, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert (
            main(["find", str(tmp_path / "data.npz"), "--out", str(tmp_path / out), "--seed", str(seed), *QUICK]) == 0
        )
    ranking = [(tmp_path / out / "aum_values.csv").read_bytes() for out in "abc"]
    assert ranking[0] == ranking[1] != ranking[2]


def test_options_arrive(tmp_path):
    X, y = blobs()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    words = [*PAPER, "--epochs", "3", "--runs", "3", "--percentile", "90", "--seed", "5", "--combine", "mean"]
    assert main(["find", str(tmp_path / "data.npz"), "--out", str(tmp_path / "deep" / "out"), *words]) == 0
    report = json.loads((tmp_path / "deep" / "out" / "run.json").read_text())
    cut = report["cut"]
    assert (report["epochs"], cut["runs"], cut["percentile"], cut["seed"], cut["combine"]) == (3, 3, 90.0, 5, "mean")
    assert "self_check" not in report


# the noise posterior


@pytest.fixture(scope="module")
def confused(tmp_path_factory):
    """Digits of which a fifth are labelled as the next one, searched by the noise posterior."""
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("confused")
    features, truth = load_digits(return_X_y=True)
    given, wrong = aum_core.flip_pairs(truth, 10, 0.2, seed=0)
    np.savez(folder / "data.npz", X=features, y=given)
    done = run("find", folder / "data.npz", "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder, done, truth, wrong


@pytest.mark.slow
def test_the_noise_posterior_finds_what_is_confused(confused):
    folder, _, truth, wrong = confused
    header, *rows = csv_rows(folder / "out" / "flagged.csv")
    assert header == ["sample_id", "given_label", "suggested_label", "aum", "probability_wrong"]
    flagged = np.array([row[0] for row in rows], dtype=int)
    assert wrong[flagged].mean() > 0.9
    assert wrong[flagged].sum() > 0.75 * wrong.sum()
    suggested = np.array([row[2] for row in rows], dtype=int)
    assert (suggested == truth[flagged])[wrong[flagged]].mean() > 0.95
    assert {path.name for path in (folder / "out").iterdir()} == OF_POSTERIOR


@pytest.mark.slow
def test_the_default_method_finds_most_flipped_labels(tmp_path):
    done = run("find", "digits", "--flip-labels", "0.1", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    check = json.loads((tmp_path / "run.json").read_text())["self_check"]
    assert check["auroc"] > 0.998
    assert check["precision"] > 0.9
    assert check["recall"] > 0.85


@pytest.mark.slow
def test_the_default_method_leaves_clean_data_alone(tmp_path):
    done = run("find", "digits", "--out", tmp_path)
    report = json.loads((tmp_path / "run.json").read_text())
    assert report["cut"]["flagged"] <= 9
    assert report["noise_posterior"]["expected_wrong_share"] < 0.01
    assert report["noise_posterior"]["conditions"][:30] in done.stdout


@pytest.mark.slow
def test_the_noise_posterior_tells_its_rates_and_what_to_make_of_them(confused):
    folder, done, _, wrong = confused
    report = json.loads((folder / "out" / "run.json").read_text())
    told = report["noise_posterior"]
    assert told["expected_wrong_share"] == pytest.approx(wrong.mean(), abs=0.05)
    assert told["predicted_precision"] > 0.8
    assert report["cut"]["rule"] == "noise posterior above one half"
    assert (report["method"], report["epochs"]) == ("noise-posterior", 20)
    assert f"Expected  {told['expected_wrong']:.0f} wrong labels" in done.stdout
    assert told["verdict"] == "class-conditional"
    for words in ("chance wrong", "look as if they followed from the class", "look at me"):
        assert words in done.stdout
    _, *rows = csv_rows(folder / "out" / "transition.csv")
    rates = np.array([row[1:] for row in rows], dtype=float)
    np.testing.assert_allclose(rates.sum(axis=1), 1.0)
    np.fill_diagonal(rates, 0)
    np.testing.assert_array_equal(rates.argmax(axis=1), (np.arange(10) + 1) % 10)


@pytest.fixture
def halves(tmp_path):
    """Two classes that a plane parts, none of them wrong."""
    features = np.random.default_rng(0).normal(size=(1500, 6))
    np.savez(tmp_path / "data.npz", X=features, y=(features[:, 0] > 0).astype(int))
    return ["find", str(tmp_path / "data.npz"), "--top", "0", "--out", str(tmp_path / "out")]


def test_where_nothing_can_be_told_that_is_what_is_printed(halves, capsys):
    assert main([*halves, "--flip-labels", "0.001"]) == 0
    printed = capsys.readouterr().out
    assert "Flagged   0 labels of 1500 (0.0%)" in printed
    assert "          Cannot tell which labels are wrong: " in printed
    assert "expected to be" not in printed
    assert "  precision          -        nothing was flagged\n" in printed


def test_a_budget_is_kept_where_nothing_can_be_told(halves, capsys):
    assert main([*halves, "--budget", "900"]) == 0
    printed = capsys.readouterr().out
    assert "Flagged   900 labels of 1500 (60.0%)" in printed
    assert "of the flagged labels are expected to be wrong,\n" in printed
    assert "The noise posterior flags nothing then." in " ".join(printed.split())
    assert "Beware" not in printed  # the budget said so, not the network


def test_the_files_are_named_at_the_end(halves, tmp_path, capsys):
    assert main([*halves, "--epochs", "2"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    for name in OF_POSTERIOR - {"totals.npz"}:
        assert name in last


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--budget", "7"], {"budget": 7, "flagged": 7}),
        (["--budget", "0.1"], {"budget": 0.1, "flagged": 9}),
        (["--zero-margin"], {"rule": "AUM below zero"}),
        (["--precision", "0.8"], {"precision": 0.8}),
        (["--precision", "1.0"], {"precision": 1.0}),
    ],
)
def test_cutoffs_arrive(tmp_path, words, rule, capsys):
    features, labels = blobs()
    np.savez(tmp_path / "data.npz", X=features, y=labels)
    command = ["find", str(tmp_path / "data.npz"), "--epochs", "2", "--out", str(tmp_path / "out")]
    assert main([*command, *words]) == 0
    cut = json.loads((tmp_path / "out" / "run.json").read_text())["cut"]
    assert {name: cut[name] for name in rule} == rule
    assert cut["flagged"] == len(csv_rows(tmp_path / "out" / "flagged.csv")) - 1
    assert "Cut-off   " in capsys.readouterr().out


def test_one_epoch_is_enough_for_the_noise_posterior(tmp_path, capsys):
    features, labels = blobs()
    np.savez(tmp_path / "data.npz", X=features, y=labels)
    assert main(["find", str(tmp_path / "data.npz"), "--epochs", "1", "--out", str(tmp_path / "out")]) == 0
    assert "Unjudged  45 samples that were not measured in time; more --epochs" in capsys.readouterr().out


def test_the_files_of_one_method_do_not_outlive_a_run_of_the_other(tmp_path):
    features, labels = blobs()
    np.savez(tmp_path / "data.npz", X=features, y=labels)
    command = ["find", str(tmp_path / "data.npz"), "--out", str(tmp_path / "out"), *QUICK]
    for method, files in (
        ("noise-posterior", OF_POSTERIOR),
        ("threshold-samples", RESULTS),
        ("noise-posterior", OF_POSTERIOR),
    ):
        assert main([*command, "--method", method]) == 0
        assert {path.name for path in (tmp_path / "out").iterdir()} == files


# what it says when something does not fit


def npz(**arrays):
    def save(folder):
        np.savez(folder / "data.npz", **arrays)
        return ["data.npz"]

    return save


def npy(X, y):
    def save(folder):
        np.save(folder / "X.npy", X)
        np.save(folder / "y.npy", y)
        return ["X.npy", "--labels", "y.npy"]

    return save


def text(content, *words, name="data.csv"):
    def save(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return [name, *words]

    return save


def parquet(*words, **columns):
    def save(folder):
        pa.parquet.write_table(pa.table(columns), folder / "data.parquet")
        return ["data.parquet", *words]

    return save


def truncated(save, name):
    def save_less(folder):
        words = save(folder)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        return words

    return save_less


def words_only(*words):
    return lambda folder: [*words]  # as the others are called


def with_options(*words):
    return lambda folder: [*npz(X=X, y=y)(folder), *words]


def npz_of_objects(folder):
    np.savez(folder / "data.npz", X=X, y=np.array(["a", None] * 45, dtype=object))
    return ["data.npz"]


def npz_with_a_huge_claim(folder):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 4)})
    with zipfile.ZipFile(folder / "data.npz", "w") as archive:
        archive.writestr("X.npy", header.getvalue())
        archive.writestr("y.npy", b"\x93NUMPY nonsense")
    return ["data.npz"]


def out_is_a_file(folder):
    (folder / "taken").write_text("mine")
    return [*npz(X=X, y=y)(folder), "--out", "taken"]


def out_under_a_file(folder):
    (folder / "taken").write_text("mine")
    return [*npz(X=X, y=y)(folder), "--out", "taken/out"]


def data_among_the_results(folder):
    (folder / "mine").mkdir()
    np.savez(folder / "mine" / "totals_run7.npz", X=X, y=y)
    return ["mine/totals_run7.npz", "--out", "mine"]


def a_folder(folder):
    (folder / "data.npz").mkdir()
    return ["data.npz"]


X, y = blobs()
NAN, INF = X.copy(), X.copy()
NAN[17, 2] = np.nan
INF[4, 1] = -np.inf
TABLE = "a,b,label\n" + "".join(f"{row},{row % 7},{'xy'[row % 2]}\n" for row in range(40))
LABEL = ("--label-column", "label")

BAD = {
    "missing file": (words_only("nowhere.npz"), ["nowhere.npz", "no such file"]),
    "folder": (a_folder, ["data.npz", "folder"]),
    "unknown suffix": (text("x", name="data.xlsx"), ["data.xlsx", ".csv"]),
    "no suffix": (text("x", name="Digits"), ["Digits", ".csv"]),
    "empty npz": (text("", name="data.npz"), ["data.npz", "empty"]),
    "empty csv": (text("", *LABEL), ["data.csv", "empty"]),
    "npz no npz": (text("hello there", name="data.npz"), ["data.npz", "NumPy"]),
    "npz truncated": (truncated(npz(X=X, y=y), "data.npz"), ["data.npz"]),
    "npz with a huge claim": (npz_with_a_huge_claim, ["data.npz", "memory"]),
    "npz without y": (npz(X=X, labels=y), ["y", "labels"]),
    "npz without X": (npz(features=X, y=y), ["X", "features"]),
    "npz objects": (npz_of_objects, ["y", "objects"]),
    "npz is an npy": (
        truncated(lambda f: (np.save(f / "X.npy", X), (f / "X.npy").rename(f / "d.npz"), ["d.npz"])[2], "d.npz"),
        ["d.npz"],
    ),
    "npz with labels": (with_options("--labels", "y.npy"), ["--labels"]),
    "npz with label column": (with_options("--label-column", "y"), ["--label-column"]),
    "npz with id column": (with_options("--id-column", "y"), ["--id-column"]),
    "digits with label column": (words_only("digits", "--label-column", "y"), ["--label-column", "digits"]),
    "npy without labels": (lambda f: npy(X, y)(f)[:1], ["X.npy", "--labels"]),
    "npy labels missing": (lambda f: [*npy(X, y)(f)[:2], "none.npy"], ["none.npy"]),
    "npy truncated": (truncated(npy(X, y), "X.npy"), ["X.npy"]),
    "lengths": (npz(X=X, y=y[:-1]), ["y", "89", "90"]),
    "one dimension": (npz(X=X[:, 0], y=y), ["X", "reshape"]),
    "scalar": (npz(X=np.float64(1.0), y=y), ["X", "()"]),
    "no samples": (npz(X=X[:0], y=y[:0]), ["no samples"]),
    "no features": (npz(X=X[:, :0], y=y), ["no features"]),
    "NaN": (npz(X=NAN, y=y), ["row 17", "column 2", "missing"]),
    "infinite": (npz(X=INF, y=y), ["row 4", "column 1", "-inf"]),
    "complex": (npz(X=X + 1j, y=y), ["X", "complex128"]),
    "features as text": (npz(X=X.astype(str), y=y), ["X", "numbers"]),
    "dates": (npz(X=X.astype("M8[s]"), y=y), ["X", "datetime"]),
    "one class": (npz(X=X, y=np.zeros(90, int)), ["one class", "0"]),
    "one-hot": (npz(X=X, y=np.eye(3)[y]), ["y", "argmax"]),
    "cube of labels": (npz(X=X, y=y.reshape(-1, 1, 1)), ["y", "(90, 1, 1)"]),
    "label NaN": (npz(X=X, y=np.where(np.arange(90) == 5, np.nan, y)), ["y", "row 5"]),
    "label infinite": (npz(X=X, y=np.where(np.arange(90) == 5, np.inf, y)), ["y", "row 5", "inf"]),
    "label broken": (npz(X=X, y=y + 0.5), ["y", "row 0", "classes"]),
    "label complex": (npz(X=X, y=y + 0j), ["y", "complex"]),
    "label empty": (npz(X=X, y=np.where(np.arange(90) == 6, "", "ab")), ["y", "row 6"]),
    "too many classes": (npz(X=X, y=np.arange(90)), ["90 samples of 90 classes", "91"]),
    "too few samples": (npz(X=X[:2], y=np.array([0, 1])), ["2 samples of 2 classes", "3"]),
    "too many runs": (with_options(*PAPER, "--runs", "5"), ["--runs", "110", "<= 4"]),
    "a single epoch of few": (with_options("--epochs", "1", *PAPER), ["--epochs", "at least 2"]),
    "a single epoch of one batch": (
        lambda f: [*npz(X=X[:60], y=y[:60])(f), "--epochs", "1"],
        ["--epochs", "all 60 samples", "at least 2"],
    ),
    "no epochs": (with_options("--epochs", "0"), ["--epochs", "at least 1"]),
    "epochs": (with_options("--epochs", "many"), ["--epochs", "many"]),
    "runs": (with_options("--runs", "0"), ["--runs"]),
    "top": (with_options("--top", "-1"), ["--top"]),
    "seed": (with_options("--seed", "-1"), ["--seed"]),
    "seed too large": (with_options("--seed", str(2**32)), ["--seed"]),
    "percentile 0": (with_options("--percentile", "0"), ["--percentile"]),
    "percentile 100": (with_options("--percentile", "100"), ["--percentile"]),
    "percentile nan": (with_options("--percentile", "nan"), ["--percentile"]),
    "combine": (with_options("--combine", "none"), ["--combine"]),
    "flip 0": (with_options("--flip-labels", "0"), ["--flip-labels"]),
    "flip 1": (with_options("--flip-labels", "1"), ["--flip-labels"]),
    "method": (with_options("--method", "guessing"), ["--method", "'guessing'", "noise-posterior"]),
    "runs of the other method": (
        with_options("--method", "noise-posterior", "--runs", "3"),
        ["--runs", "threshold-samples"],
    ),
    "combine of the other method": (
        with_options("--method", "noise-posterior", "--combine", "any"),
        ["--combine", "threshold-samples"],
    ),
    "precision of the other method": (
        with_options(*PAPER, "--precision", "0.9"),
        ["--precision", "--method noise-posterior"],
    ),
    "zero margin of the other method": (
        with_options(*PAPER, "--zero-margin"),
        ["--zero-margin", "--method noise-posterior"],
    ),
    "precision above 1": (with_options("--precision", "1.01"), ["--precision", "'1.01'", "at most 1"]),
    "precision percent": (with_options("--method", "noise-posterior", "--precision", "90"), ["--precision", "'90'"]),
    "budget of none": (with_options("--method", "noise-posterior", "--budget", "0"), ["--budget", "0"]),
    "budget of all": (with_options("--method", "noise-posterior", "--budget", "1.0"), ["--budget", "'1.0'"]),
    "two cut-offs": (
        with_options("--method", "noise-posterior", "--budget", "5", "--zero-margin"),
        ["--zero-margin", "--budget"],
    ),
    "flip percent": (with_options("--flip-labels", "10%"), ["--flip-labels", "10%"]),
    "flip nothing": (with_options("--flip-labels", "0.001"), ["--flip-labels", "0.001"]),
    "flip everything": (with_options("--flip-labels", "0.999"), ["--flip-labels", "0.999"]),
    "option": (with_options("--shuffle"), ["--shuffle"]),
    "no data": (words_only(), ["DATA"]),
    "out is a file": (out_is_a_file, ["--out", "taken"]),
    "out under a file": (out_under_a_file, ["--out", "taken"]),
    "out holds the data": (data_among_the_results, ["--out", "totals_run7.npz"]),
    "no label column": (text(TABLE), ["--label-column", "a, b, label"]),
    "unknown label column": (text(TABLE, "--label-column", "lable"), ["'lable'", "a, b, label"]),
    "unknown id column": (text(TABLE, *LABEL, "--id-column", "key"), ["--id-column", "'key'"]),
    "label is id": (text(TABLE, *LABEL, "--id-column", "label"), ["--id-column", "label"]),
    "header twice": (text(TABLE.replace("b", "a", 1), *LABEL), ["'a'", "twice"]),
    "header only": (text("a,b,label\n", *LABEL), ["no rows"]),
    "no feature columns": (text("label\nx\ny\n", *LABEL), ["no features", "label"]),
    "ragged": (text(TABLE + "1,2\n", *LABEL), ["data.csv"]),
    "not a number": (text(TABLE.replace("3,3", "3,three", 1), *LABEL), ["'b'", "row 3", "'three'"]),
    "missing cell": (text(TABLE.replace("3,3", "3,", 1), *LABEL), ["'b'", "row 3", "missing"]),
    "infinite cell": (text(TABLE.replace("3,3", "3,inf", 1), *LABEL), ["'b'", "row 3", "inf"]),
    "missing label cell": (text(TABLE.replace("3,3,y", "3,3,", 1), *LABEL), ["'label'", "row 3"]),
    "latin-1": (text(TABLE.encode().replace(b",y", b",\xff"), *LABEL), ["data.csv", "UTF-8"]),
    "latin-1 header": (text(TABLE.encode().replace(b"a,", b"\xe4,", 1), *LABEL), ["data.csv", "UTF-8"]),
    "index of pandas": (text(TABLE.replace("a", "", 1), *LABEL), ["''", "--id-column"]),
    "id twice": (text(TABLE.replace("\n3,", "\n2,", 1), *LABEL, "--id-column", "a"), ["'2'", "2 times"]),
    "id missing": (text(TABLE.replace("\n3,", "\n,", 1), *LABEL, "--id-column", "a"), ["'a'", "row 3"]),
    "parquet no parquet": (text("PAR0", *LABEL, name="data.parquet"), ["data.parquet", "Parquet"]),
    "parquet truncated": (truncated(parquet(*LABEL, a=X[:, 0], label=y), "data.parquet"), ["data.parquet"]),
    "parquet label missing": (parquet(*LABEL, a=[1, 2, 3], label=["x", None, "y"]), ["'label'", "row 1"]),
    "parquet label a list": (parquet(*LABEL, a=[1, 2], label=[[1], [2]]), ["'label'", "list"]),
    "parquet feature missing": (parquet(*LABEL, a=[1, None, 3], label=["x", "x", "y"]), ["'a'", "row 1"]),
    "parquet feature text": (parquet(*LABEL, a=["1", "2"], label=["x", "y"]), ["'a'", "string"]),
    "parquet id float": (
        parquet(*LABEL, "--id-column", "k", a=[1, 2], k=[0.5, 1.5], label=["x", "y"]),
        ["'k'", "double"],
    ),
    "parquet index": (parquet(*LABEL, a=[1, 2], __index_level_0__=[0, 1], label=["x", "y"]), ["__index_level_0__"]),
}


@pytest.mark.parametrize("case", BAD)
def test_one_line_says_what_does_not_fit(case, tmp_path, monkeypatch, capsys):
    make, wanted = BAD[case]
    monkeypatch.chdir(tmp_path)
    words = make(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    try:
        code: Any = main(["find", *words])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.startswith("aum find: error: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    for part in wanted:
        assert part in said.err
    assert sorted(path for path in tmp_path.rglob("*")) == before  # nothing made, nothing removed


@pytest.mark.slow
def test_a_bad_input_in_a_process_of_its_own(tmp_path):
    np.savez(tmp_path / "data.npz", X=NAN, y=y)
    done = run("find", "data.npz", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    def closed(**_):  # a mode of 0o500 would not keep the superuser out
        raise PermissionError(errno.EACCES, "Permission denied")

    np.savez(tmp_path / "data.npz", X=X, y=y)
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("tempfile.TemporaryFile", closed)
    assert main(["find", str(tmp_path / "data.npz"), "--out", str(tmp_path / "closed")]) == 2
    assert "closed: Permission denied; want a folder to write to" in capsys.readouterr().err
    assert not list((tmp_path / "closed").iterdir())


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{0}":
            raise ModuleNotFoundError("No module named '{0}'", name="{0}")
sys.meta_path.insert(0, Missing())
from aum.command.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(("module", "package"), [("sklearn", "scikit-learn"), ("rich", "rich"), ("pyarrow", "pyarrow")])
def test_a_missing_dependency_is_named_with_what_to_run(tmp_path, module, package):
    (tmp_path / "data.csv").write_text(TABLE)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT.format(module),
            "find",
            str(tmp_path / "data.csv"),
            *LABEL,
            "--out",
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr == f"aum find: error: needs {package}: pip install 'aum[find]'\n"
    assert not (tmp_path / "out").exists()


def test_another_import_error_is_not_swallowed(monkeypatch):
    monkeypatch.setitem(sys.modules, "aum.command.find", None)
    with pytest.raises(ModuleNotFoundError, match=r"aum\.command\.find"):
        main(["find", "digits"])


# its words


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"aum {aum_core.__version__}\n")


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["find", "--help"]])
def test_its_words_need_numpy_alone(words):
    code = "import sys; sys.modules.update(dict.fromkeys(['sklearn', 'rich', 'pyarrow', 'torch', 'pandas']))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom aum.command.cli import main\nmain()", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_tells_every_option_and_file():
    done = run("find", "--help")
    assert done.returncode == 0
    for word in ("--epochs", "--runs", "--percentile", "--seed", "--out", "--top", "--flip-labels", "--labels"):
        assert word in done.stdout
    for word in ("--method", "--precision", "--budget", "--zero-margin", "threshold-samples", "noise-posterior"):
        assert word in done.stdout
    for word in (
        "--label-column",
        "--id-column",
        "DATA",
        *((RESULTS | OF_POSTERIOR) - {"totals_run1.npz", "totals.npz"}),
    ):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_a_command_is_wanted():
    done = run()
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "COMMAND" in done.stderr


# what is left when it is stopped


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a process of its own cannot be sent a Ctrl-C there")
def test_ctrl_c_leaves_whole_files_of_this_run_alone(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("aum_values.csv", "flagged.csv", "run.json", "totals_run7.npz"):
        (out / name).write_text("of an earlier run")
    (out / "notes.txt").write_text("mine")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "aum", "find", "digits", "--epochs", "100000", "--out", str(out), *PAPER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts what runs in the background with SIGINT ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 # one thread
    ) as process:
        try:
            wait_for(out / "threshold_plan.npz", process)
            process.send_signal(signal.SIGINT)
            printed, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert printed == ""
    assert said.splitlines()[-1] == f"aum find: interrupted; the files in {out} so far are whole"
    assert "Traceback" not in said
    assert {path.name for path in out.iterdir()} == {"threshold_plan.npz", "notes.txt"}
    assert aum_core.ThresholdPlan.load(out / "threshold_plan.npz").num_samples == 1797


def wait_for(path: Path, process):
    """Until the file is there; a process that ends without it, or does not end, fails the test."""
    import time

    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_before_anything_is_written(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    from aum.command import find as command

    monkeypatch.setattr(command, "load", interrupted)
    assert main(["find", "digits"]) == 130
    assert capsys.readouterr().err == "aum find: interrupted; nothing has been written\n"


def test_old_results_do_not_outlive_a_new_run(tmp_path):
    out = tmp_path / "out"
    np.savez(tmp_path / "data.npz", X=X, y=y)
    assert main(["find", str(tmp_path / "data.npz"), "--runs", "4", "--out", str(out), *QUICK]) == 0
    assert (out / "totals_run3.npz").exists()
    assert main(["find", str(tmp_path / "data.npz"), "--runs", "2", "--out", str(out), *QUICK]) == 0
    assert {path.name for path in out.iterdir()} == RESULTS


def test_old_results_outlive_an_error(tmp_path, capsys):
    out = tmp_path / "out"
    np.savez(tmp_path / "data.npz", X=X, y=y)
    assert main(["find", str(tmp_path / "data.npz"), "--out", str(out), *QUICK]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(["find", str(tmp_path / "data.npz"), "--runs", "50", "--out", str(out)]) == 2
    assert main(["find", str(tmp_path / "none.npz"), "--out", str(out)]) == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert capsys.readouterr().err.count("error") == 2
