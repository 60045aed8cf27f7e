import json
import os
import signal
import subprocess
import sys

import pytest

from aum_core.files import write_json, write_whole


def test_a_file_appears_when_its_block_ends(tmp_path):
    path = tmp_path / "file.txt"
    with write_whole(path) as file:
        file.write("whole\n")
        assert not path.exists()
    assert path.read_bytes() == b"whole\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail():
        with write_whole(path) as file:
            file.write("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = """
import sys, time
from aum_core.files import write_whole
with write_whole(sys.argv[1]) as file:
    file.write("half of the n")
    file.flush()
    print("writing", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        os.kill(process.pid, signal.SIGKILL)
    assert path.read_text() == "old"


def test_names_of_any_bytes_come_out_as_they_went_in(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    with write_whole(tmp_path / "file.txt") as file:
        file.write(name)
    assert (tmp_path / "file.txt").read_bytes() == b"caf\xe9.png"


def test_json_without_nan(tmp_path):
    write_json(tmp_path / "a.json", {"one": [1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"one": [1.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"one": float("nan")})
    assert not (tmp_path / "b.json").exists()
