"""A column of the totals under the ids of its samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aum_core.sample_index import as_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from aum_core.sample_index import SampleId
    from aum_core.totals import Totals

__all__ = ["ByID"]


class ByID(Mapping["SampleId", Any]):
    """One column of the totals as a read-only mapping by sample id, alive as the totals are."""

    def __init__(self, totals: Totals, column: Callable[[Totals], NDArray[Any]]) -> None:
        self._totals, self._column = totals, column

    def __getitem__(self, sample_id: SampleId) -> Any:
        row = int(self._totals.find(as_ids([sample_id]))[0])
        if row < 0:
            raise KeyError(sample_id)
        return self._column(self._totals)[row].item()

    def __iter__(self) -> Iterator[SampleId]:
        return iter(self._totals.sample_ids.tolist())

    def __len__(self) -> int:
        return len(self._totals)

    def __repr__(self) -> str:
        return repr(dict(zip(self, self._column(self._totals).tolist(), strict=True)))
