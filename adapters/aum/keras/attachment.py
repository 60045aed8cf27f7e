"""What is put into a model while it is fitted, and taken out again.

In goes a model, out goes the same model: its training step takes the sample ids off each batch, and its `compute_loss`
hands the logits of the step's own forward pass to the measurement. Nothing is added to the loss, to the weights or to
what is saved with the model.
"""

from __future__ import annotations

import functools
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import keras

from aum.keras.inputs import split_batch
from aum.keras.logits import check_one_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aum.keras.state import MarginSums

__all__ = ["Passing", "attach", "build_without_ids", "detach"]

_ABSENT = object()

# torch.compile would lose what is set on a threading.local; replicas in threads are TensorFlow's alone
_ThreadOwn: Any = threading.local if keras.backend.backend() == "tensorflow" else object


class _Now(_ThreadOwn):
    sample_ids: Any = None
    logits: Any = None


class Passing:
    """What passes through the training step.

    Attributes
    ----------
    now : with `sample_ids` and `logits`
        Of the step that is being traced or run in this thread: each replica of a strategy has its own.
    ids_came, measured : bool
        Whether any step had sample ids, and whether it measured them.
    """

    def __init__(self) -> None:
        self.now = _Now()
        self.ids_came = self.measured = False


def attach(model: Any, sums: MarginSums, activation_layer: Any) -> Passing:
    """Have the training step of a model measure its margins.

    Parameters
    ----------
    model : keras.Model
        Compiled; `detach` makes it what it was.
    sums : MarginSums
        Where the margins are added up.
    activation_layer : keras.layers.Layer or None
        The layer whose activation takes the logits; None where the model's output is the logits.

    Returns
    -------
    Passing
        Tells whether the step has seen ids, and measured.
    """
    passing, undo = Passing(), ExitStack()
    # the list, and not an attribute: checkpoints go through the attributes of a model
    model._metrics.append(sums)  # noqa: SLF001 # no public way into a built model
    undo.callback(model._metrics.remove, sums)  # noqa: SLF001 # as above
    replacements = {
        "train_step": _with_ids_aside(model.train_step, passing),
        "test_step": _with_ids_aside(model.test_step, None),
        "compute_loss": _measured_loss(model, passing, sums, activation_layer),
    }
    for name, function in replacements.items():
        undo.callback(_set(model, name, function))
    if activation_layer is not None:
        undo.callback(_keep_input(activation_layer, passing))
    model._aum_attached = undo  # noqa: SLF001 # found by `detach`, whichever callback did this
    model.test_function = None
    model.make_train_function(force=True)
    return passing


def detach(model: Any) -> None:
    """Make a model what it was before `attach`; nothing where nothing is attached."""
    attached = vars(model).pop("_aum_attached", None)
    if attached is not None:
        attached.close()
        model.train_function = model.test_function = None  # they were traced with the measurement inside


def build_without_ids(model: Any) -> None:
    """Have a model that Keras builds from its first batch see that batch without ids."""
    build = model._symbolic_build  # noqa: SLF001 # fit calls it before it tells any callback

    @functools.wraps(build)
    def without_ids(iterator: Any = None, data_batch: Any = None) -> Any:
        if iterator is not None:
            return build(iterator=_batches_without_ids(iterator))
        return build(data_batch=split_batch(data_batch)[1])

    model._symbolic_build = without_ids  # noqa: SLF001 # as above


def _batches_without_ids(iterator: Any) -> Iterator[Any]:
    for begin, end, batches in iterator:
        stripped = (split_batch(batch)[1] for batch in batches)
        yield begin, end, list(stripped) if isinstance(batches, list | tuple) else stripped


def _set(owner: Any, name: str, value: Any) -> Callable[[], None]:
    """Replace an attribute of an instance; the function that undoes it."""
    before = vars(owner).get(name, _ABSENT)
    setattr(owner, name, value)
    if before is _ABSENT:
        return functools.partial(delattr, owner, name)
    return functools.partial(setattr, owner, name, before)


def _with_ids_aside(step: Callable[..., Any], passing: Passing | None) -> Callable[..., Any]:
    """A step of data, or with JAX of state and data, that sees the data without their ids."""

    @functools.wraps(step)
    def without_ids(*arguments: Any) -> Any:
        *state, data = arguments
        sample_ids, data = split_batch(data)
        if passing is None or sample_ids is None:
            return step(*state, data)
        passing.now.sample_ids, passing.ids_came = sample_ids, True
        try:
            return step(*state, data)
        finally:
            passing.now.sample_ids = passing.now.logits = None

    return without_ids


def _measured_loss(model: Any, passing: Passing, sums: MarginSums, activation_layer: Any) -> Callable[..., Any]:
    """The model's `compute_loss`, which within a training step measures what it is given as well."""
    compute_loss, loss = model.compute_loss, model.loss

    @functools.wraps(compute_loss)
    def measured(x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **options: Any) -> Any:
        now = passing.now
        if now.sample_ids is not None:
            logits = y_pred if activation_layer is None else now.logits
            check_one_label(loss, logits)
            sums.measure(logits, y, now.sample_ids)
            passing.measured = True
        return compute_loss(x, y, y_pred, sample_weight, **options)

    return measured


def _keep_input(layer: Any, passing: Passing) -> Callable[[], None]:
    """Have the activation of a layer leave its input in `passing`; the function that undoes it."""
    name = "call" if isinstance(layer, keras.layers.Softmax) else "activation"
    original = getattr(layer, name)

    @functools.wraps(original)  # a model saved in the middle of training is saved with the activation's own name
    def activation(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if passing.now.sample_ids is not None:
            passing.now.logits = inputs
        return original(inputs, *args, **kwargs)

    return _set(layer, name, activation)
