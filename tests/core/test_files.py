import json
import os
import signal
import subprocess
import sys

import pytest

from aum_core.files.whole import scratch_folder, write_json, write_whole, write_whole_folder


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
from aum_core.files.whole import write_whole
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


@pytest.fixture
def left_behind(tmp_path):
    """What killed processes have left: a file and a folder of `out`, and whatever else looks like it."""
    files = [".out.1-0000000a.tmp", ".out.2-0000000b.tmp/half", ".out.old.tmp", ".out.x.1-0000000a.tmp", "out.tmp"]
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    (tmp_path / ".out.4-0000000d.tmp").mkdir()
    return tmp_path


def make_old(*paths):
    for path in paths:
        os.utime(path, (path.stat().st_mtime - 4000,) * 2)


@pytest.mark.parametrize("writer", [write_whole, write_whole_folder, scratch_folder])
def test_what_killed_processes_left_an_hour_ago_goes(left_behind, writer):
    make_old(*left_behind.rglob("*"))
    with writer(left_behind / "out"):
        pass
    names = {path.name for path in left_behind.iterdir()} - {"out"}
    assert names == {".out.old.tmp", ".out.x.1-0000000a.tmp", "out.tmp"}


def test_what_may_still_be_written_to_stays(left_behind):
    before = set(left_behind.rglob("*"))
    make_old(left_behind / ".out.2-0000000b.tmp")  # but not the file in it
    with write_whole(left_behind / "out"):
        pass
    assert set(left_behind.rglob("*")) == before | {left_behind / "out"}


def test_a_scratch_folder_goes_with_its_block(tmp_path):
    with pytest.raises(FileNotFoundError), scratch_folder(tmp_path / "out") as folder:
        (folder / "nowhere/half").write_text("half")
    assert not any(tmp_path.iterdir())


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
