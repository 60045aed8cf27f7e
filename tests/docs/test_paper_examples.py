"""The examples cifar100 and paper_replication: each command of their READMEs, on small data of the right format."""

import csv
import doctest
import gzip
import importlib
import json
import os
import pickle
import re
import runpy
import signal
import struct
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from aum_core import ThresholdPlan, read_aum_values

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
REPLICATION = EXAMPLES / "paper_replication"
TRAIN = EXAMPLES / "cifar100/train.py"
sys.path.insert(0, str(REPLICATION))

cutoffs, data, losses, nets, pictures, recipes, replicate = (
    importlib.import_module(name) for name in ("cutoffs", "data", "losses", "nets", "pictures", "recipes", "replicate")
)


class Python2Pickler(pickle._Pickler):  # typed as the C one, which has less
    """Writes text and bytes alike, as Python 2 wrote the files of CIFAR."""

    dispatch: ClassVar[dict[Any, Any]] = pickle._Pickler.dispatch.copy()

    def save_string(self: Any, text: Any) -> None:
        content = text if isinstance(text, bytes) else text.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def write_cifar(path, labels_name, labels):
    """A file of CIFAR's python version; all pixels of an image are its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.repeat(np.arange(len(labels), dtype=np.uint8)[:, None], 3072, axis=1)
    with open(path, "wb") as file:
        Python2Pickler(file, protocol=2).dump({"batch_label": "a batch", labels_name: labels, "data": images})
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def write_image(path, shade, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 2 * shade, 255 - shade)).save(path, "JPEG")


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_cifar_folders(folder):
    for i in range(1, 6):
        write_cifar(folder / f"cifar10/cifar-10-batches-py/data_batch_{i}", "labels", [(i + j) % 10 for j in range(12)])
    write_cifar(folder / "cifar10/cifar-10-batches-py/test_batch", "labels", list(range(10)))
    write_cifar(folder / "cifar100/cifar-100-python/train", "fine_labels", [i % 100 for i in range(130)])
    write_cifar(folder / "cifar100/cifar-100-python/test", "fine_labels", list(range(100)))


def write_tiny_imagenet(folder):
    names = ["n03", "n01", "n02"]
    write_lines(folder / "wnids.txt", names)
    for name in names:
        for i in range(8):
            write_image(folder / f"train/{name}/images/{name}_{i}.JPEG", 10 * int(name[1:]), (64, 64))
        write_lines(folder / f"train/{name}/{name}_boxes.txt", [f"{name}_0.JPEG\t0\t0\t63\t63"])
    lines = [f"val_{i}.JPEG\t{names[i % 3]}\t0\t0\t63\t63" for i in range(6)]
    write_lines(folder / "val/val_annotations.txt", lines)
    for i in range(6):
        write_image(folder / f"val/images/val_{i}.JPEG", 10 * int(names[i % 3][1:]), (64, 64))


def write_webvision(folder):
    train = [(f"google/q{i % 52:04}/{i}.jpg", i % 52) for i in range(60)]
    test = [(f"val{i:06}.jpg", i % 52) for i in range(52)]
    write_lines(folder / "info/train_filelist_google.txt", [f"{name} {label}" for name, label in train])
    write_lines(folder / "info/val_filelist.txt", [f"{name} {label}" for name, label in test])
    for name, label in train:
        write_image(folder / name, label, (40, 30))
    for name, label in test:
        write_image(folder / "val_images_256" / name, label, (30, 40))


def write_clothing(folder):
    noisy = {f"images/0/{i}.jpg": i % 14 for i in range(30)}
    clean = {f"images/9/{i}.jpg": i % 14 for i in range(14)}
    for kind, labels in (("noisy", noisy), ("clean", clean)):
        write_lines(folder / f"{kind}_label_kv.txt", [f"{name} {label}" for name, label in labels.items()])
        for name, label in labels.items():
            write_image(folder / name, 10 * label, (35, 45))
    write_lines(folder / "noisy_train_key_list.txt", list(noisy)[:28])
    write_lines(folder / "clean_test_key_list.txt", clean)


def write_fashion_mnist(folder):
    folder.mkdir()
    for split, count in (("train", 80), ("t10k", 20)):
        with gzip.open(folder / f"{split}-images-idx3-ubyte.gz", "wb") as file:
            file.write(bytes(16) + np.repeat(np.arange(count, dtype=np.uint8), 784).tobytes())
        with gzip.open(folder / f"{split}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(bytes(8) + bytes(i % 10 for i in range(count)))


@pytest.fixture(scope="session")
def downloads(tmp_path_factory):
    """The folder `data` of the commands, with a few samples of each data set."""
    folder = tmp_path_factory.mktemp("downloads") / "data"
    folder.mkdir()
    write_cifar_folders(folder)
    write_tiny_imagenet(folder / "tiny-imagenet-200")
    write_webvision(folder / "webvision")
    write_clothing(folder / "clothing1m")
    write_fashion_mnist(folder / "fashion-mnist")
    return folder


@pytest.fixture
def desk(tmp_path, downloads, monkeypatch):
    """An empty working folder beside the data."""
    (tmp_path / "data").symlink_to(downloads)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in that makes a net as small as the data."""

    def resnet50(*, weights, num_classes):
        assert weights is None
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, num_classes))

    module: Any = types.ModuleType("torchvision.models")
    module.resnet50 = resnet50
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", module)


