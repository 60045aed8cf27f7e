"""`aum records`: every measurement of one sample, from the parts on disk or from ``full_aum_records.csv``."""

from __future__ import annotations

import csv
import math
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aum.command.errors import InputError, reading
from aum.command.printer import can_show, print_table, say
from aum.command.text import BARS, counted, number, sparkline
from aum_core import AUMRecord
from aum_core.records import RECORD_FIELDS

if TYPE_CHECKING:
    import argparse

    from aum_core.ids import SampleId

__all__ = ["run"]


def run(options: argparse.Namespace) -> None:
    """Do what `aum records` was asked to do."""
    folder = Path(options.run_folder)
    found = _find(folder, options.sample_id, as_str=options.str)
    if not found:
        raise InputError(f"{folder}: sample {options.sample_id!r} was never measured")
    _print(found[0], options.last)
    if len(found) > 1:
        say(f"{options.sample_id!r} is there as a str, too: --str shows it")


def _find(folder: Path, text: str, *, as_str: bool) -> list[list[AUMRecord]]:
    """The records of each sample whose id reads like this: of the int first, as most ids are."""
    if not folder.is_dir():
        raise InputError(f"{folder}: not there, want the folder of a run")
    if any((folder / "records").glob("*.parquet")):
        return _in_parts(folder, [text] if as_str else _meanings(text))
    path = folder / "full_aum_records.csv"
    if not path.exists():
        raise InputError(f"{folder}: no records in it; they are kept by calculators with compressed=False")
    found = _in_csv(path, text)
    return found[-1:] if as_str else found


def _in_parts(folder: Path, sample_ids: list[SampleId]) -> list[list[AUMRecord]]:
    from aum.parquet import read_records  # noqa: PLC0415 # loads pyarrow

    found = []
    with reading(folder, "its records cannot be read", OSError, ValueError):  # pyarrow's own are of these
        records = read_records(folder)
        for sample_id in sample_ids:
            with suppress(KeyError):  # it was never measured
                rows = records.trajectory(sample_id).select(RECORD_FIELDS[1:]).to_pylist()
                found.append([AUMRecord(sample_id=sample_id, **row) for row in rows])
    return found


def _meanings(text: str) -> list[SampleId]:
    """The ids that print as this text."""
    try:
        whole = int(text)
    except ValueError:
        return [text]
    return [whole, text] if str(whole) == text else [text]


def _in_csv(path: Path, text: str) -> list[list[AUMRecord]]:
    """Of an int and of a str that read alike, which the file does not tell apart but has one after the other."""
    found: list[list[AUMRecord]] = []
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, None)
        if header != list(RECORD_FIELDS):
            raise InputError(f"{path}: first line {header}, want {','.join(RECORD_FIELDS)}")
        try:
            for record in (_record(line) for line in lines if line and line[0] == text):
                if not found or record.num_measurements <= found[-1][-1].num_measurements:
                    found.append([])
                found[-1].append(record)
        except (ValueError, TypeError):
            raise InputError(f"{path}: line {lines.line_num} is no record") from None
    return found


def _record(line: list[str]) -> AUMRecord:
    sample_id, times, target, target_val, other, other_val, margin, aum = line
    values = [float(cell or "nan") for cell in (target_val, other_val, margin, aum)]
    return AUMRecord(sample_id, int(times), int(target), values[0], int(other), values[1], values[2], values[3])


def _print(records: list[AUMRecord], last: int | None) -> None:
    shown = records[-last:] if last else records
    print_table(
        {
            "measurement": [str(each.num_measurements) for each in shown],
            "label": [str(each.target_logit) for each in shown],
            "its logit": [number(each.target_val) for each in shown],
            "best other": [str(each.other_logit) for each in shown],
            "other's logit": [number(each.other_val) for each in shown],
            "margin": [number(each.margin) for each in shown],
            "AUM": [number(each.aum) for each in shown],
        }
    )
    margins = [each.margin for each in records]
    bars = BARS if can_show(BARS) else "12345678"
    say()
    say(f"sample {records[0].sample_id}: AUM {number(records[-1].aum)} after {counted(len(records), 'measurement')}")
    say(f"margins {sparkline(margins, bars=bars)} {_range(margins)}")


def _range(margins: list[float]) -> str:
    """Say between which values those are that are finite, and how many are not."""
    finite = [margin for margin in margins if math.isfinite(margin)]
    words = [f"{number(min(finite))} to {number(max(finite))}"] if finite else []
    words.append(f"{sum(margin < 0 for margin in margins)} below 0")
    if len(finite) < len(margins):
        words.append(f"{len(margins) - len(finite)} not finite")
    return ", ".join(words)
