"""What the tests of several environments share: the frameworks, and how an absent one is treated."""

from __future__ import annotations

import importlib
import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import aum_core
from aum_core.scores.kinds import SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType


_REQUIRED = os.environ.get("AUM_REQUIRE", "").split(",")
"""What this environment was made for: where it is absent, that is a failure."""

_IMPORTED = {
    "command": ("rich", "sklearn", "pyarrow"),
    "docs": (
        "torch",
        "jax",
        "tensorflow",
        "keras",
        "sklearn",
        "pyarrow",
        "duckdb",
        "dask",
        "matplotlib",
        "PIL",
        "numpydoc",
    ),
    "jax": ("jax", "flax", "optax", "orbax"),
    "keras": ("keras",),
    "parquet": ("pyarrow",),
    "sklearn": ("sklearn",),
    "tf": ("tensorflow",),
    "torch": ("torch", "pyarrow"),
}
"""What the modules of a folder import at their top."""


def _absent(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in _REQUIRED and importlib.util.find_spec(name) is None]


_LEFT_OUT = {folder: absent for folder, names in _IMPORTED.items() if (absent := _absent(names))}
collect_ignore = list(_LEFT_OUT)


def pytest_report_header() -> list[str]:
    """Say which folders are not collected, and for want of what."""
    return [f"left out: tests/{folder}, without {', '.join(absent)}" for folder, absent in _LEFT_OUT.items()]


def require(name: str) -> ModuleType:
    """Import a framework. Where it is absent the test is skipped, but fails in the environment made for it."""
    if name in _REQUIRED:
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


_ADAPTERS = {"aum.torch": "torch", "aum.jax": "jax", "aum.tf": "tensorflow", "aum.keras": "keras"}


@pytest.fixture(params=list(_ADAPTERS))
def adapter(request: pytest.FixtureRequest) -> ModuleType:
    """Each adapter whose searches take a training function."""
    require(_ADAPTERS[request.param])
    return importlib.import_module(request.param)


@pytest.fixture
def pandas() -> ModuleType:
    """For what a pandas user would compare with: it comes with the torch environment."""
    return require("pandas")


@pytest.fixture(scope="session")
def pyarrow() -> ModuleType:
    """For what is Parquet, and for rankings that it makes fast: not where NumPy is all there is."""
    return require("pyarrow")


class Course:
    """The logits of a training: first the truth, then wrong labels by heart. Some samples come twice in an epoch."""

    size, num_classes, num_epochs, batch_size = 240, 4, 6, 32
    scores = tuple(SCORES)

    def __init__(self) -> None:
        generator = np.random.default_rng(3)
        self.truth = generator.integers(0, self.num_classes, self.size)
        self.targets = self.truth.copy()
        self.targets[:40] = (self.targets[:40] + 1) % self.num_classes
        hard = generator.uniform(0.2, 1.0, (self.size, 1))
        truth, given = (np.eye(self.num_classes)[each] for each in (self.truth, self.targets))
        learnt = [
            (4 * (epoch + 1) ** 0.5 * truth + max(0, 6 * (epoch - 3)) * given) for epoch in range(self.num_epochs)
        ]
        noise = generator.normal(0, 0.7, (self.num_epochs, self.size, self.num_classes))
        self.logits = (hard * np.array(learnt) + noise).astype(np.float32)

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any, Any]]:
        """Batches of logits, targets and ids; the last two rows of each are rows of it again."""
        order = np.random.default_rng(epoch).permutation(self.size)
        for rows in np.split(order, range(self.batch_size - 2, self.size, self.batch_size - 2)):
            ids = np.concatenate([rows, rows[:2]])
            yield self.logits[epoch, ids], self.targets[ids], ids.astype(np.int32)

    def measured_by_engine(
        self, folder: Any, scores: Any = scores, epochs: Any = None, **options: Any
    ) -> aum_core.AUMCalculator:
        """The engine's calculator with these scores and the noise posterior, after these epochs."""
        calculator = aum_core.AUMCalculator(folder, scores=scores, noise_posterior=True, **options)
        for epoch in range(self.num_epochs) if epochs is None else epochs:
            for batch in self.epoch(epoch):
                calculator.accumulate(*batch)
            calculator.end_epoch()
        return calculator

    def assert_same(self, found: aum_core.AUMCalculator, expected: aum_core.AUMCalculator) -> None:
        """AUMs, scores and the noise posterior are the same, sample by sample, whatever the order of the rows."""
        rows = found.totals.find(expected.totals.sample_ids)
        np.testing.assert_array_equal(found.totals.counts[rows], expected.totals.counts)
        np.testing.assert_allclose(found.totals.aums[rows], expected.totals.aums, rtol=1e-6, atol=1e-6)
        assert list(found.scores) == list(expected.scores)
        for name, values in expected.scores.items():
            np.testing.assert_allclose(found.scores[name][rows], values, rtol=1e-5, atol=2e-6, err_msg=name)
        np.testing.assert_array_equal(found.scores.labels[rows], expected.scores.labels)
        mine, theirs = found.noise_posterior(), expected.noise_posterior()
        np.testing.assert_allclose(mine.probabilities[rows], theirs.probabilities, atol=1e-4)
        np.testing.assert_array_equal(mine.flagged[rows], theirs.flagged)
        np.testing.assert_array_equal(mine.suggested[rows], theirs.suggested)
        np.testing.assert_allclose(mine.transition, theirs.transition, atol=1e-4)
        told, wanted = found.scores.describe(), expected.scores.describe()
        assert told["averaging_window"].pop("early_noise") == pytest.approx(
            wanted["averaging_window"].pop("early_noise")
        )
        assert told == wanted

    def assert_found(self, findings: aum_core.Findings, folder: Any) -> None:
        """What `find_by_posterior` found is what the engine's noise posterior says of the same logits."""
        engine = self.measured_by_engine(folder, ())
        rows, expected = engine.totals.sample_ids, engine.noise_posterior()
        assert expected.flagged.any()
        np.testing.assert_allclose(findings.aums[rows], engine.totals.aums, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(1 - findings.scores[rows], expected.probabilities, atol=1e-4)
        np.testing.assert_array_equal(findings.flagged[rows], expected.flagged)
        np.testing.assert_array_equal(findings.suggested[rows], expected.suggested)


@pytest.fixture
def course() -> Course:
    """What is measured on a device is held against the engine's measurements of the same logits."""
    return Course()
