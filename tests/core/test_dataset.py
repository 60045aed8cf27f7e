import pytest


def test_items_end_with_their_index(framework):
    dataset = framework.DatasetWithIndex([("a", 0), ("b", 1), ["c", 2]])
    assert len(dataset) == 3
    assert [dataset[i] for i in range(3)] == [("a", 0, 0), ("b", 1, 1), ("c", 2, 2)]


def test_a_negative_index_gives_the_sample_its_own_id(framework):
    dataset = framework.DatasetWithIndex([("a", 0), ("b", 1)])
    assert dataset[-1] == ("b", 1, 1)
    with pytest.raises(IndexError, match="-3 is out of range for 2 samples"):
        dataset[-3]
    with pytest.raises(IndexError):
        dataset[2]


def test_an_index_of_the_framework_gives_a_plain_int(framework):
    index = framework.array([1])[0]
    item = framework.DatasetWithIndex([("a", 0), ("b", 1)])[index]
    assert item == ("b", 1, 1)
    assert type(item[-1]) is int


def test_a_mapping_gets_its_index_under_sample_id(framework):
    item = {"features": 1}
    assert framework.DatasetWithIndex([item])[0] == {"features": 1, "sample_id": 0}
    assert item == {"features": 1}
    with pytest.raises(ValueError, match=r"base_dataset\[0\] has a 'sample_id' already"):
        framework.DatasetWithIndex([{"sample_id": 5}])[0]


def test_an_item_that_is_no_tuple_is_refused(framework):
    with pytest.raises(TypeError, match=r"base_dataset\[0\] is str, want a tuple"):
        framework.DatasetWithIndex(["features alone"])[0]


def test_base_dataset_can_be_reached(framework):
    base = [("a", 0)]
    assert framework.DatasetWithIndex(base).base_dataset is base


@pytest.mark.parametrize("index", [1.0, "0", None])
def test_an_index_that_is_no_int_is_refused(framework, index):
    with pytest.raises(TypeError, match="integer"):
        framework.DatasetWithIndex([("a", 0), ("b", 1)])[index]
