"""Variables that each replica adds to on its own, and that are read as the sum over all of them.

In come rows to add, out go NumPy arrays. It knows shapes and places, and not what the numbers mean.
"""

from __future__ import annotations

import io
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf  # noqa: TID251 # a part of aum.tf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ReplicaSums", "require_eager"]


class ReplicaSums(tf.train.experimental.PythonState):  # type: ignore[misc] # TensorFlow ships no types
    """Variables by name, all of zeros at first; a checkpoint has their sums over all replicas, exactly.

    Not a `tf.Module`, whose variables a checkpoint would restore itself: it gives each of R replicas 1/R of a sum, and
    1/R of an int64 count is truncated.

    Parameters
    ----------
    variables : mapping of name to (shape, dtype)
        With ``"total"``, whose shape is (N,).
    """

    def __init__(self, variables: Mapping[str, tuple[tuple[int, ...], Any]]) -> None:
        self._strategy = tf.distribute.get_strategy()
        self.variables = {name: _variable(name, shape, dtype) for name, (shape, dtype) in variables.items()}
        self._zero = self._on_all_replicas(self._zero_replica)

    def check_replica(self) -> None:
        """Refuse an update where it would not count, or count twice."""
        if tf.distribute.get_strategy() is not self._strategy:
            raise ValueError(
                f"update: under {type(tf.distribute.get_strategy()).__name__}, but the state was made under "
                f"{type(self._strategy).__name__}; make it inside strategy.scope(), update it inside strategy.run"
            )
        if tf.distribute.in_cross_replica_context():
            raise ValueError("update: outside the replicas, want it inside the function that strategy.run runs")

    def add(self, name: str, places: tf.Tensor, counted: tf.Tensor, values: tf.Tensor) -> None:
        """Add values (B,) or (B, D) of the rows that are counted (B,) at places (B, 1), without a look at others."""
        variable = self.variables[name]
        counted = counted if len(values.shape) == 1 else counted[:, tf.newaxis]
        # an index out of range raises on a CPU and is dropped elsewhere: rows that do not count add 0 to sample 0
        updates = tf.where(counted, tf.cast(values, variable.dtype), tf.zeros([], variable.dtype))
        # by its handle a variable of a strategy is the replica's own; its methods refuse to scatter
        tf.raw_ops.ResourceScatterNdAdd(ref=variable.handle, indices=places, updates=updates)

    def read(self, name: str) -> Any:
        """Give the sum of a variable over the replicas, as a NumPy array."""
        return self.variables[name].numpy()

    def zero(self) -> None:
        """Begin anew."""
        self._zero()

    def serialize(self) -> bytes:
        """Give the sums, as a checkpoint asks for them."""
        if not tf.executing_eagerly():  # of a model that is exported with a state in it: no values are asked for
            return b""
        file = io.BytesIO()
        np.savez(file, **{name: self.read(name) for name in self.variables})
        return file.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        """Take the sums of a checkpoint over; a ValueError changes nothing."""
        with np.load(io.BytesIO(string_value), allow_pickle=False) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        size = self.variables["total"].shape[0]
        if len(values["total"]) != size:
            raise ValueError(
                f"checkpoint: it has a state of {len(values['total'])} samples, want one of num_samples={size}"
            )
        found = {name: value.shape for name, value in values.items()}
        wanted = {name: tuple(variable.shape) for name, variable in self.variables.items()}
        # it may have more: sums that the noise posterior has seen enough of by now
        if {name: found.get(name) for name in wanted} != wanted:
            raise ValueError(f"checkpoint: it has sums of shapes {found}, want {wanted}: the same scores and classes")
        self._on_all_replicas(self._assign_replica)(args=({name: tf.constant(values[name]) for name in wanted},))

    def _on_all_replicas(self, function: Callable[..., None]) -> Callable[..., Any]:
        """Have all replicas run a function; in a `tf.function`, since a strategy warns of what it runs eagerly."""
        on_all: Callable[..., Any] = tf.function(partial(self._strategy.run, function), autograph=False)
        return on_all

    def _zero_replica(self) -> None:
        for variable in self.variables.values():
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def _assign_replica(self, values: Mapping[str, Any]) -> None:
        """Give the first replica these values, and the others zeros."""
        first = tf.equal(tf.distribute.get_replica_context().replica_id_in_sync_group, 0)
        for name, value in values.items():
            self.variables[name].assign(tf.where(first, value, 0))


def require_eager(method: str) -> None:
    """Make an error of a call inside a `tf.function`, where it would do its work once, while it is traced."""
    if not tf.executing_eagerly():
        raise TypeError(
            f"{method}: called inside a tf.function, where tensors have no values and Python runs only once; "
            "inside use aum.tf.AUMState(num_samples).update(...), and its to_totals() outside"
        )


def _variable(name: str, shape: tuple[int, ...], dtype: Any) -> tf.Variable:
    # outside a strategy these two mean nothing; inside, the defaults count wrongly and say nothing
    return tf.Variable(
        tf.zeros(shape, dtype),
        trainable=False,
        name=name,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.SUM,
    )
