"""`aum merge`: shards of one training become its totals and its ranking."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aum._ranking import write_ranking
from aum.command.errors import InputError
from aum.command.printer import counted, printable, say
from aum.command.shards import Merged, find_shards, merge_shards
from aum_core import __version__
from aum_core.files.whole import write_json, write_whole_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from aum.command.shards import Shard

__all__ = ["check_free", "checked_merge", "merge", "writing_to"]


def merge(options: argparse.Namespace) -> None:
    """Do what `aum merge` was asked to do.

    Raises
    ------
    InputError
        Where something does not fit; nothing is written then.
    """
    out = Path(options.out)
    check_free(out)
    shards = find_shards(options.runs)
    merged = checked_merge(shards, force=options.force)
    totals = merged.totals
    with writing_to(out), write_whole_folder(out) as folder:
        totals.save(folder / "totals.npz")
        write_ranking(folder / "aum_values.csv", totals.sample_ids, totals.aums)
        write_json(folder / "run.json", _describe(shards, merged))
    counts = {"shard": len(shards), "sample": len(totals), "measurement": totals.measurements}
    say(", ".join(counted(count, noun) for noun, count in counts.items()))
    for objection in merged.objections:
        say(f"Forced: {printable(objection)}")
    say(f"Files in {printable(str(out))}: totals.npz, aum_values.csv, run.json")


def check_free(out: Path) -> None:
    """See that `out` is not there, or an empty folder.

    Raises
    ------
    InputError
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out: {out}: is there already, want a new or an empty folder")


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Make one line of it where the disk is full, say, or a folder cannot be written to.

    Raises
    ------
    InputError
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"--out: {out}: {error.strerror}") from None


def checked_merge(shards: Sequence[Shard], *, force: bool) -> Merged:
    """Merge shards, if nothing speaks against it or that is to be passed over.

    Raises
    ------
    InputError
    """
    merged = merge_shards(shards)
    if merged.objections and not force:
        more = f" (and {len(merged.objections) - 1} more)" if len(merged.objections) > 1 else ""
        raise InputError(f"{merged.objections[0]}{more}; --force adds them up all the same")
    return merged


def _describe(shards: Sequence[Shard], merged: Merged) -> dict[str, Any]:
    totals = merged.totals
    return {
        "job": "merge",
        "aum_version": __version__,
        **_same_in_all(shards),
        "samples": len(totals),
        "measurements": totals.measurements,
        "measurements_per_sample": totals.measurements_per_sample(),
        "left_out": totals.left_out,
        "shards": merged.shards,
        **({"forced": merged.objections} if merged.objections else {}),
    }


def _same_in_all(shards: Sequence[Shard]) -> dict[str, Any]:
    """What the ``run.json`` beside the shards tell alike; there may be none beside some."""
    told = [shard.run for shard in shards if shard.run]
    frameworks = sorted({run["framework"] for run in told if "framework" in run})
    same: dict[str, Any] = {"framework": " and ".join(frameworks)} if frameworks else {}
    for name in ("options", "num_classes"):
        if told and name in told[0] and all(run.get(name) == told[0][name] for run in told):
            same[name] = told[0][name]
    return same
