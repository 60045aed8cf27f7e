"""Is `aum.torch` PyPI `aum` 1.0.2 to the bit? Random streams through both, and everything compared.

Compared are the records that every `update` returns and those that are kept (types, order, floats to the bit),
`counts` and `sums`, and the bytes of aum_values.csv and full_aum_records.csv. The reference's order of tied AUMs
depends on the processor: where a ranking has ties, the lines of each tie are compared as a set, and the summary
says in how many streams. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import collections
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import reference

SIDES = ("reference", "ours")
RANKING, RECORDS = "aum_values.csv", "full_aum_records.csv"


def run(side: str, folder: Path, count: int) -> None:
    """Run the streams through one side."""
    folder.mkdir()
    command = reference.command() if side == "reference" else [sys.executable]
    script = Path(__file__).with_name("streams.py")
    with subprocess.Popen(
        [*command, script, folder, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None  # for the type checker
        for line in process.stdout:
            done = int(line) + 1
            if done % 50 == 0 or done == count:
                print(f"{side}: {done} of {count}", file=sys.stderr)
    if process.returncode:
        raise SystemExit(f"{side}: did not run through, see its message above")
    found = (folder / "side.txt").read_text(encoding="utf-8")
    if found != side:
        raise SystemExit(f"want {side}, found {found}: is the other `aum` installed here?")


@dataclass
class Comparison:
    """What a stream showed. `reordered` tells that the rankings agree but for the order of tied AUMs."""

    differences: list[str]
    reordered: bool
    special: list[str]
    num_records: int


def compare(folders: list[Path]) -> Comparison:
    """Compare the two sides' folders of one stream."""
    told: list[dict[str, Any]] = [json.loads((folder / "told.json").read_text(encoding="utf-8")) for folder in folders]
    differences = [name for name in told[0] if told[0][name] != told[1][name]]
    if folders[0].joinpath(RECORDS).read_bytes() != folders[1].joinpath(RECORDS).read_bytes():
        differences.append(RECORDS)
    rankings = [folder / RANKING for folder in folders]
    reordered = rankings[0].read_bytes() != rankings[1].read_bytes()
    if reordered and not same_but_for_ties(rankings[0], rankings[1]):
        differences.append(RANKING)
    return Comparison(differences, reordered, told[0]["special"], len(told[0]["records"]))


def same_but_for_ties(one: Path, other: Path) -> bool:
    """Whether two rankings have the same lines, and the same AUM on each."""
    texts = [path.read_bytes().decode() for path in (one, other)]
    lines = [list(csv.reader(io.StringIO(text, newline=""))) for text in texts]
    aums = [[aum for _, aum in each] for each in lines]
    return aums[0] == aums[1] and sorted(lines[0]) == sorted(lines[1]) and len(texts[0]) == len(texts[1])


def summarize(found: list[Comparison]) -> None:
    """Print what differs, what was compared, and the sum of it in one line."""
    for number, each in enumerate(found):
        if each.differences:
            print(f"stream {number} ({', '.join(each.special)}): different {', '.join(each.differences)}")
    equal = sum(not each.differences for each in found)
    reordered = sum(each.reordered and not each.differences for each in found)
    records = sum(each.num_records for each in found)
    print(
        f"{equal} of {len(found)} streams equal to the bit: records bit-equal, files byte-equal ({records:,} records)"
    )
    print(f"in {reordered} of these, tied AUMs stand in another order in {RANKING}: compared as sets")
    special = collections.Counter(word for each in found for word in each.special)
    print("streams: " + ", ".join(f"{count} with {word}" for word, count in special.most_common()))


def main() -> int:
    """Compare, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=250, metavar="N")
    count = parser.parse_args().streams
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in SIDES:
            run(side, folder / side, count)
        found = [compare([folder / side / f"{number:04}" for side in SIDES]) for number in range(count)]
    summarize(found)
    return int(any(each.differences for each in found))


if __name__ == "__main__":
    raise SystemExit(main())
