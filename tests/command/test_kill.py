"""The benchmark that kills `aum merge`, in short: it finds nothing broken, and would tell if it did."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks/kill_merge.py"


@pytest.mark.slow
def test_a_killed_merge_leaves_a_whole_folder_or_none():
    words = [sys.executable, BENCHMARK, "--kills", "6", "--samples", "20000"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "folder" in done.stdout
    assert "BROKEN" not in done.stdout


def test_a_folder_that_is_not_whole_would_be_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    import kill_merge

    assert kill_merge.state_of(tmp_path / "out", []) == "not there"
    (tmp_path / "out").mkdir()
    assert kill_merge.state_of(tmp_path / "out", []) == "BROKEN: files are missing"
    for name in kill_merge.FILES:
        (tmp_path / "out" / name).write_text("other")
    assert kill_merge.state_of(tmp_path / "out", ["x"]) == "BROKEN: other contents"
