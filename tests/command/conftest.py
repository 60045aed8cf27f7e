"""The commands on runs, called as a user calls them, and runs to call them on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from aum.command.cli import main
from aum_core import AUMCalculator, Totals


@pytest.fixture(scope="session", autouse=True)
def no_terminal():
    """What tox and CI pass on may have rich take a pipe for a terminal."""
    with pytest.MonkeyPatch.context() as environment:
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            environment.delenv(name, raising=False)
        yield


@dataclass
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def aum(capsys):
    """Run the command in this process."""

    def run(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture
def refused(aum):
    """What the command says where something does not fit: one line, and nothing on stdout."""

    def run(*words):
        done = aum(*words)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        return done.err.strip().partition(": error: ")[2]

    return run


def calculator(folder, shard=0, ids=range(20), **options):
    """A calculator that has measured its own part of a stream."""
    generator, ids = np.random.default_rng(shard), list(ids)
    own = AUMCalculator(folder, **options)
    for _ in range(3):
        logits = generator.normal(size=(len(ids), 3)).astype(np.float32)
        own.update(logits, generator.integers(0, 3, len(ids)), ids)
    return own


@pytest.fixture
def run(tmp_path):
    """Make the folder of a run."""

    def make(name, shard=0, ids=range(20), **options):
        calculator(tmp_path / name, shard, ids, **options).finalize()
        return tmp_path / name

    return make


@pytest.fixture
def shards(tmp_path):
    """Files of three ranks in one folder, of which the last measured nothing, and what they add up to."""
    folder, whole = tmp_path / "job", Totals()
    folder.mkdir()
    for rank, ids in enumerate((range(12), range(5, 20), ())):
        own = calculator(folder, rank, ids).totals
        own.left_out = rank
        own.save(folder / f"totals_rank{rank}.npz")
        whole.include(own)
    return folder, whole.sorted()
