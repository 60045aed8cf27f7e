import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aum_core import Totals

# float32 numbers whose sums float64 holds: those of logits do not span nine orders of magnitude
margin = st.builds(lambda digits, scale: digits / 2**scale, st.integers(-(2**24), 2**24), st.integers(10, 22))
sample_id = st.integers(-3, 3) | st.integers(-(2**80), 2**80) | st.text(max_size=3) | st.just("\udcff.png")
measurements = st.lists(st.tuples(sample_id, margin), max_size=30)


def totals_of(pairs):
    totals = Totals()
    if pairs:
        totals.add(*map(list, zip(*pairs, strict=True)))
    return totals


def by_id(totals):
    ids, sums, counts = totals.sample_ids.tolist(), totals.sums.tolist(), totals.counts.tolist()
    return dict(zip(ids, zip(sums, counts, strict=True), strict=True))


@given(st.lists(measurements, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_shards_merge_to_one_process_in_any_order(shards, random):
    whole = totals_of([pair for shard in shards for pair in shard])
    random.shuffle(shards)
    merged = Totals()
    for shard in shards:
        merged = merged.merge(totals_of(shard))
    assert by_id(merged) == by_id(whole)


@given(measurements)
def test_sorted_totals_are_the_same_in_the_order_of_their_ids(pairs):
    totals = totals_of(pairs)
    totals.left_out = 2
    ordered = totals.sorted()
    ids = ordered.sample_ids.tolist()
    assert ids == sorted(ids, key=lambda each: (isinstance(each, str), each))
    assert by_id(ordered) == by_id(totals)
    assert ordered.left_out == 2


@given(st.lists(st.integers(-20, 400)))
def test_ints_come_in_first_seen_order(ids):
    totals = Totals()
    totals.add(np.array(ids, dtype=np.int64), np.ones(len(ids)))
    assert totals.sample_ids.tolist() == list(dict.fromkeys(ids))
    assert totals.sorted().sample_ids.tolist() == sorted(set(ids))


def test_merge_leaves_its_parts_alone_and_adds_what_was_left_out():
    left, right = totals_of([(1, 1.0)]), totals_of([(2, 2.0), (1, 3.0)])
    left.left_out, right.left_out = 2, 3
    merged = left.merge(right)
    merged.add([1], [10.0])
    assert by_id(left) == {1: (1.0, 1)}
    assert by_id(right) == {2: (2.0, 1), 1: (3.0, 1)}
    assert by_id(merged) == {1: (14.0, 3), 2: (2.0, 1)}
    assert merged.left_out == 5


def test_aum_is_sum_over_count():
    assert totals_of([("a", 1.0), ("b", 5.0), ("a", 2.0)]).aums.tolist() == [1.5, 5.0]


def test_measurements_per_sample_tell_of_repeats():
    totals = totals_of([(each, 1.0) for each in (*range(10), *range(10), 0, 1)])
    assert totals.measurements_per_sample() == {"min": 2, "max": 3, "usual": 2, "unusual_samples": 2}
    assert Totals().measurements_per_sample() == {}


def test_what_is_shown_cannot_be_written_to():
    totals = totals_of([(1, 1.0)])
    with pytest.raises(ValueError, match="read-only"):
        totals.sums[0] = 5.0
    with pytest.raises(ValueError, match="read-only"):
        totals.counts[0] = 5


def test_margins_must_be_as_many_as_ids():
    with pytest.raises(ValueError, match=r"margins: shape \(1,\), want \(2,\)"):
        Totals().add([1, 2], [1.0])


@given(measurements)
def test_save_then_load_is_the_identity(tmp_path_factory, pairs):
    totals = totals_of(pairs)
    totals.left_out = 3
    path = tmp_path_factory.mktemp("totals") / "totals.npz"
    totals.save(path)
    loaded = Totals.load(path)
    assert by_id(loaded) == by_id(totals)
    assert loaded.sample_ids.tolist() == totals.sample_ids.tolist()
    assert loaded.left_out == 3
    loaded.add([1], [1.0])  # what was loaded goes on


def test_saved_file_is_plain_numpy(tmp_path):
    totals_of([(5, 1.0), (6, 2.5)]).save(tmp_path / "totals.npz")
    with np.load(tmp_path / "totals.npz", allow_pickle=False) as file:
        assert file["ids"].tolist() == [5, 6]
        assert file["sums"].tolist() == [1.0, 2.5]


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "totals.npz"
    totals_of([(5, 1.0), ("cat.png", 2.5), (2**70, -1.0)]).save(path)
    return path


def test_a_file_cut_anywhere_is_refused(saved, tmp_path):
    content = saved.read_bytes()
    cut = tmp_path / "cut.npz"
    for length in range(0, len(content), 7):
        cut.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.npz: not a file of aum totals, version 1, or damaged"):
            Totals.load(cut)


def test_a_file_with_any_damaged_byte_is_refused_or_means_the_same(saved, tmp_path):
    content, expected = saved.read_bytes(), by_id(Totals.load(saved))
    damaged = tmp_path / "damaged.npz"
    for at in range(len(content)):
        damaged.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            loaded = Totals.load(damaged)
        except ValueError as error:
            assert "damaged.npz" in str(error)
        else:  # dates and attributes in the archive's directory carry no meaning
            assert by_id(loaded) == expected


def rewritten(saved, **changes):
    """Write the arrays of a saved file again, some of them changed."""
    with np.load(saved) as file:
        arrays = {**file, **changes}
    np.savez(saved, **{name: array for name, array in arrays.items() if array is not None})
    return saved


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": np.frombuffer(b"aum totals, version 9", np.uint8)},
        {"sums": None},
        {"more": np.zeros(1)},
        {"sums": np.zeros(2)},
        {"sums": np.zeros(3, np.float32)},
        {"sums": np.zeros((3, 1))},
        {"counts": np.array([1, 0, 1])},
        {"counts": np.array([1, -5, 1])},
        {"left_out": np.array([-1])},
        {"left_out": np.array([1, 2])},
        {"ids": np.array([8, 1, 26]), "kinds": np.ones(3, np.uint8)},
        {"ids": np.array([1, 8, 2**62])},
        {"kinds": np.array([7, 1, 0], np.uint8)},
        {"kinds": np.array([0, 0, 0], np.uint8)},  # "cat.png" is no int
        {"text": np.zeros(26, np.uint8)},
        {"sums": np.array([None, 1, 2], object)},  # pickled
    ],
    ids=str,
)
def test_a_file_that_contradicts_itself_is_refused(saved, changes):
    with pytest.raises(ValueError, match="not a file of aum totals, version 1, or damaged"):
        Totals.load(rewritten(saved, **changes))


