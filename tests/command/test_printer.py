"""What the command prints, wherever that goes: a terminal, a pipe, a console that knows few characters."""

import errno
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from aum.command.cli import _is_closed_pipe
from aum.command.printer import print_table, say
from aum.command.progress import progress
from aum_core import AUMCalculator

CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
NAME = "[red]train/" + "0123456789" * 12 + ".png"


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 40 columns, as rich sees one."""
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "40"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)


def in_process(*words, encoding="cp1252", **environment):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        encoding=encoding,
        env={**os.environ, "PYTHONIOENCODING": encoding, **environment},
        check=False,
        timeout=120,
    )


def test_a_terminal_folds_what_is_too_wide_and_loses_nothing(terminal, capsys):
    print_table({"rank": ["1"], "sample id": [NAME], "AUM": ["-1.5"]}, left=["sample id"])
    printed = capsys.readouterr().out
    assert "\x1b[1m" in printed  # the names of the columns
    lines = [CODES.sub("", line).rstrip() for line in printed.splitlines()]
    assert max(map(len, lines)) <= 40
    assert "".join(lines[1:]).replace("1  ", "", 1).replace("-1.5", "").replace(" ", "") == NAME
    assert lines[1].endswith("-1.5")


def test_a_line_on_a_terminal_is_left_to_it(terminal, capsys):
    say(f"Files in {NAME}")
    assert capsys.readouterr().out == f"Files in {NAME}\n"


def test_a_pipe_has_no_edge_and_no_colours(capsys):
    print_table({"rank": ["1", "20"], "sample id": [NAME, "日本"], "AUM": ["-1.5", "2"]}, left=["sample id"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"   1  {NAME}  -1.5"
    assert lines[2] == f"  20  日本{' ' * (len(NAME) - 4)}     2"  # each of the two takes two places


def test_a_bar_on_a_terminal(terminal, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    with progress(2, 5) as on_epoch:
        on_epoch(0, 5)
        on_epoch(1, 1)
    printed = CODES.sub("", capsys.readouterr().err)
    assert "training, run 2 of 2" in printed
    assert "6/10" in printed
    assert ": epoch " not in printed


def test_a_console_that_knows_few_characters(tmp_path):
    calculator = AUMCalculator(tmp_path, compressed=False)
    for margin in (1.0, 2.0, 3.0):
        calculator.update(np.array([[margin, 0.0]]), [0], ["é Łódź.png"])
    calculator.finalize()
    done = in_process("-m", "aum", "rank", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"é \u0141ód\u017a.png" in done.stdout
    done = in_process("-m", "aum", "records", tmp_path, "é Łódź.png", PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "margins 148 1 to 3, 0 below 0"


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "TERM": "xterm"}])
def test_a_table_on_a_console_that_knows_few_characters(environment):
    code = "from aum.command.printer import print_table; print_table({'class': ['Łódź', 'é']}, left=['class'])"
    done = in_process("-c", code, PYTHONUTF8="1", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.rstrip() for line in done.stdout.splitlines()[1:]] == [r"\u0141ód\u017a", "é"]


def test_a_bar_on_a_console_that_knows_few_characters():
    code = "from aum.command.progress import progress\nwith progress(1, 2) as on_epoch: on_epoch(0, 1); on_epoch(0, 2)"
    done = in_process("-c", code, FORCE_COLOR="1", TERM="xterm")
    assert (done.returncode, done.stdout) == (0, "")
    assert "training, run 1 of 1" in done.stderr


@pytest.mark.parametrize(
    ("error", "system", "closed"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "posix", True),
        (OSError(errno.EINVAL, "Invalid argument"), "nt", True),
        (OSError(errno.EINVAL, "Invalid argument"), "posix", False),
        (OSError(errno.ENOSPC, "No space left on device"), "nt", False),
    ],
)
def test_a_closed_pipe_by_its_name_on_each_system(error, system, closed):
    assert _is_closed_pipe(error, system) == closed
