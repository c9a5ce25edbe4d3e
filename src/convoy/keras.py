"""Models of Keras 3, with any of its backends, as a job's model, and back."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final

from convoy.errors import BadInput, not_installed
from convoy.model import fits, frameworks

if find_spec("keras") is None:  # it is not imported here: a job may choose its backend before it does so
    raise not_installed(ModuleNotFoundError("No module named 'keras'"), "keras", extra="keras")

__all__ = ["arrays", "load"]

FIX: Final = "let `model:` of job.yaml name a function that returns convoy.keras.arrays() of the same model"


def arrays(model: Any) -> dict[str, Any]:
    """Return the weights of a Keras model as numpy arrays, in the order of `model.get_weights()`.

    Their names are place and name of each, such as `0/kernel`: the names of layers differ from model to model of one
    process. Moving averages and weights of layers that do not train are among them. Raises `BadInput` for a model that
    has not been built.
    """
    return frameworks.to_arrays({name: weight.value for name, weight in _weights(model).items()})


def load(model: Any, received: Mapping[str, Any]) -> None:
    """Assign the arrays of a task's model to the weights of a Keras model; its optimiser goes on with them.

    Raises `BadInput` for names, shapes or dtypes that are not the model's, before anything is written.
    """
    weights = _weights(model)
    have = {name: (str(weight.dtype), tuple(weight.shape)) for name, weight in weights.items()}
    fits.check(have, received, of="this Keras model", fix=FIX)
    for name, weight in weights.items():
        weight.assign(received[name])


def _weights(model: Any) -> dict[str, Any]:
    if not model.weights:
        raise BadInput(
            f"the Keras model {model.name!r} has no weights",
            why="it has not been built",
            fix="begin it with keras.Input(…), or call model.build(…)",
        )
    return {f"{place}/{weight.name}": weight for place, weight in enumerate(model.weights)}