def test_an_id_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "totals.npz"
    totals_of([(5, 1.0), (6, 2.5)]).save(path)
    with pytest.raises(ValueError, match="do not go together"):
        Totals.load(rewritten(path, ids=np.array([5, 5])))


def test_a_header_that_claims_more_than_the_file_holds_takes_no_memory(saved):
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["sums.npy"] = members["sums.npy"].replace(b"'shape': (3,), }" + b" " * 12, b"'shape': (3000000000000,), }")
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match="24 bytes for shape"):
        Totals.load(saved)


def test_a_compressed_member_is_refused(saved):
    with np.load(saved) as file:
        np.savez_compressed(saved, **file)
    with pytest.raises(ValueError, match="is compressed"):
        Totals.load(saved)


@pytest.mark.parametrize("content", [b"", b"sample_id,aum\n1,2\n", b"\x93NUMPY", b"PK\x05\x06" + bytes(18)])
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "foreign.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.npz: not a file of aum totals"):
        Totals.load(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Totals.load(tmp_path / "nothing.npz")


def test_totals_of_rows_have_those_that_were_measured():
    totals = Totals.from_rows(np.float32([1.5, 0.0, -2.0]), np.int32([1, 0, 2]), left_out=3)
    assert by_id(totals) == {0: (1.5, 1), 2: (-2.0, 2)}
    assert (totals.sums.dtype, totals.counts.dtype, totals.left_out) == (np.float64, np.int64, 3)
    named = Totals.from_rows([1.5, 0.0, -2.0], [1, 0, 2], ["a", "b", 7])
    assert by_id(named) == {"a": (1.5, 1), 7: (-2.0, 2)}


@pytest.mark.parametrize(
    ("names", "words"),
    [(["a", "b"], "2 names for 3 rows"), ([5, 6, 5], "5 stands for rows 0 and 2"), (["a", "b", "b"], "'b' stands")],
)
def test_names_of_rows_must_be_one_for_each_and_different(names, words):
    with pytest.raises(ValueError, match=f"sample_ids: {words}"):
        Totals.from_rows([1.0, 1.0, 1.0], [1, 0, 1], names)
