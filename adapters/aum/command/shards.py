"""Files of totals: which ones a run has, and what its ``run.json`` tells of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aum.command.errors import InputError, reading
from aum_core import Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Shard", "find_shards", "load_totals", "read_run"]


@dataclass(frozen=True)
class Shard:
    """A file of totals, and the ``run.json`` beside it ({} where there is none)."""

    path: Path
    run: dict[str, Any]

    def number(self, kind: Literal["rank", "run"]) -> int | None:
        """The process ("rank") or the training of `find_mislabeled` ("run") that it is of by its name, if any."""
        found = re.fullmatch(rf"totals_{kind}(\d+)\.npz", self.path.name)
        return int(found[1]) if found else None


def read_run(folder: Path) -> dict[str, Any]:
    """Content of the folder's ``run.json``; {} where there is none."""
    path = folder / "run.json"
    if not path.exists():
        return {}
    with reading(path, "damaged, or not JSON", OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise InputError(f"{path}: not the run.json of a run")
    return content


def find_shards(runs: Sequence[str]) -> list[Shard]:
    """Files of totals that are meant by folders of runs and by single files, in the order given."""
    return [Shard(path, read_run(path.parent)) for run in runs for path in _paths(Path(run))]


def _paths(run: Path) -> list[Path]:
    if run.is_file():
        return [run]
    if not run.is_dir():
        raise InputError(f"{run}: not there, want the folder of a run or a file of totals")
    whole = run / "totals.npz"
    ranks = sorted(run.glob("totals_rank*.npz"), key=lambda path: (len(path.name), path.name))  # 10 comes after 9
    if whole.exists() and ranks and len(read_run(run).get("per_rank", [])) != len(ranks):
        raise InputError(
            f"{run}: has totals.npz and {len(ranks)} files totals_rank*.npz, of which its run.json does not say that "
            "they belong together; name the files that are meant"
        )
    if whole.exists() or ranks:
        return [whole] if whole.exists() else ranks
    if any(run.glob("totals_run*.npz")):
        raise InputError(
            f"{run}: has the trainings of find_mislabeled, which are judged one by one: see its flagged.csv and "
            "aum_values.csv; or name one totals_run*.npz"
        )
    raise InputError(f"{run}: has no totals.npz or totals_rank*.npz")


def load_totals(path: Path) -> Totals:
    """Load a file of totals: ``.npz``, or ``.parquet`` as `aum export` writes it."""
    if path.suffix == ".parquet":
        from aum.command.parquet_totals import read_totals  # noqa: PLC0415 # loads pyarrow

        return read_totals(path)
    try:
        return Totals.load(path)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from None
