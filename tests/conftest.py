"""What the tests of several environments share: the frameworks, and how an absent one is treated."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aum_core

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def require(name: str) -> ModuleType:
    """Import a framework. Where it is absent the test is skipped, but fails in the environment made for it."""
    if name in os.environ.get("AUM_REQUIRE", "").split(","):
        return importlib.import_module(name)
    return pytest.importorskip(name)


@dataclass(frozen=True)
class Framework:
    """One framework as the shared tests see it."""

    name: str
    array: Callable[[Any], Any]
    AUMCalculator: Any
    DatasetWithIndex: Any
    find_mislabeled: Any


def _numpy() -> Framework:
    return Framework("numpy", np.array, aum_core.AUMCalculator, aum_core.DatasetWithIndex, aum_core.find_mislabeled)


def _numpy_read_only() -> Framework:
    def array(values: Any) -> Any:
        copied = np.array(values)
        copied.flags.writeable = False
        return copied

    return Framework("numpy", array, aum_core.AUMCalculator, aum_core.DatasetWithIndex, aum_core.find_mislabeled)


def _torch() -> Framework:
    torch = require("torch")
    import aum.torch as adapter

    def array(values: Any) -> Any:
        return torch.from_numpy(np.array(values))

    return Framework("torch", array, adapter.AUMCalculator, adapter.DatasetWithIndex, adapter.find_mislabeled)


def _jax() -> Framework:
    jnp = require("jax").numpy
    import aum.jax as adapter

    return Framework("jax", jnp.asarray, adapter.AUMCalculator, adapter.DatasetWithIndex, adapter.find_mislabeled)


def _tensorflow() -> Framework:
    tf = require("tensorflow")
    import aum.tf as adapter

    def array(values: Any) -> Any:
        return tf.constant(np.array(values))

    return Framework("tensorflow", array, adapter.AUMCalculator, aum_core.DatasetWithIndex, adapter.find_mislabeled)


_FRAMEWORKS = {
    "numpy": _numpy,
    "numpy-read-only": _numpy_read_only,
    "torch": _torch,
    "jax": _jax,
    "tensorflow": _tensorflow,
}


@pytest.fixture(params=list(_FRAMEWORKS))
def framework(request: pytest.FixtureRequest) -> Framework:
    """Each framework in turn."""
    return _FRAMEWORKS[request.param]()


@pytest.fixture
def pandas() -> ModuleType:
    """For what a pandas user would compare with: it comes with the torch environment."""
    return require("pandas")
