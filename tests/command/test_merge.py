"""`aum merge`: what it adds up, what it refuses, and that its folder is whole or not there."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from aum_core import AUMCalculator, Totals, read_aum_values
from aum_core.files.whole import write_whole_folder


def assert_same(one, other):
    ours, theirs = one.to_arrays(), other.to_arrays()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], name)


def test_shards_of_a_folder_become_a_run(aum, shards, tmp_path):
    folder, whole = shards
    done = aum("merge", folder, "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == f"3 shards, 20 samples, {whole.measurements} measurements"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["aum_values.csv", "run.json", "totals.npz"]
    totals = Totals.load(tmp_path / "out/totals.npz")
    assert_same(totals, whole)
    ids, aums = read_aum_values(tmp_path / "out/aum_values.csv")
    np.testing.assert_array_equal(aums, totals.aums[[int(each) for each in ids]])
    told = json.loads((tmp_path / "out/run.json").read_text())
    assert told["format"] == 1
    assert (told["job"], told["samples"], told["left_out"]) == ("merge", 20, 3)
    assert told["measurements_per_sample"]["max"] == 6
    assert [(each["samples"], each["left_out"]) for each in told["shards"]] == [(12, 0), (15, 1), (0, 2)]
    assert "forced" not in told


def test_the_order_of_the_shards_does_not_matter(aum, shards, tmp_path):
    folder, _ = shards
    files = sorted(folder.iterdir())
    aum("merge", *files, "--out", tmp_path / "one")
    aum("merge", *reversed(files), "--out", tmp_path / "other")
    for name in ("totals.npz", "aum_values.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_runs_of_several_machines(aum, run, tmp_path):
    first, second = run("a", 0, nonfinite="raise"), run("b", 1, nonfinite="raise")
    assert aum("merge", first, second / "totals.npz", "--out", tmp_path / "out").code == 0
    told = json.loads((tmp_path / "out/run.json").read_text())
    assert (told["framework"], told["options"]["nonfinite"]) == ("numpy", "raise")
    # what was merged can be merged again
    assert aum("merge", tmp_path / "out", run("c", 2, nonfinite="raise"), "--out", tmp_path / "more").code == 0
    assert Totals.load(tmp_path / "more/totals.npz").measurements == 180


def test_ids_of_any_kind(aum, run, tmp_path):
    names = ["cat,.png", "dog\n.png", 2**70, -5, "\udcff.png"]
    assert aum("merge", run("a", 0, names), run("b", 1, names[::-1]), "--out", tmp_path / "out").code == 0
    merged = Totals.load(tmp_path / "out/totals.npz").sample_ids.tolist()
    assert merged == [-5, 2**70, *sorted(str(names[i]) for i in (0, 1, 4))]
    assert aum("rank", tmp_path / "out").code == 0


def test_the_same_shard_twice(refused, run, tmp_path):
    first = run("a")
    assert refused("merge", first, first, "--out", tmp_path / "out").startswith(
        f"{first / 'totals.npz'} is given twice"
    )
    copy = shutil.copy(first / "totals.npz", tmp_path / "copy.npz")
    message = refused("merge", first, copy, "--out", tmp_path / "out")
    same = f"{copy} has the same content as {first / 'totals.npz'}"
    assert message == f"{same}: it would count twice; --force adds them up all the same"
    assert not (tmp_path / "out").exists()


def test_a_whole_with_its_parts(aum, refused, run, shards, tmp_path):
    first, second = run("a", 0), run("b", 1)
    aum("merge", first, second, "--out", tmp_path / "both")
    message = refused("merge", tmp_path / "both", second, "--out", tmp_path / "out")
    assert f"was merged of {second / 'totals.npz'} among others, which is given too" in message
    folder, whole = shards
    whole.save(folder / "totals.npz")
    message = refused("merge", folder / "totals.npz", folder / "totals_rank1.npz", "--out", tmp_path / "out")
    assert f"{folder / 'totals.npz'} has what totals_rank1.npz beside it has" in message


def test_a_folder_whose_whole_and_parts_are_not_known_to_belong_together(aum, refused, shards, tmp_path):
    folder, whole = shards
    whole.save(folder / "totals.npz")
    assert "of which its run.json does not say" in refused("merge", folder, "--out", tmp_path / "out")
    (folder / "run.json").write_text(json.dumps({"per_rank": [{}, {}, {}]}))
    assert aum("merge", folder, "--out", tmp_path / "out").out.startswith("1 shard, 20 samples")


def test_a_rank_that_is_missing(refused, shards, tmp_path):
    folder, _ = shards
    (folder / "totals_rank1.npz").unlink()
    message = refused("merge", folder, "--out", tmp_path / "out")
    assert message.startswith("totals_rank1.npz is missing, where there are others up to rank 2")


def test_ranks_spread_over_machines(aum, shards, tmp_path):
    folder, whole = shards
    other = tmp_path / "other machine"
    other.mkdir()
    (folder / "totals_rank1.npz").rename(other / "totals_rank1.npz")
    assert aum("merge", folder, other, "--out", tmp_path / "out").code == 0
    assert_same(Totals.load(tmp_path / "out/totals.npz"), whole)


@pytest.mark.parametrize(
    ("options", "told"), [({"nonfinite": "propagate"}, "nonfinite is "), ({"compressed": False}, "compressed is true")]
)
def test_options_that_differ(refused, run, tmp_path, options, told):
    first, second = run("a", 0), run("b", 1, **options)
    assert refused("merge", first, second, "--out", tmp_path / "out").startswith(told)


def test_numbers_of_classes_that_differ(refused, run, tmp_path):
    for shard, name in enumerate("ab"):
        told = json.loads((run(name, shard) / "run.json").read_text())
        (tmp_path / name / "run.json").write_text(json.dumps({**told, "num_classes": 10 + shard}))
    message = refused("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out")
    one, other = (tmp_path / name / "totals.npz" for name in "ab")
    assert message.startswith(f"num_classes is 10 for {one} and 11 for {other}")


def test_ids_of_another_kind(refused, run, tmp_path):
    message = refused("merge", run("a", 0), run("b", 1, ["cat.png"]), "--out", tmp_path / "out")
    one, other = (tmp_path / name / "totals.npz" for name in "ab")
    assert message.startswith(f"sample ids are ints in {one} and strs in {other}")


def test_force_adds_up_and_tells(aum, run, tmp_path):
    first = run("a")
    done = aum("merge", first, first, "--out", tmp_path / "out", "--force")
    assert done.code == 0
    assert f"Forced: {first / 'totals.npz'} is given twice" in done.out
    assert Totals.load(tmp_path / "out/totals.npz").measurements == 120
    assert len(json.loads((tmp_path / "out/run.json").read_text())["forced"]) == 2


def test_trainings_of_find_mislabeled_are_not_shards(aum, refused, shards, tmp_path):
    folder, _ = shards
    for number in range(3):
        (folder / f"totals_rank{number}.npz").rename(folder / f"totals_run{number}.npz")
    assert "judged one by one" in refused("merge", folder, "--out", tmp_path / "out")
    files = [folder / f"totals_run{number}.npz" for number in range(2)]
    assert "different trainings" in refused("merge", *files, "--out", tmp_path / "out")
    assert aum("merge", files[0], "--out", tmp_path / "out").code == 0


@pytest.mark.parametrize("words", [[], ["--force"]])
def test_what_is_no_totals(refused, run, tmp_path, words):
    first = run("a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.npz").write_bytes((first / "totals.npz").read_bytes()[:-50])
    for given, told in (
        ("nowhere", "not there, want the folder of a run or a file of totals"),
        ("empty", "has no totals.npz or totals_rank*.npz"),
        ("cut.npz", "not a file of aum totals"),
        ("a/aum_values.csv", "not a file of aum totals"),
    ):
        message = refused("merge", first, tmp_path / given, "--out", tmp_path / "out", *words)
        assert message.startswith(f"{tmp_path / given}: {told}")
    (first / "run.json").write_text("{")
    assert "run.json: damaged" in refused("merge", first, "--out", tmp_path / "out", *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "cut.npz", "empty"]


def test_out_is_never_written_over(refused, aum, run, tmp_path):
    first = run("a")
    wanted = "is there already, want a new or an empty folder"
    assert wanted in refused("merge", first, "--out", first)
    assert wanted in refused("merge", first, "--out", first / "totals.npz")
    (tmp_path / "empty").mkdir()
    assert aum("merge", first, "--out", tmp_path / "empty").code == 0
    exists = "Cannot create a file" if os.name == "nt" else "File exists"
    assert exists in refused("merge", first, "--out", first / "run.json/below")


def test_a_folder_is_whole_or_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), write_whole_folder(tmp_path / "new") as folder:
        (folder / "nowhere/half").write_text("half")
    assert not any(tmp_path.iterdir())
    with write_whole_folder(tmp_path / "deep/new") as folder:
        (folder / "all").write_text("all")
        assert not (tmp_path / "deep/new").exists()
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["new", "all"]


def test_export_and_back(aum, refused, shards, tmp_path, pyarrow):
    from pyarrow import parquet

    folder, whole = shards
    done = aum("export", folder, "--out", tmp_path / "parts")
    assert (done.code, done.out) == (0, f"3 files of totals in {tmp_path / 'parts'}: sample_id, sum, count\n")
    parts = sorted((tmp_path / "parts").iterdir())
    assert [part.name for part in parts] == [f"0000{rank}-totals_rank{rank}.parquet" for rank in range(3)]
    schema = parquet.read_schema(parts[0])
    assert [f"{field.name} {field.type}" for field in schema] == ["sample_id int64", "sum double", "count int64"]
    assert aum("merge", *parts, "--out", tmp_path / "out").code == 0
    assert_same(Totals.load(tmp_path / "out/totals.npz"), whole)
    assert "is there already" in refused("export", folder, "--out", tmp_path / "parts")


def test_export_of_strings_and_of_what_no_column_holds(aum, refused, run, tmp_path, pyarrow):
    assert aum("export", run("a", 0, ["b", "a", "\N{SNOWMAN}"]), "--out", tmp_path / "parts").code == 0
    part = tmp_path / "parts/00000-totals.parquet"
    assert aum("rank", part, "--top", "9").out.count("\n") == 4
    for name, ids in (("mixed", ["a", 1]), ("large", [2**70]), ("other encoding", ["\udcff"])):
        message = refused("export", run(name, 0, ids), "--out", tmp_path / "out")
        assert message.startswith(f"{tmp_path / name / 'totals.npz'}: sample id")
        assert "a column of Parquet" in message
        assert not (tmp_path / "out").exists()


def test_parquet_that_is_no_totals(refused, tmp_path, pyarrow):
    from pyarrow import parquet

    for columns, told in (
        ({"id": [1]}, "not totals as Parquet"),
        ({"sample_id": [1, 1], "sum": [1.0, 2.0], "count": [1, 1]}, "want different names"),
        ({"sample_id": [1.5], "sum": [1.0], "count": [1]}, "want ints or strs"),
        ({"sample_id": [1], "sum": [1.0], "count": [0]}, "1 rows with a count below 1"),
        ({"sample_id": [1], "sum": [1.0], "count": [-2]}, "1 rows with a count below 1"),
        ({"sample_id": [1, 2], "sum": [1.0, 2.0], "count": [1, None]}, "1 values of count are missing"),
    ):
        parquet.write_table(pyarrow.table(columns), tmp_path / "other.parquet")
        assert told in refused("rank", tmp_path / "other.parquet")
    table = pyarrow.table({"sample_id": [1], "sum": [1.0], "count": [1]})
    for told in ("no JSON", "[]", '{"left_out": "x"}'):
        parquet.write_table(table.replace_schema_metadata({"aum": told}), tmp_path / "other.parquet")
        assert "other.parquet: " in refused("rank", tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no")
    assert "not totals as Parquet, or damaged" in refused("rank", tmp_path / "text.parquet")


def test_merging_is_what_one_calculator_would_have(aum, run, tmp_path):
    whole = AUMCalculator(tmp_path / "whole")
    for shard in range(2):
        whole.add_totals(Totals.load(run(f"r{shard}", shard) / "totals.npz"))
    whole.finalize()
    aum("merge", tmp_path / "r0", tmp_path / "r1", "--out", tmp_path / "out")
    assert (tmp_path / "out/aum_values.csv").read_bytes() == (tmp_path / "whole/aum_values.csv").read_bytes()


def test_parquet_without_pyarrow(run, tmp_path):
    folder = run("a")
    code = "import sys; sys.modules['pyarrow'] = None; from aum.command.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "export", folder, "--out", tmp_path / "parts"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "aum export: error: needs pyarrow: pip install pyarrow\n")