def commands(example):
    text = (EXAMPLES / example / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^\$ (python .*)$", text, re.MULTILINE)


def train(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, words)])
    runpy.run_path(str(TRAIN), run_name="__main__")


def row_of(folder):
    (row,) = folder.glob("*/row.json")
    return json.loads(row.read_text())


# --- the commands of the READMEs ---


@pytest.mark.parametrize("command", commands("cifar100"), ids=str)
def test_cifar100_commands_run(command, desk, monkeypatch):
    script, *words = command.split()[1:]
    assert script == "examples/cifar100/train.py"
    train(monkeypatch, *words, "--epochs", 2, "--blocks", 1, "--samples", 60)
    records = desk / "aum_run/full_aum_records.csv"
    assert records.exists() == ("--detailed-aum" in words)
    if records.exists():  # the ids are rows of the training set, where row i is labelled i % 100
        lines = list(csv.DictReader(records.read_text().splitlines()))
        assert [int(line["target_logit"]) for line in lines] == [int(line["sample_id"]) % 100 for line in lines]
    assert (desk / "aum_run/best.pt").exists()
    assert json.loads((desk / "aum_run/run.json").read_text())["measurements"] == 2 * 60


SHORTER = {
    "wide_resnet28_10": ["--net", "wide_resnet10_1"],
    "densenet100_12": ["--net", "densenet10_4"],
    "vgg16": ["--net", "vgg11"],
    "--samples": ["--samples", "60"],
    "digits": ["--samples", "300"],
    "--workers": ["--workers", "0"],
}


@pytest.mark.parametrize("command", commands("paper_replication"), ids=str)
def test_replication_commands_run(command, desk, torchvision):
    script, *words = command.split()[1:]
    assert script == "examples/paper_replication/replicate.py"
    small = ["--scale", "0.001"]
    if "--net" not in words and words[0] not in ("webvision50", "clothing100k"):
        small += ["--net", "conv4"]
    for long, short in SHORTER.items():
        if long in words:
            small += short
    replicate.main([*words, *small])
    row = row_of(desk / "results")
    assert 0 <= row["baseline_error"] <= 1
    assert (row["aum_error"] is None) == (row["removed_share"] in (None, 1))
    assert (row["removed_share"] is None) == ("--stages" in words)
    assert (row["oracle_error"] is None) == ("--stages" in words or "--noise" not in words)
    (line,) = csv.DictReader((desk / "results/table.csv").read_text().splitlines())
    assert line["dataset"] == words[0]
    assert (desk / "results/table.md").read_text().count("\n") == 3


# --- interrupted and begun again ---

KILLED = """
import builtins, os, runpy, signal, sys
sys.path.insert(0, sys.argv.pop(1))
mark, script = sys.argv.pop(1), sys.argv.pop(1)
if mark == "torch.save":
    import torch
    save, saved = torch.save, []
    def counted(*words):
        saved.append(words)
        if len(saved) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        save(*words)
    torch.save = counted
real = print
def told(*words, **options):
    real(*words, **options)
    if words and str(words[0]).startswith(mark):
        os.kill(os.getpid(), signal.SIGKILL)
builtins.print = told
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
"""


