"""with_index: which data sets get ids, and which are refused."""

import numpy as np
import pytest
import tensorflow as tf

from aum.tf import with_index

AUTOTUNE = tf.data.AUTOTUNE


def samples(num_samples=20):
    return tf.data.Dataset.from_tensor_slices((10.0 * np.arange(num_samples), np.arange(num_samples) % 3))


def ids_of(dataset):
    return [int(item[-1]) for item in dataset]


def part(file, **options):
    """A stand-in for a file of five samples."""
    return tf.data.Dataset.range(5 * file, 5 * file + 5).map(lambda i: (10 * i, i % 3), **options)


def test_ids_belong_to_their_samples_in_every_epoch():
    dataset = with_index(samples()).shuffle(20).batch(6).prefetch(AUTOTUNE)
    orders = []
    for _ in range(2):
        orders.append([])
        for features, targets, ids in dataset:
            assert ids.dtype == tf.int64
            np.testing.assert_array_equal(features, 10.0 * ids.numpy())
            np.testing.assert_array_equal(targets, ids.numpy() % 3)
            orders[-1] += ids.numpy().tolist()
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))


def test_mappings_get_their_ids_under_sample_id():
    dataset = with_index(tf.data.Dataset.from_tensor_slices({"x": [7.0, 8.0], "y": [0, 1]}))
    assert [{name: float(value) for name, value in item.items()} for item in dataset] == [
        {"x": 7.0, "y": 0.0, "sample_id": 0.0},
        {"x": 8.0, "y": 1.0, "sample_id": 1.0},
    ]


def test_features_may_be_mappings_themselves():
    item = next(iter(with_index(tf.data.Dataset.from_tensor_slices(({"a": [1.0]}, [2])))))
    assert (float(item[0]["a"]), int(item[1]), int(item[2])) == (1.0, 2, 0)


def test_the_number_of_samples_stays_known():
    assert int(with_index(samples()).cardinality()) == 20


STABLE = {
    "plain": samples,
    "map, cache, filter, take and skip": lambda: samples(40).map(lambda x, y: (x, y)).cache().skip(5).take(20),
    "parallel map": lambda: samples().map(lambda x, y: (x, y), num_parallel_calls=4),
    "parallel map asked to keep order": lambda: (
        samples().map(lambda x, y: (x, y), num_parallel_calls=4, deterministic=True).with_options(unordered())
    ),
    "batches taken apart again": lambda: samples().batch(4).map(lambda x, y: (x + 1, y)).unbatch(),
    "batches flattened": lambda: samples().batch(4).flat_map(lambda x, y: tf.data.Dataset.from_tensor_slices((x, y))),
    "interleave": lambda: tf.data.Dataset.range(4).interleave(part, cycle_length=2),
    "parallel interleave": lambda: tf.data.Dataset.range(4).interleave(part, num_parallel_calls=2),
    "concatenated": lambda: samples(12).concatenate(samples(8)),
    "zipped": lambda: tf.data.Dataset.zip((tf.data.Dataset.range(20), tf.data.Dataset.range(20))),
    "generator": lambda: tf.data.Dataset.from_generator(
        lambda: ((i, i % 3) for i in range(20)), output_signature=(tf.TensorSpec([], tf.int64),) * 2
    ),
}


def unordered():
    options = tf.data.Options()
    options.deterministic = False
    return options


@pytest.mark.slow
@pytest.mark.parametrize("name", STABLE)
def test_data_sets_of_a_fixed_order_get_ids(name):
    dataset = with_index(STABLE[name]())
    first, second = ([tuple(map(float, item)) for item in dataset] for _ in range(2))
    assert first == second
    assert [item[-1] for item in first] == list(range(20))


REFUSED = {
    "shuffled": (lambda: samples().shuffle(20), "shuffled.*before shuffle"),
    "shuffled once": (lambda: samples().shuffle(20, reshuffle_each_iteration=False), "shuffled"),
    "shuffled long ago": (lambda: samples().shuffle(5).map(lambda x, y: (x, y)).prefetch(2).take(9), "shuffled"),
    "files in random order": (
        lambda: tf.data.TFRecordDataset(tf.data.Dataset.list_files(__file__)).map(lambda record: (record, 0)),
        "shuffled",
    ),
    "lines of files in random order": (
        lambda: tf.data.TextLineDataset(tf.data.Dataset.list_files(__file__)).map(lambda line: (line, 0)),
        "shuffled",
    ),
    "one of two zipped is shuffled": (
        lambda: tf.data.Dataset.zip((tf.data.Dataset.range(9), tf.data.Dataset.range(9).shuffle(9))),
        "shuffled",
    ),
    "the second of two concatenated is shuffled": (lambda: samples().concatenate(samples().shuffle(9)), "shuffled"),
    "drawn at random from several": (
        lambda: tf.data.Dataset.sample_from_datasets([samples(), samples()], seed=1),
        "shuffled",
    ),
    "repeated": (lambda: samples().repeat(2), "repeated.*before repeat"),
    "batched": (lambda: samples().batch(4), "batches.*before batch"),
    "batched in parallel": (lambda: samples().batch(4, num_parallel_calls=2).prefetch(1), "batches"),
    "padded batches": (lambda: samples().padded_batch(4), "batches"),
    "batches of batches taken apart once": (lambda: samples().batch(2).unbatch().batch(3), "batches"),
    "parallel map in any order": (
        lambda: samples().map(lambda x, y: (x, y), num_parallel_calls=2, deterministic=False),
        "ParallelMapDataset with deterministic=False",
    ),
    "parallel interleave in any order": (
        lambda: tf.data.Dataset.range(4).interleave(part, num_parallel_calls=2, deterministic=False).prefetch(1),
        "ParallelInterleaveDataset with deterministic=False",
    ),
    "parallel map, options ask for any order": (
        lambda: samples().map(lambda x, y: (x, y), num_parallel_calls=2).with_options(unordered()),
        "ParallelMapDataset with deterministic=False",
    ),
    "parallel interleave, options ask for any order": (
        lambda: tf.data.Dataset.range(4).interleave(part, num_parallel_calls=2).with_options(unordered()),
        "ParallelInterleaveDataset with deterministic=False",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_sets_without_a_fixed_order_are_refused(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"dataset: .*{words}"):
        with_index(make())


def test_elements_that_are_no_tuples_are_refused():
    with pytest.raises(TypeError, match=r"dataset: elements are TensorSpec.*want tuples"):
        with_index(tf.data.Dataset.range(3))
    with pytest.raises(ValueError, match="have a 'sample_id' already"):
        with_index(tf.data.Dataset.from_tensor_slices({"x": [1], "sample_id": [7]}))
    with pytest.raises(TypeError, match=r"dataset: list, want a tf\.data\.Dataset"):
        with_index([(1, 2)])


def test_workers_share_elements_and_not_files():
    dataset = with_index(samples()).shuffle(20).batch(4)
    policy = dataset.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA
