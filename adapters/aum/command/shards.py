"""Files of totals that belong together: which ones a run has, and what speaks against adding them up."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aum.command.errors import InputError
from aum_core import Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Merged", "Shard", "find_shards", "load_totals", "merge_shards", "read_run"]

_RANK = re.compile(r"totals_rank(\d+)\.npz")
_THRESHOLD_RUN = re.compile(r"totals_run(\d+)\.npz")


@dataclass(frozen=True)
class Shard:
    """A file of totals, and the ``run.json`` beside it ({} where there is none)."""

    path: Path
    run: dict[str, Any]

    @property
    def rank(self) -> int | None:
        """The process that it is of, by its name."""
        found = _RANK.fullmatch(self.path.name)
        return int(found[1]) if found else None

    @property
    def threshold_run(self) -> int | None:
        """The training of `find_mislabeled` that it is of, by its name."""
        found = _THRESHOLD_RUN.fullmatch(self.path.name)
        return int(found[1]) if found else None


@dataclass
class Merged:
    """Totals of several shards, what each had, and what spoke against adding them up."""

    totals: Totals
    shards: list[dict[str, Any]]
    objections: list[str]


def read_run(folder: Path) -> dict[str, Any]:
    """Content of the folder's ``run.json``; {} where there is none.

    Raises
    ------
    InputError
        Where it is damaged.
    """
    path = folder / "run.json"
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged, or not JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not the run.json of a run")
    return content


def find_shards(runs: Sequence[str]) -> list[Shard]:
    """Files of totals that are meant by folders of runs and by single files, in the order given.

    Raises
    ------
    InputError
        Where there is none, or it is not clear which are meant.
    """
    return [Shard(path, read_run(path.parent)) for run in runs for path in _paths(Path(run))]


def _paths(run: Path) -> list[Path]:
    if run.is_file():
        return [run]
    if not run.is_dir():
        raise InputError(f"{run}: not there, want the folder of a run or a file of totals")
    whole, ranks = run / "totals.npz", sorted(run.glob("totals_rank*.npz"), key=_rank_key)
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


def _rank_key(path: Path) -> tuple[int, str]:
    found = _RANK.fullmatch(path.name)
    return (int(found[1]) if found else -1, path.name)


def load_totals(path: Path) -> Totals:
    """Load a file of totals: ``.npz``, or ``.parquet`` as `aum export` writes it.

    Raises
    ------
    InputError
        Where it cannot be read.
    """
    if path.suffix == ".parquet":
        from aum.command.parquet_totals import read_totals  # noqa: PLC0415 # loads pyarrow

        return read_totals(path)
    try:
        return Totals.load(path)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from None


def merge_shards(shards: Sequence[Shard]) -> Merged:
    """Add up shards, one after the other, and note what speaks against it.

    Raises
    ------
    InputError
        Where a file cannot be read.
    """
    merged = Merged(Totals(), [], _objections_to_names(shards) + _objections_to_runs(shards))
    seen: dict[str, Path] = {}
    kinds: dict[bool, Path] = {}
    for shard in shards:
        totals = load_totals(shard.path)
        digest = _digest(shard.path)
        if len(totals):
            if digest in seen:
                merged.objections.append(f"{shard.path} has the same content as {seen[digest]}: it would count twice")
            seen[digest] = shard.path
            kinds.setdefault(totals.sample_ids.dtype == object, shard.path)
        merged.totals.include(totals)
        merged.shards.append(
            {
                "path": str(shard.path),
                "sha256": digest,
                "samples": len(totals),
                "measurements": totals.measurements,
                "left_out": totals.left_out,
            }
        )
    if len(kinds) > 1:
        merged.objections.append(f"sample ids are ints in {kinds[False]} and strs in {kinds[True]}")
    merged.objections += _objections_to_parts(shards, set(seen))
    merged.totals = merged.totals.sorted()
    return merged


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _objections_to_names(shards: Sequence[Shard]) -> list[str]:
    """What the names of the files say: a file twice, a whole with its parts, different trainings, a rank missing."""
    objections = []
    places = [shard.path.resolve() for shard in shards]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        objections.append(f"{twice} is given twice")
    for shard, place in zip(shards, places, strict=True):
        whole = place.with_name("totals.npz")
        if shard.rank is not None and whole in places:
            objections.append(f"{whole} has what {place.name} beside it has: it would count twice")
            break
    runs = {shard.threshold_run for shard in shards}
    if len(runs) > 1:
        objections.append("files of different trainings (totals_run*.npz) are among them")
    ranks = {shard.rank for shard in shards if shard.rank is not None}
    missing = sorted(set(range(max(ranks, default=-1))) - ranks)
    if missing:
        objections.append(f"totals_rank{missing[0]}.npz is missing, where there are others up to rank {max(ranks)}")
    return objections


def _objections_to_runs(shards: Sequence[Shard]) -> list[str]:
    """Where the ``run.json`` beside two shards tell of different things."""
    objections = []
    for name in ("nonfinite", "compressed", "num_classes"):
        told: dict[str, Path] = {}
        for shard in shards:
            known = {**shard.run, **shard.run.get("options", {})}
            if name in known:
                told.setdefault(json.dumps(known[name]), shard.path)
        if len(told) > 1:
            (one, first), (other, second) = list(told.items())[:2]
            objections.append(f"{name} is {one} for {first} and {other} for {second}")
    return objections


def _objections_to_parts(shards: Sequence[Shard], digests: set[str]) -> list[str]:
    """Where one of the shards was merged of others that are given too."""
    return [
        f"{shard.path} was merged of {part['path']} among others, which is given too: it would count twice"
        for shard in shards
        for part in shard.run.get("shards", [])
        if part["sha256"] in digests and shard.path.name == "totals.npz"
    ][:1]
