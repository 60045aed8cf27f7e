"""`aum rank`, `aum info` and `aum records`: what they print of a run."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from aum.command.text import sparkline
from aum_core import AUMCalculator, Totals


def test_rank_prints_the_most_suspicious_first(aum, run):
    folder = run("a")
    totals = Totals.load(folder / "totals.npz")
    lines = [line.split() for line in aum("rank", folder, "--top", "3").out.splitlines()]
    assert lines[0] == ["rank", "sample", "id", "AUM", "measurements"]
    assert [line[1] for line in lines[1:]] == [str(row) for row in totals.aums.argsort()[:3]]
    assert [line[0] for line in lines[1:]] == ["1", "2", "3"]
    assert float(lines[1][2]) == pytest.approx(totals.aums.min(), rel=1e-5)
    best = aum("rank", folder, "--top", "1", "--best").out.splitlines()[1].split()
    assert best[1] == str(totals.aums.argmax())


def test_rank_adds_up_and_writes(aum, refused, shards, tmp_path):
    folder, _ = shards
    path = tmp_path / "ranking.csv"
    assert aum("rank", folder, "--out", path).out == f"20 samples in {path}, best first\n"
    aum("merge", folder, "--out", tmp_path / "out")
    assert path.read_bytes() == (tmp_path / "out/aum_values.csv").read_bytes()
    assert "No such file" in refused("rank", folder, "--out", tmp_path / "nowhere/ranking.csv")
    assert "is given twice" in refused("rank", folder / "totals_rank0.npz", folder / "totals_rank0.npz")


def test_ids_cannot_break_a_line(aum, run):
    out = aum("rank", run("a", 0, ["\x1b[31mred", "two\nlines", "\N{SNOWMAN}"])).out
    assert out.count("\n") == 4
    assert "\x1b" not in out
    assert "\N{SNOWMAN}" in out


def test_info_of_a_run(aum, run):
    out = aum("info", run("a", 0, compressed=False)).out
    for told in (
        "made by       numpy, 2",
        "samples       20\n",
        "measurements  60 (3 of each sample)\n",
        "left out      0\n",
        "options       compressed False, nonfinite leave_out\n",
        "totals.npz       20            60         0  ints, 0 to 19\n",
        "full_aum_records.csv",
    ):
        assert told in out


def test_info_of_shards_and_of_what_was_merged(aum, shards, tmp_path):
    folder, _ = shards
    out = aum("info", folder).out
    assert "job           unfinished: no run.json\n" in out
    assert "totals_rank2.npz        0             0         2  none\n" in out
    aum("merge", folder, "--out", tmp_path / "out")
    out = aum("info", tmp_path / "out").out
    assert "merged of     3 shards\n" in out
    assert "measurements  81 (3 to 6 of a sample; 3 of most samples, 7 samples have another number)\n" in out
    assert aum("info", folder / "totals_rank1.npz").out.splitlines()[-1].split()[1:] == [
        "15",
        "45",
        "1",
        "ints,",
        "5",
        "to",
        "19",
    ]


def test_info_of_a_search(aum, tmp_path):
    from aum_core import find_mislabeled

    def train(targets, num_classes, calculator):
        calculator.accumulate(np.eye(num_classes)[targets], targets, np.arange(len(targets)))

    find_mislabeled(train, [0, 1] * 10, 2, save_dir=tmp_path / "search")
    out = aum("info", tmp_path / "search").out
    assert "job           find_mislabeled\n" in out
    assert "classes       2\n" in out
    assert "cut-off       AUM below " in out
    assert "totals_run1.npz" in out


def test_info_of_a_search_by_the_noise_posterior(aum, tmp_path):
    from aum_core import Budget, find_by_posterior

    def train(targets, num_classes, calculator):
        for _ in range(4):
            calculator.accumulate(np.eye(num_classes)[targets], targets, np.arange(len(targets)))
            calculator.end_epoch()

    find_by_posterior(train, [0, 1] * 10, 2, save_dir=tmp_path, cutoff=Budget(3))
    assert "cut-off       3 samples flagged (a budget: the most suspicious samples)\n" in aum("info", tmp_path).out


def test_info_of_what_is_no_run(refused, tmp_path):
    assert "has no run.json, no totals*.npz and no records" in refused("info", tmp_path)
    assert "not there" in refused("info", tmp_path / "nowhere")
    (tmp_path / "run.json").write_text("[]")
    assert "not the run.json of a run" in refused("info", tmp_path)


def test_records_of_one_sample(aum, refused, run):
    folder = run("a", 0, ["cat,.png", "dog.png"], compressed=False)
    lines = aum("records", folder, "cat,.png").out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "3"]
    aum_at_end = Totals.load(folder / "totals.npz").aums[0]
    assert lines[3].split()[-1] == f"{aum_at_end:.6g}"
    assert lines[-2] == f"sample cat,.png: AUM {aum_at_end:.6g} after 3 measurements"
    assert len(aum("records", folder, "cat,.png", "--last", "1").out.splitlines()) == 5
    assert refused("records", folder, "cow.png") == f"{folder}: sample 'cow.png' was never measured"


def test_records_in_parts_of_several_ranks(aum, refused, tmp_path, pyarrow):
    from aum.parquet import RecordsOnDisk

    for rank in range(2):
        log = partial(RecordsOnDisk, save_dir=tmp_path, rank=rank, num_ranks=2)
        calculator = AUMCalculator(tmp_path, compressed=False, log=log)
        for step in range(2):
            calculator.update([[2.0 + step, rank], [0.0, 1.0]], [0, 0], [7, "7"])
        calculator.finalize(full_csv=False)
    lines = aum("records", tmp_path, "7").out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["1", "2", "3", "4"]
    assert [line.split()[5] for line in lines[1:5]] == ["2", "1", "3", "2"]
    assert lines[-3] == "sample 7: AUM 2 after 4 measurements"
    assert lines[-1] == "'7' is there as a str, too: --str shows it"
    assert aum("records", tmp_path, "7", "--str").out.splitlines()[-2:] == [
        "sample 7: AUM -1 after 4 measurements",
        "margins ▁▁▁▁ -1 to -1, 4 below 0",
    ]
    assert "sample '8' was never measured" in refused("records", tmp_path, "8")
    assert "records/ (2 parts)" in aum("info", tmp_path).out


def test_records_with_negative_ids_and_values_that_are_not_finite(aum, tmp_path):
    calculator = AUMCalculator(tmp_path, compressed=False, nonfinite="propagate")
    for logits in ([1.0, 0.0], [np.nan, 0.0], [np.inf, 0.0]):
        calculator.update([logits], [0], [-7])
    calculator.finalize()
    lines = aum("records", tmp_path, "--", "-7").out.splitlines()
    assert lines[-1] == "margins \N{LOWER ONE EIGHTH BLOCK}   1 to 1, 0 below 0, 2 not finite"
    assert aum("records", tmp_path, "--last", "1", "--", "-7").out.splitlines()[1].split()[-1] == "nan"


def test_records_of_an_int_and_of_a_str_that_reads_alike(aum, tmp_path):
    calculator = AUMCalculator(tmp_path, compressed=False)
    for _ in range(2):
        calculator.update([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], [0, 0, 0], [7, "7", "8"])
    calculator.finalize()
    out = aum("records", tmp_path, "7").out
    assert "sample 7: AUM 2 after 2 measurements\n" in out
    assert out.endswith("'7' is there as a str, too: --str shows it\n")
    assert "sample 7: AUM -1 after 2 measurements\n" in aum("records", tmp_path, "7", "--str").out
    assert "sample 8: AUM -3 after 2 measurements\n" in aum("records", tmp_path, "8", "--str").out
    assert "sample 8: AUM -3 after 2 measurements\n" in aum("records", tmp_path, "8").out


def test_records_that_cannot_be_read(refused, tmp_path, pyarrow):
    (tmp_path / "records").mkdir()
    (tmp_path / "records/rank0-part000000.parquet").write_bytes(b"half")
    message = refused("records", tmp_path, "7")
    part = tmp_path / "records" / "rank0-part000000.parquet"
    assert message.startswith(f"{tmp_path}: its records cannot be read ({part}: ")
    (tmp_path / "records/rank0-part000000.parquet").rename(tmp_path / "records/other.parquet")
    assert "no records in it" in refused("records", tmp_path, "7")


def test_a_text_of_more_digits_than_an_int_may_have(refused, run):
    assert "was never measured" in refused("records", run("a", compressed=False), "9" * 5000)


def test_a_reader_that_has_seen_enough(tmp_path):
    totals = Totals()
    totals.add(range(50_000), np.arange(50_000.0))
    totals.save(tmp_path / "totals.npz")
    words = [sys.executable, "-m", "aum", "rank", tmp_path, "--top", "50000"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_runs_without_records(refused, run, tmp_path):
    folder = run("a")
    assert refused("records", folder / "typo", "7").endswith("not there, want the folder of a run")
    assert refused("records", folder, "7").startswith(f"{folder}: no records in it; they are kept by calculators with")
    (folder / "full_aum_records.csv").write_text("id,aum\n")
    assert "first line ['id', 'aum'], want sample_id," in refused("records", folder, "7")
    header = "sample_id,num_measurements,target_logit,target_val,other_logit,other_val,margin,aum\n"
    (folder / "full_aum_records.csv").write_text(header + "7,1,2\n")
    assert "line 2 is no record" in refused("records", folder, "7")


def test_a_run_json_of_another_time_is_told_as_far_as_it_is_known(aum, run):
    folder = run("a")
    (folder / "run.json").write_text(json.dumps({"aum_version": "2.0.0"}))
    assert "made by       2.0.0\n" in aum("info", folder).out


@pytest.mark.parametrize(
    ("values", "drawn"), [([0.0], "▁"), ([1.0, 1.0], "▁▁"), ([0.0, 7.0], "▁█"), (list(range(8)), "▁▂▃▄▅▆▇█"), ([], "")]
)
def test_sparkline(values, drawn):
    assert sparkline(values) == drawn


def test_sparkline_of_many_values_is_of_bounded_width():
    assert sparkline([float(i) for i in range(1000)], width=8) == "▁▂▃▄▅▆▇█"


@pytest.mark.parametrize("command", ["merge", "rank", "records", "info", "export"])
def test_help_of_each_command(command, aum, capsys):
    with pytest.raises(SystemExit) as end:
        aum(command, "--help")
    assert end.value.code == 0
    assert f"usage: aum {command}" in capsys.readouterr().out