def kill_at(mark, script, words, folder):
    """Run a script that is killed by the system when it prints `mark`, or while it saves."""
    command = [sys.executable, "-c", KILLED, str(REPLICATION), mark, str(script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout


ROW = ["digits", "--noise", "uniform", "--noise-rate", "0.2", "--net", "conv4", "--samples", "200", "--scale", "0.01"]


def test_replication_killed_in_a_run_ends_as_if_it_had_not_been(desk, capsys):
    replicate.main([*ROW, "--scale", "0.02", "--results", "whole"])
    kill_at("aum_run1: epoch 2", REPLICATION / "replicate.py", [*ROW, "--scale", "0.02", "--results", "parts"], desk)
    capsys.readouterr()
    replicate.main([*ROW, "--scale", "0.02", "--results", "parts"])
    told = capsys.readouterr().out
    assert "baseline: epoch" not in told
    assert "aum_run1: goes on after epoch 2 of 3" in told
    for name in ("aum_run0/aum_details.csv", "aum_run1/aum_details.csv", "row.json", "run.json"):
        whole, parts = (next((desk / results).glob(f"*/{name}")).read_bytes() for results in ("whole", "parts"))
        assert parts == whole, name


def test_replication_killed_while_it_saves_takes_the_totals_of_its_checkpoint(desk):
    words = [*ROW, "--stages", "aum"]
    replicate.main([*words, "--results", "whole"])
    # the fourth save is that of aum_run1's second epoch: its totals are on the disk, its checkpoint is not
    kill_at("torch.save", REPLICATION / "replicate.py", [*words, "--results", "parts"], desk)
    (folder,) = (desk / "parts").glob("*/aum_run1")
    assert len(list(folder.glob("totals_epoch*.npz"))) == 2
    replicate.main([*words, "--results", "parts"])
    whole, parts = (next((desk / each).glob("*/aum_run1/aum_values.csv")).read_bytes() for each in ("whole", "parts"))
    assert parts == whole


@pytest.mark.parametrize("more", [[], ["--detailed-aum"]], ids=" ".join)
def test_cifar100_example_killed_ends_as_if_it_had_not_been(desk, monkeypatch, capsys, more):
    words = ["--dataset", "digits", "--samples", 200, "--epochs", 4, "--blocks", 1, *more]
    train(monkeypatch, *words, "--out", "whole")
    kill_at("epoch 2", TRAIN, [*words, "--out", "parts"], desk)
    capsys.readouterr()
    train(monkeypatch, *words, "--out", "parts", "--resume")
    assert "goes on after epoch 2" in capsys.readouterr().out
    for name in ("aum_values.csv", "run.json", *(["full_aum_records.csv"] if more else [])):
        assert (desk / "parts" / name).read_bytes() == (desk / "whole" / name).read_bytes()
    whole, parts = (torch.load(desk / each / "best.pt", weights_only=True) for each in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    end = torch.load(desk / "parts/checkpoint.pt", weights_only=True)
    assert end["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.001)  # dropped twice, as for whole


def test_cifar100_example_interrupted_tells_how_it_goes_on(desk, monkeypatch):
    def interrupted(*words, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupted)
    with pytest.raises(SystemExit, match="interrupted; with --resume"):
        train(monkeypatch, "--dataset", "digits", "--samples", 100, "--epochs", 2, "--blocks", 1)
    assert (desk / "aum_run/checkpoint.pt").exists()


def test_finished_row_trains_nothing(desk, capsys):
    replicate.main([*ROW, "--stages", "baseline"])
    replicate.main([*ROW, "--stages", "aum"])
    assert row_of(desk / "results")["baseline_error"] is not None
    capsys.readouterr()
    replicate.main([*ROW, "--stages", "baseline", "aum"])
    assert "epoch" not in capsys.readouterr().out


# --- what a row says ---


def test_row_on_learnable_data_finds_the_flips(desk):
    row = [*ROW, "--samples", "900", "--scale", "0.04", "--batch-size", "64", "--aum-batch-size", "32"]
    replicate.main([*row, "--stages", "aum"])
    found = row_of(desk / "results")
    assert found["auroc"] > 0.95
    assert found["recall"] > 0.9
    run = json.loads(next(desk.glob("results/*/run.json")).read_text())
    assert run["choices"]["rule"] == "count"
    assert run["removed"]["cut"]["threshold_samples_per_run"] == 810 // 10
    assert len(run["removed"]["cut"]["cutoffs"]) == 2


def test_details_have_the_columns_of_the_authors_and_agree_with_the_row(desk):
    replicate.main([*ROW, "--stages", "aum", "--removal", "drop"])
    runs = [
        list(csv.DictReader(path.read_text().splitlines()))
        for path in sorted(desk.glob("results/*/aum_run*/aum_details.csv"))
    ]
    names = ["Index", "True Target", "Observed Target", "Label Flipped", "Is Threshold Sample", "AUM", "AUM_WTR"]
    assert [list(lines[0]) for lines in runs] == [names, names]
    removed = 0
    for first, second in zip(*runs, strict=True):
        regular = [line for line in (first, second) if line["Is Threshold Sample"] == "False"]
        removed += all(line["AUM_WTR"] == "1.0" for line in regular)
        assert regular
        for line in (first, second):
            assert (line["Label Flipped"] == "True") == (line["True Target"] != line["Observed Target"])
            assert (line["Is Threshold Sample"] == "True") == (line["Observed Target"] == "10")
    assert removed / 180 == row_of(desk / "results")["removed_share"]
    assert sum(line["Is Threshold Sample"] == "True" for line in runs[0]) == 18


@pytest.mark.parametrize("removal", ["weight", "drop"])
def test_each_stage_trains_on_what_its_name_says(desk, monkeypatch, removal):
    training = importlib.import_module("training")
    begun, run = {}, training.Training.run
    monkeypatch.setattr(
        training.Training, "run", lambda self, machine: begun.update({self.name: self}) or run(self, machine)
    )
    replicate.main([*ROW, "--scale", "0.02", "--removal", removal])
    runs = [
        list(csv.DictReader(path.read_text().splitlines()))
        for path in sorted(desk.glob("results/*/aum_run*/aum_details.csv"))
    ]
    pairs = list(zip(*runs, strict=True))
    kept = [any(line["AUM_WTR"] == "0.0" and line["Is Threshold Sample"] == "False" for line in pair) for pair in pairs]
    right = [any(line["Label Flipped"] == "False" for line in pair) for pair in pairs]
    assert 0 < sum(kept) < 180
    assert sum(right) == 144
    assert begun["baseline"].rows is begun["baseline"].weights is None
    assert begun["oracle"].rows.tolist() == np.flatnonzero(right).tolist()
    if removal == "weight":
        assert begun["retrained"].weights.tolist() == kept
        assert begun["retrained"].rows is None
    else:
        assert begun["retrained"].rows.tolist() == np.flatnonzero(kept).tolist()
    rates = {
        path.parent.name: torch.load(path, weights_only=True)["optimizer"]["param_groups"][0]["lr"]
        for path in desk.glob("results/*/*/checkpoint.pt")
    }
    assert rates == pytest.approx(
        {"aum_run0": 0.1, "aum_run1": 0.1, "baseline": 1e-3, "retrained": 1e-3, "oracle": 1e-3}
    )


@pytest.mark.parametrize(("first_epoch", "measurements"), [("leave-out", 1), ("count", 2)])
def test_first_epoch_is_left_out_or_counted(desk, first_epoch, measurements):
    replicate.main([*ROW, "--stages", "aum", "--first-epoch", first_epoch])
    (run, _) = desk.glob("results/*/aum_run*/run.json")
    assert json.loads(run.read_text())["measurements"] == measurements * 180


def test_half_logits_are_what_the_option_says(desk):
    for logits in ("half", "full"):
        replicate.main([*ROW, "--stages", "aum", "--logits", logits, "--results", logits])
    half, full = (read_aum_values(next(desk.glob(f"{each}/*/aum_run0/aum_values.csv")))[1] for each in ("half", "full"))
    assert not np.array_equal(half, full)
    np.testing.assert_allclose(half, full, atol=0.02)


@pytest.mark.parametrize(("threshold_samples", "size"), [("authors", 18), ("paper", 16), ("7", 7)])
def test_number_of_threshold_samples(threshold_samples, size):
    choices = replicate.Choices(threshold_samples, "leave-out", "half", "count", 99.0, "all", "drop")
    assert choices.size(180, 10) == size


def test_removed_samples_without_weight_do_not_train(desk):
    """Weight and drop differ in the normalisation alone: LeNet has none, so a batch of all gives the same network."""
    training = importlib.import_module("training")
    digits = data.load_data("digits", None, samples=40)
    samples = pictures.Samples(
        pictures.Pictures(digits.train.source, digits.train.targets, (0.3,), (0.4,), mirrored=False),
        np.arange(40), digits.train.targets, changed=True,
    )  # fmt: skip
    keep = np.arange(40) % 4 != 0
    weights = torch.from_numpy(keep.astype(np.float32))
    trained = [
        training.Training(
            name, desk / name, lambda: nets.make_net("lenet", 10, 1), losses.LOSSES["cross-entropy"],
            recipes.Schedule(3, 40), samples, 0, **chosen,
        ).run(training.Machine("cpu"))
        for name, chosen in (("weight", {"weights": weights}), ("drop", {"rows": np.flatnonzero(keep)}), ("all", {}))
    ]  # fmt: skip
    weight, drop, everything = (torch.cat([p.detach().flatten() for p in model.parameters()]) for model in trained)
    torch.testing.assert_close(weight, drop, atol=1e-6, rtol=1e-4)
    assert (weight - everything).abs().max() > 1e-5


# --- data ---


def labels_and_shades(split):
    """Labels, and the first channel of each image as it is in the file (the middle pixel)."""
    images = split.source.decode(range(len(split)), False)
    return split.targets.tolist(), images[:, 0, images.shape[2] // 2, images.shape[3] // 2].tolist()


def test_cifar10_is_read(downloads):
    loaded = data.load_data("cifar10", downloads / "cifar10")
    labels, shades = labels_and_shades(loaded.train)
    assert labels == [(i + j) % 10 for i in range(1, 6) for j in range(12)]
    assert shades == 5 * list(range(12))
    assert labels_and_shades(loaded.test) == (list(range(10)), list(range(10)))


def test_cifar_pixels_stand_in_their_places(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    pixels = (np.arange(2 * 3072) % 251).astype(np.uint8).reshape(2, 3072)
    for name in ("train", "test"):
        with open(folder / name, "wb") as file:
            Python2Pickler(file, protocol=2).dump({"data": pixels, "fine_labels": [5, 99], "coarse_labels": [0, 1]})
    train = data.load_data("cifar100", tmp_path).train
    image = train.source.decode([1], False)[0]
    assert image[2, 31, 7] == pixels[1, 2 * 1024 + 31 * 32 + 7]
    assert train.targets.tolist() == [5, 99]


def test_tiny_imagenet_is_read(downloads):
    loaded = data.load_data("tiny_imagenet", downloads / "tiny-imagenet-200")
    labels, shades = labels_and_shades(loaded.train)
    assert labels == [0] * 8 + [1] * 8 + [2] * 8
    np.testing.assert_allclose(shades, 10 * (np.array(labels) + 1), atol=2)
    assert loaded.test.targets.tolist() == [2, 0, 1, 2, 0, 1]
    assert (loaded.num_classes, loaded.first_stride) == (3, 2)


def test_webvision50_has_the_first_50_classes(downloads):
    loaded = data.load_data("webvision50", downloads / "webvision")
    assert len(loaded.train) == 58
    assert len(loaded.test) == 50
    labels, shades = labels_and_shades(loaded.train)
    np.testing.assert_allclose(shades, labels, atol=2)
    assert loaded.train.batch([0, 1], changed=True).shape == (2, 3, 224, 224)


def test_clothing100k_takes_noisy_labels_to_train_and_clean_ones_to_test(downloads):
    loaded = data.load_data("clothing100k", downloads / "clothing1m")
    assert (len(loaded.train), len(loaded.test), loaded.num_classes) == (28, 14, 14)
    for split, part in ((loaded.train, "0"), (loaded.test, "9")):
        labels, shades = labels_and_shades(split)
        np.testing.assert_allclose(shades, 10 * np.array(labels), atol=2)
        assert {path.parent.name for path in split.source.paths} == {part}


@pytest.mark.parametrize(("name", "test"), [("webvision50", "test"), ("clothing100k", "val")])
def test_packing_of_the_authors_is_read(tmp_path, name, test):
    for split in ("train", test):
        for label, folder in enumerate(("coat", "hat")):
            write_image(tmp_path / split / folder / "1.jpg", 50 * label, (20, 20))
            (tmp_path / split / folder / "notes.txt").write_text("no image")
    loaded = data.load_data(name, tmp_path)
    assert loaded.num_classes == 2
    assert labels_and_shades(loaded.test)[0] == labels_and_shades(loaded.train)[0] == [0, 1]


def test_fashion_mnist_and_digits_are_read(downloads):
    loaded = data.load_data("fashion-mnist", downloads / "fashion-mnist")
    assert labels_and_shades(loaded.train) == ([i % 10 for i in range(80)], list(range(80)))
    digits = data.load_data("digits", None)
    assert (len(digits.train), len(digits.test)) == (1437, 360)


def test_samples_are_always_the_same_and_keep_their_labels(downloads):
    first, second = (data.load_data("fashion-mnist", downloads / "fashion-mnist", samples=20) for _ in range(2))
    labels, shades = labels_and_shades(first.train)
    assert labels == [shade % 10 for shade in shades]
    assert labels_and_shades(second.train) == (labels, shades)
    assert len(set(shades)) == 20


def test_training_changes_images_and_testing_does_not():
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    source = pictures.FromArray(image.repeat(1000, 1, 1, 1))
    shown = pictures.Pictures(source, np.zeros(1000, np.int64), (0.5,), (0.25,), padding=2)
    rows = list(range(1000))
    np.testing.assert_allclose(shown.batch(rows, changed=False)[7], (image[0] / 255 - 0.5) / 0.25, rtol=1e-5)
    torch.manual_seed(0)
    changed = (shown.batch(rows, changed=True) * 0.25 + 0.5) * 255
    middles = {tuple(each[0, 3:5, 3:5].round().int().flatten().tolist()) for each in changed}
    assert len(middles) == 2 * 5 * 5  # mirrored or not, and five places each way
    assert (27, 28, 35, 36) in middles
    assert (28, 27, 36, 35) in middles


def test_images_of_two_sizes_are_told(tmp_path):
    for i, size in enumerate(((64, 64), (64, 32))):
        write_image(tmp_path / f"{i}.jpg", 3, size)
    source = pictures.FromFiles([tmp_path / "0.jpg", tmp_path / "1.jpg"], cropped=False)
    with pytest.raises(ValueError, match="2 sizes"):
        source.decode([0, 1], False)


def test_middle_of_a_photograph_is_tested(tmp_path):
    image = Image.new("RGB", (400, 200))
    image.paste((250, 250, 250), (150, 50, 250, 150))
    image.save(tmp_path / "wide.png")
    decoded = pictures.FromFiles([tmp_path / "wide.png"], cropped=True).decode([0], False)[0, 0].float() / 250
    assert decoded.shape == (224, 224)
    assert decoded[112, 112] == 1
    assert abs(decoded.mean() - (100 / 175) ** 2) < 0.01  # 224 of 256 of 200 pixels are 175


def test_random_parts_of_photographs_are_within_and_of_the_sizes_of_the_recipe():
    torch.manual_seed(0)
    boxes = np.array([pictures._random_box(300, 200) for _ in range(500)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes[:, :2].min() >= 0
    assert (boxes[:, 2] <= 300.001).all()
    assert (boxes[:, 3] <= 200.001).all()
    assert (width * height).min() >= 0.079 * 60_000
    assert (width * height).max() > 0.8 * 60_000


# --- nets and losses ---


@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [
        ("resnet32", 3, 466_906),  # 464,154 and the projections of its two shortcuts
        ("wide_resnet28_10", 3, 36_479_194),  # as its authors count
        ("densenet100_12", 3, 769_162),  # as its authors count, bottlenecks and compression included
        ("vgg16", 3, 14_724_042),
        ("lenet", 1, 61_706),  # as textbooks count
        ("conv4", 3, 113_482),
    ],
)
def test_nets_are_those_of_their_papers(name, channels, parameters):
    net = nets.make_net(name, 10, channels)
    assert sum(each.numel() for each in net.parameters()) == parameters


@pytest.mark.parametrize("name", ["resnet8", "wide_resnet10_2", "densenet10_4", "vgg11", "lenet", "conv4"])
@pytest.mark.parametrize(("channels", "size", "first_stride"), [(1, 8, 1), (1, 28, 1), (3, 32, 1), (3, 64, 2)])
def test_nets_take_images_of_all_sizes(name, channels, size, first_stride):
    net = nets.make_net(name, 7, channels, first_stride)
    logits = net(torch.rand(2, channels, size, size))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(each.grad is not None for each in net.parameters())


def test_losses_are_their_formulas():
    generator = np.random.default_rng(0)
    z, y = generator.normal(size=(50, 6)) * 3, generator.integers(0, 6, 50)
    q = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    t, believed = np.eye(6)[y], np.eye(6)[q.argmax(axis=1)]
    wanted = {
        "cross-entropy": -(t * np.log(q)).sum(axis=1),
        "reed-soft": -((0.95 * t + 0.05 * q) * np.log(q)).sum(axis=1),
        "reed-hard": -((0.8 * t + 0.2 * believed) * np.log(q)).sum(axis=1),
    }
    assert set(wanted) == set(losses.LOSSES)
    for name, values in wanted.items():
        np.testing.assert_allclose(losses.LOSSES[name](torch.tensor(z), torch.tensor(y)), values, rtol=1e-12)


def test_losses_of_certain_nets_are_finite():
    logits = torch.tensor([[200.0, 0.0], [-300.0, 300.0]], requires_grad=True)
    for loss in losses.LOSSES.values():
        loss(logits, torch.tensor([0, 0])).sum().backward()
    assert torch.isfinite(logits.grad).all()


# --- recipes and cutoffs ---


def test_docstrings_hold():
    for module in (recipes, cutoffs):
        failed, tried = doctest.testmod(module)
        assert tried
        assert not failed


def test_recipes_are_the_authors():
    small, large = recipes.RECIPES["small"], recipes.RECIPES["large"]
    assert [round(small.training.rate(epoch), 6) for epoch in (0, 149, 150, 224, 225, 299)] == [
        0.1,
        0.1,
        0.01,
        0.01,
        0.001,
        0.001,
    ]
    assert [round(large.training.rate(epoch), 6) for epoch in (58, 59, 119, 120)] == [0.1, 0.01, 0.01, 0.001]
    assert {small.measuring.rate(epoch) for epoch in range(150)} == {0.1}
    assert (small.measuring.epochs, small.measuring.batch_size, large.measuring.epochs) == (150, 64, 60)


@pytest.mark.parametrize("size", [1, 3, 99, 100, 101, 250])
@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_count_flags_what_the_authors_count_flags(size, percentile):
    generator = np.random.default_rng(size)
    plan = ThresholdPlan.draw(generator.integers(0, 3, 600), 3, runs=2, size=size)
    aums = [generator.integers(-40, 40, 600) / 4 for _ in range(2)]  # with ties
    verdict = cutoffs.cut_by_count(plan, aums, percentile, "all")
    bad, counts = np.zeros(600), np.zeros(600)
    for index, run in enumerate(plan.runs):
        threshold = aums[index][run.threshold_samples]
        above = (aums[index][:, None] < threshold).sum(axis=1)
        below = 1000 * above > round(10 * (100 - percentile)) * size  # the share, in whole numbers
        assert np.array_equal(verdict.below[index], below)
        bad += below & run.regular
        counts += run.regular
    assert np.array_equal(verdict.flagged, (bad == counts) & (counts > 0))
    assert np.array_equal(cutoffs.cut_by_count(plan, aums, percentile, "any").flagged, bad > 0)


# --- input that does not fit ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digits", "--noise", "uniform"], "noise-rate"),
        (["digits", "--noise-rate", "0.2"], "noise-rate"),
        (["digits", "--noise", "flip", "--noise-rate", "1.2"], "noise_rate"),
        (["digits", "--net", "resnet31"], "6 n + 2"),
        (["digits", "--net", "alexnet"], "resnet32"),
        (["digits", "--net", "vgg12"], "11, 13, 16, 19"),
        (["digits", "--net", "resnet50"], "3 channels"),
        (["digits", "--scale", "2"], "scale"),
        (["digits", "--samples", "0"], "samples"),
        (["digits", "--samples", "2000"], "1437"),
        (["digits", "--batch-size", "0"], "batch_size"),
        (["digits", "--learning-rate", "-1"], "learning_rate"),
        (["digits", "--num-valid", "-1"], "num_valid"),
        (["digits", "--workers", "-1"], "workers"),
        (["digits", "--device", "abacus"], "device: 'abacus'"),
        (["digits", "--threshold-samples", "many"], "threshold-samples"),
        (["digits", "--threshold-samples", "0"], "size"),
        (["digits", "--percentile", "100"], "percentile"),
        (["digits", "--combine", "mean"], "combine"),
        (["cifar10"], "folder"),
        (["cifar10", "--folder", "nowhere"], "folder"),
        (["cifar10", "--folder", "data/cifar100"], "data_batch_1 is missing"),
        (["tiny_imagenet", "--folder", "data/cifar100"], "wnids.txt is missing"),
        (["clothing100k", "--folder", "data/cifar100"], "train is missing"),
        (["cifar100", "--folder", "data/cifar100", "--samples", "50"], "size"),
        (["webvision50", "--folder", "data/webvision"], "pip install torchvision"),
    ],
)
def test_wrong_command_is_told_in_one_line_before_anything_is_written(words, message, desk, capsys):
    with pytest.raises(SystemExit) as stopped:
        replicate.main(words)
    told = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in told
    assert told.count("\n") == 1
    assert not (desk / "results").exists()


def test_row_of_other_options_is_not_mixed_up(desk, capsys):
    replicate.main([*ROW, "--stages", "baseline"])
    with pytest.raises(SystemExit):
        replicate.main([*ROW, "--stages", "aum", "--percentile", "95"])
    assert "percentile: 95.0, but" in capsys.readouterr().err


@pytest.mark.parametrize("removal", ["weight", "drop"])
def test_row_in_which_everything_is_removed_has_no_error(desk, monkeypatch, capsys, removal):
    def flag_all(plan, aums, percentile, combine):
        return cutoffs.Verdict(np.ones(180, bool), np.ones((2, 180), bool), {})

    monkeypatch.setitem(cutoffs.RULES, "count", flag_all)
    replicate.main([*ROW, "--stages", "aum", "--removal", removal])
    assert "nothing is left" in capsys.readouterr().out
    row = row_of(desk / "results")
    assert (row["aum_error"], row["removed_share"]) == (None, 1)


def test_clothing_image_without_a_label_is_told(tmp_path):
    write_clothing(tmp_path)
    with open(tmp_path / "noisy_train_key_list.txt", "a") as file:
        file.write("images/0/unknown.jpg\n")
    with pytest.raises(ValueError, match=r"unknown\.jpg and 0 more"):
        data.load_data("clothing100k", tmp_path)


def test_line_without_a_label_is_told(tmp_path):
    write_webvision(tmp_path)
    with open(tmp_path / "info/val_filelist.txt", "a") as file:
        file.write("val000099.jpg")
    with pytest.raises(ValueError, match="line 53"):
        data.load_data("webvision50", tmp_path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", pickle.dumps({"data": 3}), pickle.dumps(np.save), pickle.dumps(Evil()), pickle.dumps(Evil(), 2)],
    ids=["empty", "junk", "no arrays", "a function", "code", "code, protocol 2"],
)
def test_pickles_that_are_damaged_or_run_code_are_refused(content, desk, monkeypatch):
    folder = desk / "bad/cifar-100-python"
    folder.mkdir(parents=True)
    (folder / "train").write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        data.load_data("cifar100", desk / "bad")
    with pytest.raises(SystemExit, match="bad/cifar-100-python/train: not a file of CIFAR-100's python version"):
        train(monkeypatch, "--folder", "bad")
    assert not (desk / "evil").exists()


def test_loss_that_is_not_finite_ends_the_training(desk, capsys):
    with pytest.raises(SystemExit) as stopped:
        replicate.main([*ROW, "--net", "lenet", "--stages", "baseline", "--learning-rate", "1e30"])
    told = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "try a lower --learning-rate" in told
    assert told.count("\n") == 1
    assert not list(desk.glob("results/*/row.json"))


@pytest.mark.parametrize("content", [b"", b"junk", gzip.compress(b"short"), gzip.compress(bytes(99))[:-9]])
def test_damaged_files_of_fashion_mnist_are_told(content, desk, monkeypatch):
    write_fashion_mnist(desk / "bad")
    (desk / "bad/t10k-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz: not a file of Fashion-MNIST, or damaged"):
        data.load_data("fashion-mnist", desk / "bad")
    with pytest.raises(SystemExit, match=r"t10k-images-idx3-ubyte\.gz: not a file of Fashion-MNIST, or damaged"):
        train(monkeypatch, "--dataset", "fashion-mnist", "--folder", "bad")


def test_missing_image_is_told_before_training(tmp_path):
    write_webvision(tmp_path)
    (tmp_path / "google/q0003/3.jpg").unlink()
    with pytest.raises(ValueError, match=r"google/q0003/3\.jpg is missing, and 0 more of 58 images"):
        data.load_data("webvision50", tmp_path)


def test_damaged_image_is_told_in_one_line(desk, torchvision, capsys):
    write_webvision(desk / "bad")
    (desk / "bad/google/q0003/3.jpg").write_bytes(b"junk")
    with pytest.raises(SystemExit):
        replicate.main(["webvision50", "--folder", "bad", "--scale", "0.001"])
    told = capsys.readouterr().err
    assert "bad/google/q0003/3.jpg: not an image, or damaged" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num-valid", "0"], "at least 1"),
        (["--batch-size", "0"], "--batch-size: 0, want at least 1"),
        (["--samples", "-5"], "--samples: -5, want at least 1"),
        (["--blocks", "0"], "--blocks: 0, want at least 1"),
        (["--learning-rate", "-0.1"], "--learning-rate: -0.1"),
        (["--device", "abacus"], "--device: 'abacus'"),
        (["--folder", "nowhere"], "pip install torchvision"),
        (["--folder", "half"], "no half/cifar-100-python/train"),
        (["--dataset", "fashion-mnist", "--folder", "nowhere"], "no nowhere/train-images-idx3-ubyte.gz"),
        (["--dataset", "digits", "--tensorboard"], "pip install tensorboard"),
    ],
)
def test_cifar100_example_tells_what_does_not_fit(words, message, desk, monkeypatch, capsys):
    for missing in ("tensorboard", "torchvision", "torchvision.datasets"):
        monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    (desk / "half/cifar-100-python").mkdir(parents=True)
    with pytest.raises(SystemExit) as stopped:
        train(monkeypatch, *words)
    assert message in f"{stopped.value.code}{capsys.readouterr().err}"


def test_cifar100_example_does_not_resume_another_run(desk, monkeypatch):
    words = ["--dataset", "digits", "--samples", 100, "--epochs", 1, "--blocks", 1]
    train(monkeypatch, *words)
    with pytest.raises(SystemExit, match="samples is 90"):
        train(monkeypatch, *words, "--samples", 90, "--resume")


def test_cifar100_example_downloads_with_torchvision(desk, monkeypatch):
    module: Any = types.ModuleType("torchvision.datasets")

    def download(folder, *, download):
        assert download
        write_cifar_folders(Path(folder) / "..")

    module.CIFAR100 = download
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    (desk / "new").mkdir()
    train(monkeypatch, "--folder", "new/cifar100", "--epochs", 1, "--blocks", 1)
    assert (desk / "aum_run/aum_values.csv").exists()


def test_cifar100_example_writes_for_tensorboard(desk, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            written.append(folder)

        def add_scalar(self, name, value, epoch):
            written.append((name, epoch))

        def close(self):
            written.append("closed")

    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    train(monkeypatch, "--dataset", "digits", "--samples", 100, "--epochs", 2, "--blocks", 1, "--tensorboard")
    names = ["loss/train", "error/train", "error/validation"]
    epochs = [(name, epoch) for epoch in (1, 2) for name in names]
    assert written == [Path("aum_run/tensorboard"), *epochs, ("error/test", 2), "closed"]
