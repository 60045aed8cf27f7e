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
    find_by_posterior: Any


def _framework(name: str, array: Callable[[Any], Any], adapter: ModuleType) -> Framework:
    dataset = getattr(adapter, "DatasetWithIndex", aum_core.DatasetWithIndex)
    return Framework(name, array, adapter.AUMCalculator, dataset, adapter.find_mislabeled, adapter.find_by_posterior)


def _numpy() -> Framework:
    return _framework("numpy", np.array, aum_core)


def _numpy_read_only() -> Framework:
    def array(values: Any) -> Any:
        copied = np.array(values)
        copied.flags.writeable = False
        return copied

    return _framework("numpy", array, aum_core)


def _torch() -> Framework:
    torch = require("torch")
    import aum.torch as adapter

    def array(values: Any) -> Any:
        return torch.from_numpy(np.array(values))

    return _framework("torch", array, adapter)


def _jax() -> Framework:
    jnp = require("jax").numpy
    import aum.jax as adapter

    return _framework("jax", jnp.asarray, adapter)


def _tensorflow() -> Framework:
    tf = require("tensorflow")
    import aum.tf as adapter

    def array(values: Any) -> Any:
        return tf.constant(np.array(values))

    return _framework("tensorflow", array, adapter)


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


@pytest.fixture
def pyarrow() -> ModuleType:
    """For what is Parquet, and for rankings that it makes fast: not where NumPy is all there is."""
    return require("pyarrow")
