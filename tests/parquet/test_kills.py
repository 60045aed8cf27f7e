"""A run that is killed loses nothing that was acknowledged, and ends as if it had not been."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # starts processes

KILL = Path(__file__).resolve().parents[2] / "benchmarks/kill.py"


def test_a_few_kills_of_the_benchmark():
    done = subprocess.run(
        [sys.executable, KILL, "--kills", "6", "--kills-per-run", "2", "--batches", "200"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 kills of" in done.stdout
    assert "acknowledged and lost: 0" in done.stdout
