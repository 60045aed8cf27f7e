"""What several processes measured in an epoch, added up by sample id."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aum_core import Batch, EpochSums, Needs, compute_margins
from aum_core.ids import as_ids
from aum_core.sample_index import SampleIndex
from aum_core.scores.collector import EpochCollector, merge_epochs

NEEDS = [
    Needs(),
    Needs(("confidence", "correct", "error_norm")),
    Needs(("correct",), logits=True),
    Needs(("correct",), softmax=True, logits=True),
]
IDS = [*range(5), "a", "b", 2**70, -3]
CLASSES = 3


def measured(needs, batches):
    """The sample ids and sums of one process that measured these batches of (ids, logits)."""
    index, collector = SampleIndex(), EpochCollector(needs)
    for ids, logits in batches:
        labels = [IDS.index(each) % CLASSES for each in ids]
        batch = Batch(as_ids(ids), compute_margins(logits, labels), logits)
        batch.rows = index.find(batch.ids)
        collector.check(batch)
        batch.rows = index.insert(batch.ids)
        collector.take(batch)
    rows, epoch = collector.epoch()
    return index.sample_ids[rows], epoch


def stream(seed, num_batches):
    generator = np.random.default_rng(seed)
    for size in generator.integers(1, 6, num_batches).tolist():
        ids = [IDS[place] for place in generator.integers(0, len(IDS), size).tolist()]
        yield ids, (generator.normal(size=(size, CLASSES)) * 9).astype(np.float32)


def assert_close(one, other):
    (ids, epoch), (other_ids, other_epoch) = one, other
    assert ids.tolist() == other_ids.tolist()
    np.testing.assert_array_equal(epoch.counts, other_epoch.counts)
    np.testing.assert_array_equal(epoch.labels, other_epoch.labels)
    np.testing.assert_array_equal(epoch.sums["margin"], other_epoch.sums["margin"])
    for name in epoch.sums:
        np.testing.assert_allclose(epoch.sums[name], other_epoch.sums[name], rtol=1e-12)
    for name in ("softmax", "logits"):
        ours, theirs = getattr(epoch, name), getattr(other_epoch, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(st.sampled_from(NEEDS), st.integers(0, 99), st.lists(st.integers(0, 3), min_size=1, max_size=12), st.randoms())
def test_one_process_equals_its_pieces_in_any_order(needs, seed, owners, random):
    batches = [*stream(seed, len(owners))]
    whole = merge_epochs(needs, [measured(needs, batches)])
    parts = [
        measured(needs, [batch for batch, owner in zip(batches, owners, strict=True) if owner == each])
        for each in range(4)
    ]
    random.shuffle(parts)
    assert_close(merge_epochs(needs, parts), whole)
    left, right = merge_epochs(needs, parts[:2]), merge_epochs(needs, parts[2:])
    assert_close(merge_epochs(needs, [right, left]), whole)
    whole[1].check(needs)


def test_ids_are_in_order_and_those_not_measured_are_not_there():
    part = EpochSums(np.array([1, 0, 2]), {"margin": np.array([1.0, 0.0, 3.0])}, np.array([0, 0, 1]))
    rows, epoch = part.measured()
    ids, merged = merge_epochs(Needs(), [(["b", 10], epoch), ([9], EpochSums(*_one(2.0, 0)))])
    assert rows.tolist() == [0, 2]
    assert ids.tolist() == [9, 10, "b"]
    assert merged.sums["margin"].tolist() == [2.0, 3.0, 1.0]


def _one(margin, label):
    return np.array([1]), {"margin": np.array([margin])}, np.array([label])


def test_nothing_measured_anywhere():
    needs = Needs(("correct",), logits=True)
    ids, epoch = merge_epochs(needs, [measured(needs, []), measured(needs, [])])
    assert len(ids) == len(epoch.counts) == 0


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="targets: sample 7 has target 1, and 0 before"):
        merge_epochs(Needs(), [([7], EpochSums(*_one(2.0, 0))), ([7], EpochSums(*_one(2.0, 1)))])
    wide, narrow = (replace(EpochSums(*_one(2.0, 0)), logits=np.zeros((1, size), np.float32)) for size in (4, 3))
    with pytest.raises(ValueError, match="logits: 3 classes, and 4 before"):
        merge_epochs(Needs(logits=True), [([7], wide), ([8], narrow)])


@pytest.mark.parametrize("needs", NEEDS)
def test_a_saved_epoch_goes_on_to_the_same_bits(needs):
    batches = [*stream(3, 12)]
    (first_ids, first_logits), *_ = batches
    collector = EpochCollector(needs)
    labels = [IDS.index(each) % CLASSES for each in first_ids]
    batch = Batch(as_ids(first_ids), compute_margins(first_logits, labels), first_logits)
    batch.rows = SampleIndex().insert(batch.ids)
    collector.take(batch)
    again = EpochCollector(needs).from_arrays(collector.to_arrays())
    for each in (collector, again):
        each.take(batch)
    assert again.num_rows == collector.num_rows
    ours, theirs = collector.to_arrays(), again.to_arrays()
    assert set(ours) == set(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_new_epoch_begins_with_nothing_and_may_need_less():
    needs = Needs(("correct",), softmax=True, logits=True)
    collector = EpochCollector(needs)
    batch = Batch(as_ids([1]), compute_margins([[2.0, 0.5]], [0]), np.array([[2.0, 0.5]]))
    batch.rows = np.array([0])
    collector.take(batch)
    collector.begin(Needs(("correct",), logits=True))
    assert len(collector.epoch()[0]) == 0
    assert collector.needs_logits
    collector.begin(Needs(("correct",)))
    assert not collector.needs_logits
    collector.take(batch)
    assert collector.epoch()[1].logits is None


def test_a_state_of_other_columns_or_with_a_part_missing_is_refused():
    arrays = EpochCollector(Needs(("correct",))).to_arrays()
    with pytest.raises(ValueError, match="epoch: its arrays contradict"):
        EpochCollector(Needs(("confidence",))).from_arrays(arrays)
    del arrays["counts"]
    with pytest.raises(ValueError, match="epoch: its arrays contradict"):
        EpochCollector(Needs(("correct",))).from_arrays(arrays)
