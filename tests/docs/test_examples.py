"""The examples and benchmarks, run for real, in short."""

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*words, **variables):
    return subprocess.run(
        [sys.executable, *words], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


DIGITS = {
    "torch/train.py": [],
    "tensorflow/train.py": [],
    "jax_flax/train_nnx.py": [],
    "jax_flax/train_nnx.py --records": ["--records"],
    "jax_flax/train_linen.py": [],
}


@pytest.mark.parametrize("example", DIGITS)
def test_examples_find_most_flipped_digits(example, tmp_path):
    script = ROOT / "examples" / example.partition(" ")[0]
    done = run("-W", "error", script, *DIGITS[example], "--epochs", "6", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    recall = float(done.stdout.partition("recall ")[2].split()[0])
    assert recall > 0.95
    assert ("10782 records" in done.stdout) == ("--records" in example)
    assert (tmp_path / "flagged.csv").exists()


@pytest.fixture
def fashion_folder(tmp_path):
    """A folder with two hundred images in the files of Fashion-MNIST."""
    labels = np.random.default_rng(0).integers(0, 10, 200).astype(np.uint8)
    for name, content in (
        ("images-idx3", bytes(16) + bytes(200 * 28 * 28)),
        ("labels-idx1", bytes(8) + labels.tobytes()),
    ):
        with gzip.open(tmp_path / f"train-{name}-ubyte.gz", "wb") as file:
            file.write(content)
    return tmp_path


@pytest.mark.parametrize("script", [*(example for example in DIGITS if " " not in example), "keras/train.py"])
def test_examples_read_fashion_mnist(script, fashion_folder, tmp_path):
    options = ["--dataset", "fashion-mnist", "--folder", fashion_folder, "--epochs", "1", "--samples", "150"]
    done = run(ROOT / "examples" / script, *options, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out/aum_values.csv").read_text().splitlines()) == 151


def test_tf_step_prints_its_table():
    done = run(ROOT / "benchmarks/tf_step.py", "--rounds", "1", "--seconds", "0", "--samples", "100", "--classes", "3")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| False", "| True"))]
    assert [row.count("|") for row in rows] == [8, 8]


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_example_finds_most_flipped_digits(tmp_path, backend):
    done = run(ROOT / "examples/keras/train.py", "--epochs", "4", "--out", tmp_path, KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.partition("recall ")[2].split()[0]) > 0.9
    assert (tmp_path / "flagged.csv").exists()


def test_keras_step_prints_its_table():
    options = ["--backends", "torch", "--samples", "1000", "--steps", "3", "--rounds", "1", "--classes", "10"]
    done = run(ROOT / "benchmarks/keras_step.py", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].startswith("| torch | 1,000 |")


def test_streams_are_those_of_the_live_reference():
    done = run(ROOT / "benchmarks/against_reference.py", "--streams", "40")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("40 of 40 streams equal to the bit")


def test_find_quality_prints_its_table(tmp_path):
    done = run(ROOT / "benchmarks/find_quality.py", "--seeds", "1", "--folder", tmp_path / "nowhere")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines()[2:]]
    for method in ("noise-posterior", "threshold-samples"):
        [figures] = [row[4:] for row in rows if row[1:4] == [method, "digits", "10 %"]]
        assert float(figures[1]) > 0.99


def test_picture_of_the_readme_is_drawn(tmp_path):
    done = run(ROOT / "benchmarks/picture.py", "--out", tmp_path / "picture.png")
    assert done.returncode == 0, done.stderr
    flagged, found, there = map(int, re.findall(r"\d+", done.stdout))
    assert there == 166
    assert found > 0.9 * there
    assert flagged < 1.3 * there
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_speed_prints_its_tables():
    done = run(ROOT / "benchmarks/speed.py", "--rounds", "1", "--seconds", "0.001")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("`accumulate`, B=256") == 4
    assert done.stdout.count("| per sample") == 3


def test_jax_step_prints_its_tables():
    options = ["--groups", "1", "--training-groups", "1", "--samples", "1000", "--images", "8"]
    done = run(ROOT / "benchmarks/jax_step.py", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| 1,000 |") == 3
    assert done.stdout.count("| small CNN, 8x8 |") == 1
