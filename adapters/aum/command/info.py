"""`aum info`: what is in the folder of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from aum.command.errors import InputError
from aum.command.printer import print_table, say
from aum.command.shards import load_totals, read_run
from aum.command.text import counted, number

if TYPE_CHECKING:
    import argparse

    from aum_core import Totals

__all__ = ["run"]


def run(options: argparse.Namespace) -> None:
    """Do what `aum info` was asked to do."""
    path = Path(options.run_folder)
    if path.is_file():
        _print_shards([path])
        return
    if not path.is_dir():
        raise InputError(f"{path}: not there, want the folder of a run or a file of totals")
    description, shards = read_run(path), sorted(path.glob("totals*.npz"))
    if not description and not shards and not _parts(path):
        raise InputError(f"{path}: has no run.json, no totals*.npz and no records, want the folder of a run")
    for name, value in _lines(description).items():
        say(f"{name:<14}{value}")
    if shards:
        _print_shards(shards)
    _print_files(path)


def _lines(run: dict[str, Any]) -> dict[str, str]:
    """What ``run.json`` says, by the name of the line."""
    lines = {
        "job": run.get("job", "training") if run else "unfinished: no run.json",
        "made by": ", ".join(f"{run[name]}" for name in ("framework", "aum_version") if name in run),
        "samples": _whole(run.get("samples")),
        "measurements": _whole(run.get("measurements")) + _per_sample(run.get("measurements_per_sample")),
        "left out": _whole(run.get("left_out")),
        "options": ", ".join(f"{name} {value}" for name, value in run.get("options", {}).items()),
        "classes": _whole(run.get("num_classes")),
        "cut-off": _cut(run.get("cut")),
        "processes": _whole(len(run["per_rank"])) if "per_rank" in run else "",
        "merged of": counted(len(run["shards"]), "shard") if "shards" in run else "",
        "forced": "; ".join(run.get("forced", [])),
    }
    return {name: value for name, value in lines.items() if value}


def _whole(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _per_sample(found: dict[str, int] | None) -> str:
    if not found:
        return ""
    if found["min"] == found["max"]:
        return f" ({found['min']} of each sample)"
    most = f"{found['usual']} of most samples, {found['unusual_samples']:,} samples have another number"
    return f" ({found['min']} to {found['max']} of a sample; {most})"


def _cut(cut: dict[str, Any] | None) -> str:
    if not cut:
        return ""
    below = f"AUM below {', '.join(map(number, cut['cutoffs']))}: " if "cutoffs" in cut else ""
    return f"{below}{cut['flagged']:,} samples flagged ({cut['rule']})"


def _print_shards(paths: list[Path]) -> None:
    totals = [load_totals(path) for path in paths]
    say()
    print_table(
        {
            "totals": [path.name for path in paths],
            "samples": [f"{len(each):,}" for each in totals],
            "measurements": [f"{each.measurements:,}" for each in totals],
            "left out": [f"{each.left_out:,}" for each in totals],
            "ids": [_kind(each) for each in totals],
        },
        left=["totals", "ids"],
    )


def _kind(totals: Totals) -> str:
    ids = totals.sample_ids
    if not len(ids):
        return "none"
    if ids.dtype != object:
        return f"ints, {ids.min()} to {ids.max()}"
    texts = sum(isinstance(each, str) for each in ids.tolist())
    return "strs" if texts == len(ids) else "ints" if not texts else f"{texts:,} strs, {len(ids) - texts:,} ints"


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "records").glob("*.parquet"))


def _print_files(folder: Path) -> None:
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    parts = _parts(folder)
    if parts:
        files[f"records/ ({counted(len(parts), 'part')})"] = sum(path.stat().st_size for path in parts)
    say()
    print_table({"file": list(files), "size": [*map(decimal, files.values())]}, left=["file"])
