"""The quality benchmark in its small size: sane figures, nothing done twice, a page with plots. Not the values."""

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MARKS = ("measured: rankings", "measured: cut-offs", "measured: settings")
PAGE = "# A page\n" + "".join(f"\n<!-- {mark} -->\nold\n<!-- end -->\n" for mark in MARKS) + "\nBelow.\n"
DOCS = ROOT / "docs"
PLOTS = ("ranking.png", "cutoffs.png", "predictions.png", "clean.png", "retraining.png")
TABLES = ("experiments.csv", "rankings.csv", "cutoffs.csv", "predictions.csv", "test_errors.csv")


def benchmark(script, folder, *words, size="small"):
    """Run a script of the benchmark with its warnings as errors; the finished process."""
    command = [sys.executable, "-W", "error", ROOT / "benchmarks/quality" / script, "--size", size, *words]
    environ = {**os.environ, "MPLCONFIGDIR": str(folder)}  # where matplotlib may write
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def write_fashion_mnist(folder):
    generator = np.random.default_rng(0)
    for part, count in (("train", 400), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = generator.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        for name, dims, content in (("images-idx3", 3, images), ("labels-idx1", 1, labels)):
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb") as file:
                file.write(bytes([0, 0, 8, dims]) + bytes(4 * dims) + content.tobytes())


def write_vowel(folder):
    import pandas as pd
    import rdata

    generator = np.random.default_rng(0)
    classes = np.arange(330) % 11
    frame = pd.DataFrame({"V1": pd.Categorical((np.arange(330) % 2).astype(str))})
    frame["V2"] = classes + generator.normal(size=330)
    frame["Class"] = pd.Categorical([f"vowel {each:02}" for each in classes])
    rdata.write_rda(folder / "Vowel.rda", {"Vowel": frame})


class Small:
    """The small size, run first without and then with the files of the data sets."""

    def __init__(self, folder):
        self.folder, self.results, self.page = folder, folder / "quality-small.jsonl", folder / "page.md"
        self.page.write_text(PAGE)
        nowhere = ["--fashion-mnist", folder / "nowhere", "--mlbench", folder / "nowhere"]
        self.without = benchmark("run.py", folder, *nowhere).stderr
        self.lines_without = self.results.read_bytes()
        benchmark("report.py", folder, "--page", self.page)
        self.page_without = self.page.read_text()
        self.experiments_without = self.table("experiments.csv")
        write_fashion_mnist(folder)
        write_vowel(folder)
        self.rest = self.run()
        self.lines = self.results.read_bytes()
        benchmark("report.py", folder, "--page", self.page)

    def run(self):
        folders = ["--fashion-mnist", self.folder, "--mlbench", self.folder]
        return benchmark("run.py", self.folder, *folders).stderr

    def table(self, name):
        with open(self.page.with_suffix("") / name, newline="") as file:
            return list(csv.DictReader(file))

    def rows(self):
        return [json.loads(line) for line in self.lines.splitlines()]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("quality"))


def numbers(figures):
    for each in figures.values():
        if isinstance(each, dict):
            yield from numbers(each)
        elif isinstance(each, float):
            yield each


def test_figures_are_shares(small):
    for row in small.rows():
        found = list(numbers(row["figures"]))
        assert len(found) > 8
        assert all(0 <= each <= 1 for each in found)


def test_uniform_noise_on_digits_is_found_and_gives_a_better_net_without(small):
    figures = [row["figures"] for row in small.rows() if row["settings"]["noise"] == "uniform 20 %"]
    assert len(figures) == 2
    for each in figures:
        assert each["wrong"] == round(0.2 * each["samples"])
        assert each["rankings"]["AUM, plain run"]["auroc"] > 0.95
        assert each["cuts"]["paper: 2 runs, 99th, all"]["recall"] > 0.8
        assert each["errors"]["oracle"] < each["errors"]["noisy"]
        best = each["cuts"]["best cut on AUM"]["f1"]
        assert each["cuts"]["plain run, AUM < 0"]["f1"] <= best


def test_classes_are_ten_to_one_where_asked_for(small):
    figures = {row["settings"]["imbalance"]: row["figures"] for row in small.rows() if row["settings"]["net"] == "cnn"}
    assert set(figures) == {10}
    assert 450 < figures[10]["samples"] < 700  # of 1,310, the most frequent class whole and the others less


def test_nothing_is_wrong_in_clean_data(small):
    clean = [row["figures"] for row in small.rows() if row["settings"]["noise"] == "none"]
    assert clean
    for each in clean:
        assert (each["wrong"], each["rankings"]) == (0, {})
        assert all(cut["precision"] is None for cut in each["cuts"].values())


def test_data_that_is_not_there_is_left_out_and_told(small):
    assert "left out: vowel, 1 experiments, for want of" in small.without
    assert "left out: fashion-mnist, 1 experiments, for want of" in small.without
    assert len(small.lines_without.splitlines()) == 4
    [vowel] = [row for row in small.experiments_without if row["data"] == "vowel"]
    assert (vowel["training_samples"], vowel["planned"], vowel["done"]) == ("", "1", "0")
    assert "4 of 6 experiments" in small.page_without


