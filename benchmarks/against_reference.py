"""Is `aum.torch` PyPI `aum` 1.0.2 to the bit? Random streams through both, and everything compared.

Compared are the records that every `update` returns (types, order, floats to the bit), `counts` and `sums`, and the
bytes of aum_values.csv and full_aum_records.csv. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import reference

SIDES = ("reference", "ours")
FILES = ("aum_values.csv", "full_aum_records.csv")


def run(side: str, folder: Path, count: int) -> None:
    """Run the streams through one side."""
    folder.mkdir()
    command = reference.command() if side == "reference" else [sys.executable]
    script = Path(__file__).with_name("streams.py")
    with subprocess.Popen([*command, script, folder, str(count)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101 # for the type checker
        for line in process.stdout:
            done = int(line) + 1
            if done % 50 == 0 or done == count:
                print(f"{side}: {done} of {count}", file=sys.stderr)
    if process.returncode or (folder / "side.txt").read_text() != side:
        raise SystemExit(f"the {side} did not run through")


def differences(folders: list[Path]) -> list[str]:
    """What differs between the two sides' folders of one stream."""
    told = [json.loads((folder / "told.json").read_text()) for folder in folders]
    found = [name for name in told[0] if told[0][name] != told[1][name]]
    return found + [
        name for name in FILES if folders[0].joinpath(name).read_bytes() != folders[1].joinpath(name).read_bytes()
    ]


def main() -> int:
    """Compare, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=250, metavar="N")
    count = parser.parse_args().streams
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in SIDES:
            run(side, folder / side, count)
        kinds: collections.Counter[str] = collections.Counter()
        equal = records = 0
        for number in range(count):
            pair = [folder / side / f"{number:04}" for side in SIDES]
            found = differences(pair)
            if found:
                print(f"stream {number}: different {', '.join(found)}")
            told = json.loads((pair[0] / "told.json").read_text())
            kinds[told["kind"]] += not found
            records += sum(len(returned) for _, returned in told["updates"])
            equal += not found
    print(f"{equal} of {count} streams equal to the bit, with {records:,} records: {dict(kinds)}")
    return int(equal != count)


if __name__ == "__main__":
    raise SystemExit(main())
