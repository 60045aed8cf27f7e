"""Sample ids that travel beside the inputs, through whatever `fit` takes, and are taken off before the model sees them.

They cannot go any other way: as sample weights they would scale the loss and lose integers above 2**24, and packed into
the labels they would reach every loss and metric.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from aum_core import DatasetWithIndex

__all__ = ["split_batch", "with_ids"]

_IDS, _INPUTS = "aum_sample_ids", "aum_inputs"


def with_ids(x: Any, sample_ids: Any = None) -> Any:
    """Give inputs their sample ids: the rows 0, 1, 2, ... in the order in which the data now stand.

    Parameters
    ----------
    x : array, dict or list of arrays, tf.data.Dataset, keras.utils.PyDataset, or map-style data set
        - Arrays of shape (N, ...) and any dtype, as `fit` takes them: ``model.fit(with_ids(x), y, ...)``.
        - A `tf.data.Dataset` of single samples ``(x, y)``, *before* it is shuffled or batched, since only then is a
          sample's place its own: ``with_ids(dataset).shuffle(1000).batch(32)``.
        - A `keras.utils.PyDataset` whose batch i always holds the same rows, in order.
        - A data set with ``__len__`` and ``__getitem__`` that gives ``(x, y)``, such as those of PyTorch, *before* it
          goes into its loader: ``DataLoader(with_ids(dataset), batch_size=32, shuffle=True)``.
    sample_ids : array of shape (B,), any integer dtype, optional
        Only with arrays: the rows of these inputs, for a generator or a `PyDataset` that shuffles by itself and so
        gives ``(with_ids(x[rows], rows), y[rows])``. Negative ones are padding: left out and counted.

    Returns
    -------
    dict, tf.data.Dataset, keras.utils.PyDataset or map-style data set
        Of the kind of `x`.

    Raises
    ------
    TypeError
        For a loader or a generator: its order is not that of the data.
    ValueError
        For a data set that is shuffled or batched already, a `PyDataset` with an ``on_epoch_end`` of its own, and ids
        that do not go with `x`.

    Examples
    --------
    >>> import numpy as np
    >>> with_ids(np.zeros((3, 2)))["aum_sample_ids"]
    array([0, 1, 2], dtype=int32)
    """
    if isinstance(x, keras.utils.PyDataset):
        adding: Any = _PyDatasetWithIds
    elif hasattr(x, "element_spec"):
        adding = _tf_data_with_ids
    elif all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x)):
        return _arrays_with_ids(x, sample_ids)
    elif hasattr(x, "__getitem__") and hasattr(x, "__len__"):
        adding = _MapStyleWithIds
    else:
        raise TypeError(
            f"x: {type(x).__name__} gives samples in an order of its own; want the data set under it, as in "
            "DataLoader(with_ids(dataset)), or a generator that gives (with_ids(x, rows), y) itself"
        )
    if sample_ids is not None:
        raise ValueError(f"sample_ids: given for a {type(x).__name__}, want them with arrays only")
    return adding(x)


def split_batch(data: Any) -> tuple[Any, Any]:
    """Take the sample ids off a batch; (ids, batch), ids None where there are none."""
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if not isinstance(x, dict) or set(x) != {_IDS, _INPUTS}:
        return None, data
    return x[_IDS], keras.utils.pack_x_y_sample_weight(x[_INPUTS], y, sample_weight)


def _arrays_with_ids(x: Any, sample_ids: Any) -> dict[str, Any]:
    lengths = {leaf.shape[0] for leaf in keras.tree.flatten(x)}
    if len(lengths) != 1:
        raise ValueError(f"x: arrays of {sorted(lengths)} rows, want as many in each")
    (length,) = lengths
    if sample_ids is None:
        sample_ids = np.arange(length, dtype=np.int32)
    elif np.ndim(sample_ids) != 1 or len(sample_ids) != length:
        raise ValueError(f"sample_ids: shape {np.shape(sample_ids)}, want ({length},): one for each row of x")
    return {_IDS: sample_ids, _INPUTS: x}


def _tf_data_with_ids(dataset: Any) -> Any:
    from aum.tf.data import enumerated  # noqa: PLC0415 # TensorFlow is there where its data sets are

    return enumerated(dataset).map(_element_with_ids)


def _element_with_ids(row: Any, element: Any) -> Any:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(element)
    return keras.utils.pack_x_y_sample_weight({_IDS: row, _INPUTS: x}, y, sample_weight)


class _MapStyleWithIds(DatasetWithIndex):
    """A map-style data set whose items carry their row."""

    def __getitem__(self, index: Any) -> Any:
        *item, row = super().__getitem__(index)
        return _element_with_ids(row, tuple(item))


class _PyDatasetWithIds(keras.utils.PyDataset):
    """A `PyDataset` whose batches carry their rows, where batch i always holds the same ones."""

    def __init__(self, dataset: keras.utils.PyDataset) -> None:
        if type(dataset).on_epoch_end is not keras.utils.PyDataset.on_epoch_end:
            raise ValueError(
                f"x: {type(dataset).__name__} has an on_epoch_end, which may move rows to other batches; have its "
                "__getitem__ give (with_ids(x, rows), y) itself"
            )
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset = dataset
        self._batch_size: int | None = None

    @property
    def num_batches(self) -> Any:
        return self._dataset.num_batches

    def __getitem__(self, index: int) -> Any:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(self._dataset[index])
        size = len(keras.tree.flatten(x)[0])
        if self._batch_size is None:
            self._batch_size = size if index == 0 else self._size_of_first()
        if size != self._batch_size and (size > self._batch_size or index != self.num_batches - 1):
            raise ValueError(
                f"x: batch {index} has {size} rows, batch 0 has {self._batch_size}: which rows they are cannot be "
                "known; have its __getitem__ give (with_ids(x, rows), y) itself"
            )
        first = index * self._batch_size
        rows = np.arange(first, first + size, dtype=np.int32)
        return keras.utils.pack_x_y_sample_weight(with_ids(x, rows), y, sample_weight)

    def _size_of_first(self) -> int:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(self._dataset[0])
        return len(keras.tree.flatten(x)[0])
