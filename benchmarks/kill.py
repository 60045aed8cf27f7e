"""What is left of a run that is killed at any moment? Runs are killed, looked at, resumed and compared.

They are killed (SIGKILL) at random moments while they log, save and finalize, started again from their last
checkpoint, and at last let through. After each kill: can every file be read that is there, and is all there that was
acknowledged, by a `save` that had returned or by the end of `finalize`? In the end: are ranking, totals and full
records the bytes of a run that was never interrupted? Exit code 1 where not.
"""

from __future__ import annotations

import argparse
import collections
import filecmp
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from aum.parquet import RecordsOnDisk
from aum_core import AUMCalculator, Totals

BATCH, NUM_SAMPLES, NUM_CLASSES = 64, 3000, 10
BATCHES_PER_SAVE = 40
PART_SIZE = 4000
CHECKPOINT = "checkpoint.npz"
RESULTS = ("aum_values.csv", "full_aum_records.csv", "totals.npz")
WAYS = [[], ["--compressed"], ["--kind", "strings"]]  # records of ints on disk, no records, records of strs
_KILLED = 1 if sys.platform == "win32" else -9  # the exit code after `Popen.kill`


def batch(number: int, kind: str) -> tuple[Any, Any, Any]:
    """A batch of the stream: the same for every process that asks for it."""
    generator = np.random.default_rng(number)
    logits = generator.normal(0, 3, (BATCH, NUM_CLASSES)).astype(np.float32)
    rows = generator.integers(0, NUM_SAMPLES, BATCH)
    ids = rows if kind == "ints" else [f"images/{row}.png" for row in rows.tolist()]
    return logits, generator.integers(0, NUM_CLASSES, BATCH), ids


def work(folder: Path, batches: int, compressed: bool, kind: str) -> None:
    """Train, so to speak, from the last checkpoint to the end, and say on the way what is done."""
    log = partial(RecordsOnDisk, save_dir=folder, part_size=PART_SIZE)
    if (folder / CHECKPOINT).exists():
        calculator = AUMCalculator.load(folder / CHECKPOINT, log=log)
    else:
        calculator = AUMCalculator(folder, compressed, log=log)
    tell("logging")
    for number in range(calculator.totals.measurements // BATCH, batches):
        calculator.accumulate(*batch(number, kind))
        if (number + 1) % BATCHES_PER_SAVE == 0:
            tell("saving")
            calculator.save(folder / CHECKPOINT)
            tell("logging", saved=(number + 1) * BATCH)
    tell("finalizing")
    calculator.finalize()
    tell("done")


def tell(phase: str, **more: int) -> None:
    """Say to the parent what comes next."""
    print(json.dumps({"phase": phase, **more}), flush=True)


@dataclass
class Found:
    """What was seen. `lost` and `unreadable` name files, `different` runs."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    lost: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    runs: int = 0
    left_behind: int = 0


@dataclass
class Life:
    """A process from its start to its end: how often it came to each phase and how long these took in all."""

    times: collections.Counter[str]
    seconds: dict[str, float]
    phase: str
    saved: int
    killed: bool


def live(folder: Path, arguments: list[str], moment: tuple[str, int, float] | None = None) -> Life:
    """Let a run work to its end, or until so many seconds after it has come to a phase for the nth time."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--work", str(folder), *arguments]
    seconds: dict[str, float] = collections.defaultdict(float)
    told: list[dict[str, Any]] = []
    since = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # for the type checker
        assert process.stderr is not None  # as above
        for line in process.stdout:
            now = time.monotonic()
            if told:
                seconds[told[-1]["phase"]] += now - since
            since = now
            told.append(json.loads(line))
            if moment and told[-1]["phase"] == moment[0] and sum(e["phase"] == moment[0] for e in told) == moment[1]:
                time.sleep(moment[2])
                process.kill()
                moment = None
        errors = process.stderr.read()
    if process.returncode not in (0, _KILLED):
        raise SystemExit(f"{folder}: a run failed\n{errors}")
    saved = max((each.get("saved", 0) for each in told), default=0)
    return Life(
        collections.Counter(each["phase"] for each in told), seconds, told[-1]["phase"], saved, process.returncode != 0
    )


