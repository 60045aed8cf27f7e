"""Find wrong labels by the Area Under the Margin.

The names of PyPI `aum` 1.0.2 are here, for PyTorch, and load it when they are first used. For another framework
import from its own module: ``aum.torch``, ``aum.jax``, ``aum.tf``, ``aum.keras``, ``aum.sklearn``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aum_core import AUMRecord, __version__

if TYPE_CHECKING:
    from aum.torch import AUMCalculator, DatasetWithIndex

__all__ = ["AUMCalculator", "AUMRecord", "DatasetWithIndex", "__version__"]


def __getattr__(name: str) -> object:
    if name not in ("AUMCalculator", "DatasetWithIndex"):
        raise AttributeError(f"module 'aum' has no attribute {name!r}")
    import aum.torch as adapter  # noqa: PLC0415 # here so that `import aum` loads no framework

    return getattr(adapter, name)
