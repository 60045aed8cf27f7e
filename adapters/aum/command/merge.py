"""`aum merge`: shards of one training become its totals and its ranking."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aum._ranking import write_ranking
from aum.command.errors import InputError, writing_to
from aum.command.printer import say
from aum.command.shards import find_shards, load_totals
from aum.command.text import counted
from aum_core import Totals
from aum_core._version import RUN_FORMAT, __version__
from aum_core.files.whole import write_json, write_whole_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from aum.command.shards import Shard

__all__ = ["Merged", "add_up", "check_free", "run"]


@dataclass
class Merged:
    """Totals of several shards, what each had, and what spoke against adding them up."""

    totals: Totals
    shards: list[dict[str, Any]]
    objections: list[str]


def run(options: argparse.Namespace) -> None:
    """Do what `aum merge` was asked to do."""
    out = Path(options.out)
    check_free(out)
    shards = find_shards(options.runs)
    merged = add_up(shards, force=options.force)
    totals = merged.totals
    with writing_to(out), write_whole_folder(out) as folder:
        totals.save(folder / "totals.npz")
        write_ranking(folder / "aum_values.csv", totals.sample_ids, totals.aums)
        write_json(folder / "run.json", _description(shards, merged))
    counts = {"shard": len(shards), "sample": len(totals), "measurement": totals.measurements}
    say(", ".join(counted(count, noun) for noun, count in counts.items()))
    for objection in merged.objections:
        say(f"Forced: {objection}")
    say(f"Files in {out}: totals.npz, aum_values.csv, run.json")


def check_free(out: Path) -> None:
    """See that `out` is not there, or an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out: {out}: is there already, want a new or an empty folder")


def add_up(shards: Sequence[Shard], *, force: bool) -> Merged:
    """Add up shards, one after the other, if nothing speaks against it or that is to be passed over."""
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
        merged.shards.append({"path": str(shard.path), "sha256": digest, **_counts(totals)})
    if len(kinds) > 1:
        merged.objections.append(f"sample ids are ints in {kinds[False]} and strs in {kinds[True]}")
    merged.objections += _objections_to_parts(shards, set(seen))
    if merged.objections and not force:
        more = f" (and {len(merged.objections) - 1} more)" if len(merged.objections) > 1 else ""
        raise InputError(f"{merged.objections[0]}{more}; --force adds them up all the same")
    merged.totals = merged.totals.sorted()
    return merged


def _counts(totals: Totals) -> dict[str, int]:
    return {"samples": len(totals), "measurements": totals.measurements, "left_out": totals.left_out}


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
        if shard.number("rank") is not None and whole in places:
            objections.append(f"{whole} has what {place.name} beside it has: it would count twice")
            break
    if len({shard.number("run") for shard in shards}) > 1:
        objections.append("files of different trainings (totals_run*.npz) are among them")
    ranks = {rank for shard in shards if (rank := shard.number("rank")) is not None}
    missing = sorted(set(range(max(ranks, default=-1))) - ranks)
    if missing:
        objections.append(f"totals_rank{missing[0]}.npz is missing, where there are others up to rank {max(ranks)}")
    return objections


def _objections_to_runs(shards: Sequence[Shard]) -> list[str]:
    """Where the ``run.json`` beside two shards tell of different things."""
    objections = []
    for name in ("nonfinite", "compressed", "num_classes"):
        found: dict[str, Path] = {}
        for shard in shards:
            known = {**shard.run, **shard.run.get("options", {})}
            if name in known:
                found.setdefault(json.dumps(known[name]), shard.path)
        if len(found) > 1:
            (one, first), (other, second) = list(found.items())[:2]
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


def _description(shards: Sequence[Shard], merged: Merged) -> dict[str, Any]:
    """What ``run.json`` says of the merged run."""
    return {
        "format": RUN_FORMAT,
        "job": "merge",
        "aum_version": __version__,
        **_same_in_all(shards),
        **_counts(merged.totals),
        "measurements_per_sample": merged.totals.measurements_per_sample(),
        "shards": merged.shards,
        **({"forced": merged.objections} if merged.objections else {}),
    }


def _same_in_all(shards: Sequence[Shard]) -> dict[str, Any]:
    """What the ``run.json`` beside the shards say alike; there may be none beside some."""
    runs = [shard.run for shard in shards if shard.run]
    frameworks = sorted({run["framework"] for run in runs if "framework" in run})
    same: dict[str, Any] = {"framework": " and ".join(frameworks)} if frameworks else {}
    for name in ("options", "num_classes"):
        if runs and name in runs[0] and all(run.get(name) == runs[0][name] for run in runs):
            same[name] = runs[0][name]
    return same
