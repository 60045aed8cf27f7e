"""Positions of the elements of a `tf.data.Dataset` as sample ids, where its order is fixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf  # noqa: TID251 # a part of aum.tf

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["enumerated", "with_index"]


def with_index(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Give each element of a `tf.data.Dataset` its position, as its sample id.

    Call it on the data set of single samples *before* ``shuffle``, ``repeat`` and ``batch``. A position is an id only
    where it means the same sample in every epoch; after a shuffle it does not, and AUMs would be those of nobody.
    A data set is refused where it can be seen that it was shuffled, repeated or batched, or that a parallel step of
    it may give its elements in any order. What cannot be seen is up to the caller: shuffling inside a generator or
    inside a function given to ``flat_map`` or ``interleave``; a random ``filter``; and ``options.deterministic =
    False`` set on the result, which reaches back to parallel steps before the index.

    Parameters
    ----------
    dataset : tf.data.Dataset
        Of tuples such as (features, target), or of mappings.

    Returns
    -------
    tf.data.Dataset
        Tuples have the id as their last element, mappings under the key ``"sample_id"``; int64, shape (). Where
        several workers share it, each takes its part of the elements, ids and all (``AutoShardPolicy.DATA``). Not for
        ``model.fit``, which takes a third element for sample weights.

    Raises
    ------
    TypeError
        Where it is no `tf.data.Dataset`, or its elements are neither tuples nor mappings.
    ValueError
        Where the order of its elements is not fixed, its elements are batches, or a mapping has a ``"sample_id"``.

    Examples
    --------
    >>> import tensorflow as tf
    >>> dataset = tf.data.Dataset.from_tensor_slices(([10.0, 20.0, 30.0], [0, 1, 0]))
    >>> dataset = with_index(dataset).shuffle(3, seed=0).batch(3)
    >>> for features, targets, sample_ids in dataset:
    ...     assert (features == 10.0 * tf.cast(sample_ids + 1, tf.float32)).numpy().all()
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(f"dataset: {type(dataset).__name__}, want a tf.data.Dataset")
    _check_element(dataset.element_spec)
    return enumerated(dataset).map(_appended)


def enumerated(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Give (position, element) for each element, where positions are ids: see `with_index`."""
    _check_order(dataset)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.enumerate().with_options(options)


def _appended(sample_id: Any, element: Any) -> Any:
    return {**element, "sample_id": sample_id} if isinstance(element, Mapping) else (*element, sample_id)


def _check_element(element: Any) -> None:
    if isinstance(element, Mapping):
        if "sample_id" in element:
            raise ValueError("dataset: its elements have a 'sample_id' already: use that, or rename it")
    elif not isinstance(element, tuple):
        raise TypeError(f"dataset: elements are {element}, want tuples like (features, target) or mappings")


def _check_order(dataset: Any) -> None:
    any_order = dataset.options().deterministic is False
    for step, single in _steps(dataset):
        name = type(step).__name__
        if "Shuffle" in name or "Random" in name:
            raise ValueError("dataset: it is shuffled, so that positions are no ids; want the ids added before shuffle")
        if "Repeat" in name:
            raise ValueError("dataset: it is repeated, each time with other ids; want the ids added before repeat")
        if "Parallel" in name and _deterministic(step) in (("false", "default") if any_order else ("false",)):
            raise ValueError(
                f"dataset: {name.strip('_')} with deterministic=False gives its elements in any order; want "
                "deterministic=True in what comes before the ids"
            )
        if single and "Batch" in name:
            raise ValueError("dataset: its elements are batches, want the ids added before batch, or unbatch() first")


def _steps(dataset: Any, single: bool = True) -> Iterator[tuple[Any, bool]]:
    """All steps of a pipeline, the last first, and whether an element of each is an element of the result."""
    yield dataset, single
    single = single and not type(dataset).__name__.strip("_").startswith(("Unbatch", "FlatMap"))
    single = single and "Interleave" not in type(dataset).__name__
    inputs = dataset._inputs()  # noqa: SLF001 # nothing public tells what a data set is made of
    if not inputs and isinstance(getattr(dataset, "_filenames", None), tf.data.Dataset):
        inputs = [dataset._filenames]  # noqa: SLF001 # as above: of lines of text
    for each in inputs:
        yield from _steps(each, single)


def _deterministic(step: Any) -> str:
    """``"true"``, ``"false"`` or ``"default"``: what was asked of a parallel step."""
    if hasattr(step, "_deterministic"):
        return str(step._deterministic)  # noqa: SLF001 # nothing public tells
    # a parallel interleave keeps it in its operation alone; it is made of file names as a rule, so its graph is small
    ignore_state = 1
    variant = tf.data.experimental.to_variant(step)
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=ignore_state)
    nodes = tf.compat.v1.GraphDef.FromString(graph.numpy()).node
    asked = [each.attr["deterministic"].s.decode() for each in nodes if each.op.startswith("ParallelInterleave")]
    return asked[-1] if asked else "default"