def look(folder: Path, phase: str, saved: int, whole: Path, found: Found) -> None:
    """See what a killed run has left."""
    unreadable = []
    for part in folder.glob("records*/**/*.parquet"):
        try:
            pq.read_table(part)
        except (OSError, ValueError):
            unreadable.append(str(part))
    found.unreadable += unreadable
    found.left_behind += len([*folder.glob(".*.tmp"), *folder.glob("records/.*.tmp")])
    for name in RESULTS:
        there = (folder / name).exists()
        if there and not filecmp.cmp(folder / name, whole / name, shallow=False):
            found.unreadable.append(str(folder / name))
        if phase == "done" and not there and (whole / name).exists():
            found.lost.append(str(folder / name))
    if saved and not _is_there(folder, saved):
        found.lost.append(f"{folder}: {saved} measurements")


def _is_there(folder: Path, saved: int) -> bool:
    """Whether the checkpoint has at least the measurements that were acknowledged, and the parts their records."""
    with np.load(folder / CHECKPOINT, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    own = {name.removeprefix("totals."): array for name, array in arrays.items() if name.startswith("totals.")}
    measurements = Totals.from_arrays(own).measurements
    if "records.parts" not in arrays:
        return measurements >= saved
    parts = json.loads(arrays["records.parts"].tobytes())
    records = sum(pq.read_metadata(folder / "records" / name).num_rows for name, _, _ in parts)
    return bool(records == measurements >= saved)


def random_moment(whole: Life, generator: np.random.Generator) -> tuple[str, int, float]:
    """A moment in the life of a run, in each of its phases as often."""
    phase = str(generator.choice(["logging", "saving", "finalizing"]))
    times = whole.times[phase]
    return phase, int(generator.integers(1, times + 1)), float(generator.uniform(0, whole.seconds[phase] / times))


@dataclass
class Way:
    """One kind of run: the words of its command, and the folder and the life of the one that nobody interrupts."""

    words: list[str]
    folder: Path
    life: Life


def run_through(folder: Path, way: Way, kills: int, generator: np.random.Generator, found: Found) -> None:
    """Kill a run so many times, where its lives are long enough, then let it come to its end, and compare."""
    saved = 0
    for _ in range(kills):
        life = live(folder, way.words, random_moment(way.life, generator))
        saved = max(saved, life.saved)
        found.kills.update([life.phase] if life.killed else [])
        look(folder, life.phase, saved, way.folder, found)
    live(folder, way.words)
    found.runs += 1
    for name in RESULTS:
        if (way.folder / name).exists() and not filecmp.cmp(folder / name, way.folder / name, shallow=False):
            found.different.append(f"{folder.name}: {name}")


def summarize(found: Found) -> None:
    """Print what was seen."""
    phases = ", ".join(f"{count} while {phase}" for phase, count in sorted(found.kills.items()))
    print(f"{sum(found.kills.values())} kills of {found.runs} runs: {phases}")
    print(f"acknowledged and lost: {len(found.lost)}")
    print(f"unreadable or half: {len(found.unreadable)}")
    print(f"resumed runs with other bytes than an uninterrupted one: {len(found.different)}")
    print(f"temporary files that kills left behind: {found.left_behind}")
    for each in [*found.lost, *found.unreadable, *found.different]:
        print(f"  {each}")


def main() -> int:
    """Kill, resume, compare, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, metavar="N")
    parser.add_argument("--kills-per-run", type=int, default=2, metavar="K")
    parser.add_argument("--batches", type=int, default=600, metavar="B", help="of a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compressed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--kind", default="ints", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.batches, options.compressed, options.kind)
        return 0
    found = Found()
    with tempfile.TemporaryDirectory() as name:
        ways = []
        for number, kind in enumerate(WAYS):
            folder, words = Path(name, f"whole{number}"), [*kind, "--batches", str(options.batches)]
            ways.append(Way(words, folder, live(folder, words)))
        generator = np.random.default_rng(options.seed)
        while sum(found.kills.values()) < options.kills:
            way = ways[found.runs % len(ways)]
            kills = min(options.kills_per_run, options.kills - sum(found.kills.values()))
            run_through(Path(name, f"run{found.runs}"), way, kills, generator, found)
            print(f"{sum(found.kills.values())} of {options.kills} kills", file=sys.stderr)
        summarize(found)
    return int(bool(found.lost or found.unreadable or found.different))


if __name__ == "__main__":
    raise SystemExit(main())
