"""`aum records`: every measurement of one sample, from the parts on disk or from ``full_aum_records.csv``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from aum.errors import InputError
from aum.runs.printed import number, print_table, printable, say, sparkline
from aum_core import AUMRecord
from aum_core.records import RECORD_FIELDS

if TYPE_CHECKING:
    import argparse

    from aum_core.sample_index import SampleId

__all__ = ["show"]


def show(options: argparse.Namespace) -> None:
    """Do what `aum records` was asked to do.

    Raises
    ------
    InputError
        Where the run has no records, or none of this sample.
    """
    folder = Path(options.run_folder)
    records = _find(folder, options.sample_id)
    if not records:
        raise InputError(f"{folder}: sample {options.sample_id!r} was never measured")
    _print(records, options.last)


def _find(folder: Path, text: str) -> list[AUMRecord]:
    if any((folder / "records").glob("*.parquet")):
        return _in_parts(folder, text)
    path = folder / "full_aum_records.csv"
    if path.exists():
        return _in_csv(path, text)
    raise InputError(f"{folder}: no records in it; they are kept by calculators with compressed=False")


def _in_parts(folder: Path, text: str) -> list[AUMRecord]:
    try:
        from aum.parquet import read_records  # noqa: PLC0415 # loads pyarrow
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise InputError("records on disk need pyarrow: pip install pyarrow") from None
    records = read_records(folder)
    for sample_id in _meanings(text):
        try:
            rows = records.trajectory(sample_id).select(RECORD_FIELDS[1:]).to_pylist()
        except KeyError:
            continue
        return [AUMRecord(sample_id=sample_id, **row) for row in rows]
    return []


def _meanings(text: str) -> list[SampleId]:
    """The ids that print as this text: the int first, as most ids are."""
    return [int(text), text] if text.removeprefix("-").isdecimal() and str(int(text)) == text else [text]


def _in_csv(path: Path, text: str) -> list[AUMRecord]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, None)
        if header != list(RECORD_FIELDS):
            raise InputError(f"{path}: first line {header}, want {','.join(RECORD_FIELDS)}")
        try:
            return [_record(line) for line in lines if line and line[0] == text]
        except (ValueError, TypeError):
            raise InputError(f"{path}: line {lines.line_num} is no record") from None


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
            "its logit ": [number(each.other_val) for each in shown],
            "margin": [number(each.margin) for each in shown],
            "AUM": [number(each.aum) for each in shown],
        }
    )
    margins = [each.margin for each in records]
    below = sum(margin < 0 for margin in margins)
    name = printable(str(records[0].sample_id))
    say()
    say(f"sample {name}: AUM {number(records[-1].aum)} after {len(records)} measurements")
    say(f"margins {sparkline(margins)} {number(min(margins))} to {number(max(margins))}, {below} below 0")