def test_what_is_done_is_not_done_again(small):
    assert "6 experiments, 2 to do" in small.rest
    assert small.lines.startswith(small.lines_without)
    assert "6 experiments, 0 to do" in small.run()
    assert small.results.read_bytes() == small.lines


def test_a_line_cut_off_by_a_crash_is_done_again_and_comes_out_the_same(small):
    small.results.write_bytes(small.lines[:-20])
    assert "6 experiments, 1 to do" in small.run()
    again = [json.loads(line) for line in small.results.read_bytes().splitlines()]
    assert [row["figures"] for row in again] == [row["figures"] for row in small.rows()]
    small.results.write_bytes(small.lines)


def test_a_file_of_something_else_is_left_alone(small, tmp_path):
    other = tmp_path / "quality-small.jsonl"
    other.write_text('{"something": "else"}\n')
    command = [sys.executable, ROOT / "benchmarks/quality/run.py", "--results", other]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "line 1: not a result of this benchmark" in done.stderr
    assert other.read_text() == '{"something": "else"}\n'


def test_the_page_has_the_tables_between_its_marks(small):
    page = small.page.read_text()
    assert page.startswith("# A page\n\n<!-- measured: rankings -->\nMean over 1 data sets (digits, mlp).")
    assert page.endswith("<!-- end -->\n\nBelow.\n")
    assert "old" not in small.page_without.splitlines()
    for words in ("| AUM |", "| cleanlab, 3 folds |", "6 of 6 experiments"):
        assert words in page
    assert "nan" not in page.lower()


def test_the_data_files_have_all_that_was_measured(small):
    [digits] = [row for row in small.table("experiments.csv") if (row["data"], row["net"]) == ("digits", "mlp")]
    told = [digits[name] for name in ("training_samples", "test_samples", "classes", "epochs", "unmeasured_epochs")]
    assert told == ["1310", "450", "10", "10", "2"]
    for row in small.rows():
        settings, figures = row["settings"], row["figures"]
        place = {"data": settings["data"], "net": settings["net"], "noise": settings["noise"]}
        place["class_sizes"] = f"{settings['imbalance']}:1"  # one seed, so that a mean is the figure itself
        for name, kind, key in (("rankings.csv", "rankings", "score"), ("cutoffs.csv", "cuts", "rule")):
            lines = {each[key]: each for each in small.table(name) if place.items() <= each.items()}
            assert set(lines) == set(figures[kind])
            for what, line in lines.items():
                for column, value in figures[kind][what].items():
                    assert line[column] == ("" if value is None else f"{value:.4f}")
        retrained = [each for each in small.table("test_errors.csv") if place.items() <= each.items()]
        assert {each["trained_on"]: each["error"] for each in retrained} == {
            name: f"{value:.4f}" for name, value in figures["errors"].items()
        }
        [line] = [each for each in small.table("predictions.csv") if place.items() <= each.items()]
        assert line["said_wrong"] == f"{figures['predicted']['removed']:.4f}"


@pytest.mark.parametrize("name", PLOTS)
def test_plots_show_something(small, name):
    from matplotlib import image

    pixels = image.imread(small.page.with_suffix("") / name)
    coloured = np.ptp(pixels[..., :3], axis=-1) > 0.2
    assert coloured.sum() > 100
    edges = np.concatenate([pixels[:, [0, -1], :3].reshape(-1, 3), pixels[[0, -1], :, :3].reshape(-1, 3)])
    assert (edges == 1).all()  # nothing is cut off, no words of a legend either


def test_the_page_of_the_docs_is_that_of_its_results(tmp_path):
    [measured] = (DOCS / "quality").glob("*.jsonl")
    page = tmp_path / "quality.md"
    page.write_text((DOCS / "quality.md").read_text())
    benchmark("report.py", tmp_path, "--results", measured, "--page", page, size=measured.stem)
    assert page.read_text() == (DOCS / "quality.md").read_text()
    for name in TABLES:
        assert (tmp_path / "quality" / name).read_bytes() == (DOCS / "quality" / name).read_bytes()
    assert sorted(each.name for each in (DOCS / "quality").iterdir()) == sorted(
        [measured.name, "find.csv", *PLOTS, *TABLES]
    )


def test_the_page_shows_every_plot_and_leads_to_every_data_file():
    text = (DOCS / "quality.md").read_text()
    for each in (DOCS / "quality").iterdir():
        assert f"](quality/{each.name})" in text


def test_the_page_tells_the_means_of_find(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import find_quality

    with open(DOCS / "quality/find.csv", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == list(find_quality.COLUMNS)
    assert (
        f"<!-- measured: aum find -->\n{find_quality.means(lines)}\n<!-- end -->" in (DOCS / "quality.md").read_text()
    )
