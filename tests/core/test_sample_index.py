import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aum_core import SampleIndex
from aum_core.ids import as_ids

dense = st.integers(0, 50)
sparse = st.integers(-(2**63), 2**63 - 1)
near = st.sampled_from([2**20 - 1, 2**20, 2**20 + 1, 2**32, 2**32 + 1, -1, 0])
beyond = st.integers(2**63, 2**70)
batches = st.lists(st.lists(dense | sparse | near, max_size=30), max_size=8)
mixed_batches = st.lists(st.lists(dense | sparse | beyond | st.text(max_size=3), max_size=10), max_size=6)


def assert_like_a_dict(id_batches):
    index, expected = SampleIndex(), {}
    for batch in id_batches:
        unknown = [expected.get(each, -1) for each in batch]
        assert index.find(as_ids(list(batch))).tolist() == unknown
        rows = [expected.setdefault(each, len(expected)) for each in batch]
        assert index.insert(as_ids(list(batch))).tolist() == rows
        assert len(index) == len(expected)
    assert index.sample_ids.tolist() == list(expected)
    assert index.find(as_ids(list(expected))).tolist() == list(expected.values())


@given(batches)
def test_ints_get_their_rows_in_first_seen_order(id_batches):
    assert_like_a_dict(id_batches)


@given(mixed_batches)
def test_ids_of_all_kinds_get_their_rows_in_first_seen_order(id_batches):
    assert_like_a_dict(id_batches)


@pytest.mark.parametrize(
    "ids",
    [
        np.arange(5000) * 2**40,  # multiples that a weak hash would put into one slot
        np.arange(5000)[::-1] + 2**20,  # direct only once there are enough of them
        -np.arange(5000),
        np.concatenate([np.arange(1000), [2**62], np.arange(1000, 4000)]),  # leaves the direct table half way
    ],
    ids=["multiples", "far but dense", "negative", "one far away"],
)
def test_many_ids_in_small_batches(ids):
    assert_like_a_dict([batch.tolist() for batch in np.array_split(ids, 40)] * 2)


def test_a_huge_id_does_not_make_a_huge_table():
    index = SampleIndex()
    index.insert(as_ids([0, 2**62]))
    assert index.find(as_ids([2**62, 1, 0])).tolist() == [1, -1, 0]


def test_seven_and_the_text_7_are_two_samples():
    index = SampleIndex()
    assert index.insert(as_ids([7, "7"])).tolist() == [0, 1]


def test_sample_ids_cannot_be_written_to():
    index = SampleIndex()
    index.insert(as_ids([1, 2]))
    with pytest.raises(ValueError, match="read-only"):
        index.sample_ids[0] = 5
