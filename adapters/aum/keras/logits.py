"""Where the logits are to be seen: in the model's output, or going into the activation of its last layer.

A softmax saturates: of probabilities that round to 1 and 0 no logarithm brings the margin back. So the input of the
activation is kept as it passes, which costs nothing.
"""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["check_one_label", "find_activation", "find_num_classes"]

_PROBABILITY_LOSSES = (
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "binary_crossentropy",
    "categorical_focal_crossentropy",
    "binary_focal_crossentropy",
)


def find_activation(model: Any, from_logits: bool | None, output_layer: Any) -> Any:
    """Give the layer whose activation makes probabilities of the logits; None where the model's output is the logits.

    Raises
    ------
    ValueError
        Where loss, last layer and options do not tell, or contradict each other.
    """
    layer = output_layer or _last_layer(model)
    is_softmax = layer is not None and _makes_probabilities(layer)
    if from_logits is None:
        from_logits = _loss_takes_logits(model.loss)
        if from_logits is None and layer is not None:
            from_logits = not is_softmax
        if from_logits and is_softmax:
            raise ValueError(
                f"from_logits: the loss {_name(model.loss)} takes logits, but the layer {layer.name!r} gives "
                "probabilities; mend the one or the other, or say which by from_logits=True or False"
            )
    if from_logits is None:
        raise ValueError(
            f"from_logits: neither the loss {_name(model.loss)} nor the model tells whether the output is logits; want "
            "from_logits=True, or from_logits=False and output_layer=the layer with the softmax"
        )
    if from_logits:
        return None
    if not is_softmax:
        raise ValueError(
            f"output_layer: the loss {_name(model.loss)} takes probabilities, but no layer with a softmax or sigmoid "
            "could be told as the one that makes them; want output_layer=that layer, or from_logits=True if the output "
            "is logits"
        )
    return layer


def find_num_classes(model: Any) -> int:
    """Give C, as the shape of the model's output tells it.

    Raises
    ------
    ValueError
        Where it does not, as with subclassed models.
    """
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or not shape or not isinstance(shape[-1], int):
        raise ValueError(
            "num_classes: the model does not tell how many outputs it has, and the noise posterior needs to know; "
            "want AUMCallback(..., num_classes=C)"
        )
    return max(shape[-1], 2)  # one output is a binary model's


def check_one_label(loss: Any, y_pred: Any) -> None:
    """Refuse several outputs, and yes or no to each of several labels: there a sample has no one class."""
    if isinstance(y_pred, list | tuple | dict):
        raise ValueError(  # noqa: TRY004 # its number is wrong
            "y_pred: the model has several outputs, want one with the logits of each class, (B, C)"
        )
    if _name(loss).startswith("binary") and len(y_pred.shape) == 2 and y_pred.shape[1] != 1:
        raise ValueError(
            f"loss: {_name(loss)} of {y_pred.shape[1]} outputs lets a sample have several labels, want one class per "
            "sample: a categorical crossentropy, or one output for two classes"
        )


def _makes_probabilities(layer: Any) -> bool:
    if isinstance(layer, keras.layers.Softmax):
        return True
    activation = getattr(layer, "activation", None)
    return activation in {keras.activations.softmax, keras.activations.sigmoid}


def _loss_takes_logits(loss: Any) -> bool | None:
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    from_logits: bool | None = getattr(loss, "from_logits", None)
    if from_logits is None and getattr(loss, "__name__", None) in _PROBABILITY_LOSSES:
        return False
    return from_logits


def _last_layer(model: Any) -> Any:
    """The layer that makes the output; of a subclassed model the only one that makes probabilities. None if unknown."""
    if isinstance(model, keras.Sequential) and model.layers:
        last = model.layers[-1]
    elif hasattr(model, "output_names") and len(model.output_names) == 1:
        last = model.get_layer(model.output_names[0])
    else:
        candidates = [layer for layer in _all_layers(model) if _makes_probabilities(layer)]
        last = candidates[0] if len(candidates) == 1 else None
    return _last_layer(last) if isinstance(last, keras.Model) else last


def _all_layers(layer: Any) -> Any:
    for each in getattr(layer, "layers", []):
        yield each
        yield from _all_layers(each)


def _name(loss: Any) -> str:
    if isinstance(loss, str):
        return loss
    return getattr(loss, "name", None) or getattr(loss, "__name__", None) or repr(loss)
