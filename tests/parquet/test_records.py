"""The log on disk is the log in memory, in other places."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aum.parquet import RecordsOnDisk, merging, parts, read_records
from aum_core import AUMCalculator
from aum_core.files import whole

NOT_UTF8 = "caf\udce9.png"  # what os.fsdecode makes of it where names are bytes
IDS = {
    "ints": [*range(20), -5, 2**62],
    "far apart": [-(2**63), 2**63 - 1, 0],
    "strs": ["b", "a", "", 'ü, "x"\n', "x\ny", "\N{SNOWMAN}", "7"],
    "both": [3, "3", 2**70, -(2**70), -(2**65), 2**64, "a"],
    "not UTF-8": [NOT_UTF8, "b", "\ue000"],
    "not UTF-8, and ints": [NOT_UTF8, 7],
    "half of a pair": ["\ud83d.png", NOT_UTF8, "b"],  # as file names of Windows may have it
}
FILES = ("aum_values.csv", "full_aum_records.csv")


def stream(ids, num_batches=30, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(num_batches):
        size = int(generator.integers(0, 15))
        logits = (generator.normal(0, 3, (size, 5)) * 10.0 ** generator.integers(-9, 9, (size, 5))).astype(dtype)
        yield logits, generator.integers(0, 5, size), [ids[i] for i in generator.integers(0, len(ids), size)]


def on_disk(folder, part_size=1_000_000, **options):
    return AUMCalculator(
        folder, compressed=False, log=partial(RecordsOnDisk, save_dir=folder, part_size=part_size, **options)
    )


def both(tmp_path, batches, part_size):
    """A calculator with its records in memory, and one with them on disk, that returned the same."""
    memory, disk = AUMCalculator(tmp_path / "memory", compressed=False), on_disk(tmp_path / "disk", part_size)
    for batch in batches:
        assert memory.update(*batch) == disk.update(*batch)
    return memory, disk


@pytest.fixture(params=[2, 128])
def fan_in(request, monkeypatch):
    """How many parts are merged at once, in groups of few rows: with two there are merged parts in between."""
    monkeypatch.setattr(merging, "_FAN_IN", request.param)
    monkeypatch.setattr(parts, "_GROUP_ROWS", 3)


@pytest.mark.slow
@pytest.mark.usefixtures("fan_in")
@pytest.mark.parametrize("part_size", [20, 1000])
@pytest.mark.parametrize("ids", IDS)
def test_files_are_those_of_the_log_in_memory(tmp_path, ids, part_size):
    memory, disk = both(tmp_path, stream(IDS[ids], 16), part_size)
    memory.finalize()
    disk.finalize()
    for name in FILES:
        assert (tmp_path / "disk" / name).read_bytes() == (tmp_path / "memory" / name).read_bytes()
    read_records(tmp_path / "disk").write_csv(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "memory/full_aum_records.csv").read_bytes()
    hidden = [*tmp_path.rglob(".*")]
    assert hidden == []


def test_the_first_str_may_come_late(tmp_path):
    batches = [*stream(list(range(9)), 20), *stream(["x", 3, "y"], 20, np.float64)]
    memory, disk = both(tmp_path, batches, 30)
    memory.finalize()
    disk.finalize()
    assert (tmp_path / "disk/full_aum_records.csv").read_bytes() == (
        tmp_path / "memory/full_aum_records.csv"
    ).read_bytes()
    found = read_records(tmp_path / "disk")
    assert found.trajectory(3)["aum"].to_pylist() == [r.aum for r in memory.records if r.sample_id == 3]
    with pytest.raises(ValueError, match="int64 in some parts and texts in others"):
        found.to_table()


@pytest.mark.parametrize("part_size", [1, 40, 1000])
@pytest.mark.parametrize("ids", ["ints", "both"])
def test_records_are_the_sequence_that_they_are_in_memory(tmp_path, ids, part_size):
    memory, disk = both(tmp_path, stream(IDS[ids]), part_size)
    records, expected = disk.records, list(memory.records)
    assert len(records) == len(expected)
    assert list(records) == expected
    assert [type(r.sample_id) for r in records] == [type(r.sample_id) for r in expected]
    for part in (slice(5, -3, 7), slice(None, None, -4), slice(90, 10, -1), slice(50, 50), slice(-5, None)):
        assert records[part] == expected[part]
    assert (records[-1], records[0], records[60]) == (expected[-1], expected[0], expected[60])
    assert expected[30] in records
    with pytest.raises(IndexError):
        records[len(expected)]


@pytest.mark.parametrize("value", ["nan", "inf", "1e300", "-0.0", "1e16", "123456.0", "1e-5", "12345678901.5"])
def test_every_form_of_a_float_is_that_of_pandas(tmp_path, value):
    logits = np.array([[float(value), 0.0], [0.0, float(value)]])
    with np.errstate(invalid="ignore"):
        for name, log in (
            ("memory", {}),
            ("disk", {"log": partial(RecordsOnDisk, save_dir=tmp_path / "disk")}),
        ):
            made = AUMCalculator(tmp_path / name, compressed=False, nonfinite="propagate", **log)
            made.accumulate(logits, [0, 0], [1, 2])
            made.finalize()
    assert (tmp_path / "disk/full_aum_records.csv").read_bytes() == (
        tmp_path / "memory/full_aum_records.csv"
    ).read_bytes()


@pytest.mark.parametrize("part_size", [30, 1000])
@pytest.mark.parametrize("ids", IDS)
def test_a_trajectory_is_one_samples_records(tmp_path, ids, part_size):
    memory, disk = both(tmp_path, stream(IDS[ids]), part_size)
    disk.finalize(full_csv=False)
    assert not (tmp_path / "disk/full_aum_records.csv").exists()
    found = read_records(tmp_path / "disk")
    for sample_id in memory.totals.sample_ids.tolist():
        own = [r for r in memory.records if (type(r.sample_id), r.sample_id) == (type(sample_id), sample_id)]
        table = found.trajectory(sample_id)
        for name in ("num_measurements", "margin", "aum", "target_logit", "other_val"):
            assert table[name].to_pylist() == [getattr(record, name) for record in own], name
        assert table["step"].to_pylist() == sorted(table["step"].to_pylist())
    for absent in (12345, "nobody", 2**80, NOT_UTF8 + "x"):
        with pytest.raises(KeyError):
            found.trajectory(absent)


def test_what_any_reader_finds(tmp_path):
    disk = on_disk(tmp_path, part_size=50)
    for batch in stream(list(range(20))):
        disk.accumulate(*batch)
    disk.finalize()
    files = sorted((tmp_path / "records").iterdir())
    assert [part.name for part in files][:2] == ["rank0-part000000.parquet", "rank0-part000001.parquet"]
    table = pq.read_table(tmp_path / "records")
    assert table.schema.names[:8] == (tmp_path / "full_aum_records.csv").read_text().split("\n")[0].split(",")
    assert table.schema.names[8:] == ["step", "rank", "place"]
    assert {str(table.schema.field(name).type) for name in ("target_val", "other_val", "margin", "aum")} == {"double"}
    for part in files:
        ids = pq.read_table(part)["sample_id"].to_pylist()
        assert ids == sorted(ids)
        assert len(ids) >= 50 or part == files[-1]
    found = read_records(tmp_path)
    assert len(found) == len(table) == len(disk.records)
    assert found.to_table().equals(table)
    assert found.dataset().count_rows() == len(table)
    assert repr(found) == f"RecordFiles({len(table)} records in {len(files)} parts)"
    assert len(read_records(tmp_path / "records")) == len(table)


def test_all_records_in_pandas(tmp_path, pandas):
    disk = on_disk(tmp_path)
    disk.accumulate(np.float32([[2, 0.5], [1, 3]]), [0, 0], ["cat", "dog"])
    disk.finalize()
    frame = read_records(tmp_path).to_pandas(["sample_id", "margin"])
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("list") == {"sample_id": ["cat", "dog"], "margin": [1.5, -2.0]}


def test_steps_count_the_calls_even_those_without_samples(tmp_path):
    disk = on_disk(tmp_path, part_size=2)
    nothing = np.empty((0, 2), np.float32), np.empty(0, int), []
    one = np.float32([[2, 0.5]]), [0], [7]
    for batch in (one, nothing, one, one, nothing, one):
        disk.accumulate(*batch)
    disk.finalize()
    assert read_records(tmp_path).trajectory(7)["step"].to_pylist() == [0, 2, 3, 5]


def test_no_records_are_an_error_that_says_where_they_would_be(tmp_path):
    with pytest.raises(ValueError, match="compressed=False"):
        read_records(tmp_path)


def test_an_earlier_run_is_set_aside_and_told(tmp_path):
    first, second = on_disk(tmp_path, part_size=2), on_disk(tmp_path, part_size=2)
    for _ in range(3):
        first.accumulate(np.float32([[2, 0.5]] * 2), [0, 0], [1, 2])
    (tmp_path / "records/.rank0-part000003.parquet.1-ab.tmp").write_bytes(b"half")
    assert len(read_records(tmp_path)) == 6
    with pytest.warns(UserWarning, match=r"3 parts of an earlier run .*records_set_aside.0 now"):
        second.accumulate(np.float32([[2, 0.5]] * 2), [0, 0], [1, 2])
    assert len(read_records(tmp_path)) == 2
    assert len([*(tmp_path / "records_set_aside/0").iterdir()]) == 3
    assert len([*(tmp_path / "records").iterdir()]) == 1
    with pytest.raises(FileNotFoundError, match="no other run"):
        first.finalize()


def test_an_earlier_run_that_goes_on_does_not_write_between_the_parts_of_a_new_one(tmp_path):
    first, second = on_disk(tmp_path, part_size=2), on_disk(tmp_path, part_size=2)
    batch = np.float32([[2, 0.5]] * 2), [0, 0], [1, 2]
    first.accumulate(*batch)
    with pytest.warns(UserWarning, match="1 parts of an earlier run"):
        second.accumulate(*batch)  # a part of the same name
    with pytest.raises(FileNotFoundError, match="no other run"):
        first.accumulate(*batch)
    assert len([*(tmp_path / "records").iterdir()]) == 1


def test_two_processes_that_take_themselves_for_the_same_rank_are_told(tmp_path):
    first, second = on_disk(tmp_path, part_size=2), on_disk(tmp_path, part_size=2)
    batch = np.float32([[2, 0.5]] * 2), [0, 0], [1, 2]
    second.records.flush()  # the folder is empty: it is both of theirs
    first.accumulate(*batch)
    with pytest.raises(FileExistsError, match="as rank 0 too"):
        second.accumulate(*batch)


def test_half_a_part_that_another_program_has_open_stays(tmp_path, monkeypatch):
    """As on Windows, where what is open cannot be removed."""

    def refuse(self, missing_ok=False):
        raise PermissionError(13, "The process cannot access the file", str(self))

    half = tmp_path / "records/.rank0-part000003.parquet.1-ab.tmp"
    half.parent.mkdir()
    half.write_bytes(b"half")
    disk = on_disk(tmp_path)
    disk.accumulate(np.float32([[2, 0.5]]), [0], [1])
    with monkeypatch.context() as windows:
        windows.setattr(Path, "unlink", refuse)
        disk.records.flush()
    assert half.exists()
    assert len(read_records(tmp_path)) == 1


def test_parts_that_a_virus_scanner_has_open_are_set_aside_a_moment_later(tmp_path, monkeypatch):
    batch, replace, refused = (np.float32([[2, 0.5]] * 2), [0, 0], [1, 2]), Path.replace, []

    def refusing(self, target):
        if "records_set_aside" in str(target) and not refused:
            refused.append(target)
            raise PermissionError(13, "The process cannot access the file", str(self))
        return replace(self, target)

    on_disk(tmp_path, part_size=2).accumulate(*batch)
    monkeypatch.setattr(whole, "_WINDOWS", True)
    monkeypatch.setattr(Path, "replace", refusing)
    monkeypatch.setattr(whole, "sleep", refused.append)
    with pytest.warns(UserWarning, match="1 parts of an earlier run"):
        on_disk(tmp_path, part_size=2).accumulate(*batch)
    assert len(refused) == 2
    assert len(read_records(tmp_path)) == 2
    assert len([*(tmp_path / "records_set_aside/0").iterdir()]) == 1


def test_a_run_that_was_moved(tmp_path):
    calculator = on_disk(tmp_path / "run")
    calculator.accumulate(np.float32([[2, 0.5]]), [0], [1])
    calculator.save(tmp_path / "saved.npz")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"run.records is not there, .* want the save_dir that these are in now"):
        AUMCalculator.load(tmp_path / "saved.npz", log=partial(RecordsOnDisk, save_dir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    log = partial(RecordsOnDisk, save_dir=moved)
    assert len(AUMCalculator.load(tmp_path / "saved.npz", moved, log=log).records) == 1


def test_parts_after_the_checkpoint_are_set_aside(tmp_path):
    run = tmp_path / "run"
    calculator = on_disk(run, part_size=3)
    batch = np.float32([[2, 0.5]] * 2), [0, 0], [1, 2]
    for _ in range(4):
        calculator.accumulate(*batch)
    calculator.save(tmp_path / "saved.npz")
    belonging = sorted(path.name for path in (run / "records").iterdir())
    for _ in range(4):
        calculator.accumulate(*batch)
    log = partial(RecordsOnDisk, save_dir=run, part_size=3)
    loaded = AUMCalculator.load(tmp_path / "saved.npz", log=log)
    assert sorted(path.name for path in (run / "records").iterdir()) == belonging
    assert len([*(run / "records_set_aside/0").iterdir()]) == 2
    assert len(loaded.records) == 8
    loaded.accumulate(*batch)
    loaded.finalize()
    assert [record.num_measurements for record in loaded.records] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (Path.unlink, "is not there"),
        (lambda part: part.write_bytes(part.read_bytes()[:-9]), "cannot be read"),
        (lambda part: pq.write_table(pa.table({"a": [1, 2]}), part), "is another part"),
        (lambda part: part.write_bytes(part.with_name("rank0-part000001.parquet").read_bytes()), "is another part"),
    ],
)
def test_a_checkpoint_that_misses_records_is_refused(tmp_path, harm, words):
    run = tmp_path / "run"
    calculator = on_disk(run, part_size=2)
    for _ in range(2):
        calculator.accumulate(np.float32([[2, 0.5]] * 2), [0, 0], [1, 2])
    calculator.save(tmp_path / "saved.npz")
    harm(run / "records/rank0-part000000.parquet")
    with pytest.raises(ValueError, match=rf"saved\.npz.*part000000.*{words}"):
        AUMCalculator.load(tmp_path / "saved.npz", log=partial(RecordsOnDisk, save_dir=run))


def test_a_checkpoint_of_records_in_memory_is_not_taken_for_one_on_disk(tmp_path):
    calculator = AUMCalculator(tmp_path / "run", compressed=False)
    calculator.save(tmp_path / "saved.npz")
    with pytest.raises(ValueError, match="which keeps them in memory"):
        AUMCalculator.load(tmp_path / "saved.npz", log=partial(RecordsOnDisk, save_dir=tmp_path / "run"))


@pytest.mark.usefixtures("fan_in")
def test_ranks_share_a_folder_and_are_numbered_together(tmp_path):
    batches = [batch for batch in stream(list(range(9)), 40) if len(batch[2]) > 1]
    alone = AUMCalculator(tmp_path / "alone", compressed=False)
    ranks = [on_disk(tmp_path / "run", 20, rank=rank, num_ranks=2) for rank in range(2)]
    for logits, targets, ids in batches:
        alone.accumulate(logits, targets, ids)
        half = len(ids) // 2
        ranks[0].accumulate(logits[:half], targets[:half], ids[:half])
        ranks[1].accumulate(logits[half:], targets[half:], ids[half:])
    alone.finalize()
    for rank in ranks:
        rank.records.flush()
    found = read_records(tmp_path / "run")
    assert found.ranks == [0, 1]
    found.write_csv(tmp_path / "together.csv")
    assert (tmp_path / "together.csv").read_bytes() == (tmp_path / "alone/full_aum_records.csv").read_bytes()
    own = [record for record in alone.records if record.sample_id == 4]
    assert found.trajectory(4)["aum"].to_pylist() == [record.aum for record in own]
    assert found.trajectory(4)["num_measurements"].to_pylist() == [*range(1, len(own) + 1)]


def test_the_first_rank_clears_away_ranks_that_are_no_longer_there(tmp_path):
    for rank in range(3):
        old = on_disk(tmp_path, 1, rank=rank, num_ranks=3)
        old.accumulate(np.float32([[2, 0.5]]), [0], [rank])
    second = on_disk(tmp_path, 1, rank=1, num_ranks=2)
    with pytest.warns(UserWarning, match="1 parts"):
        second.accumulate(np.float32([[2, 0.5]]), [0], [7])
    first = on_disk(tmp_path, 1, rank=0, num_ranks=2)
    with pytest.warns(UserWarning, match="2 parts"):
        first.accumulate(np.float32([[2, 0.5]]), [0], [7])
    assert sorted(read_records(tmp_path).to_table()["sample_id"].to_pylist()) == [7, 7]


def test_a_disk_that_is_full_for_a_while_loses_no_record(tmp_path, monkeypatch):
    from aum.parquet import part_folder

    def refuse(*_):
        raise OSError(28, "No space left on device")

    disk = on_disk(tmp_path, part_size=3)
    batch = np.float32([[2, 0.5]] * 2), [0, 0], [1, 2]
    disk.accumulate(*batch)
    with monkeypatch.context() as full:
        full.setattr(part_folder, "write_part", refuse)
        with pytest.raises(OSError, match="No space left"):
            disk.accumulate(*batch)
    disk.accumulate(*batch)
    disk.finalize()
    assert [record.num_measurements for record in disk.records] == [1, 1, 2, 2, 3, 3]
    assert len(read_records(tmp_path)) == 6


def test_memory_holds_one_part(tmp_path):
    disk = on_disk(tmp_path, part_size=1000)
    for start in range(0, 20_000, 500):
        disk.accumulate(np.zeros((500, 2), np.float32), np.zeros(500, int), np.arange(start, start + 500))
    assert max(len(column._buffer) for column in disk.records._pending.values()) <= 1500
