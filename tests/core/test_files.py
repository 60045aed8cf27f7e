import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aum_core.files import whole
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
        assert process.stdout.readline().strip() == b"writing"
        process.kill()
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("caf\udce9.png", b"caf\xe9.png"),  # what os.fsdecode makes of Latin-1 where names are bytes
        ("caf\ud83d.png", b"caf\xed\xa0\xbd.png"),  # half of a pair, as file names of Windows may have it
        ("\ud83d\udce9\N{SNOWMAN}", b"\xed\xa0\xbd\xe9\xe2\x98\x83"),
    ],
)
def test_names_of_any_kind_can_be_written(tmp_path, name, content):
    with write_whole(tmp_path / "file.txt") as file:
        file.write(name)
    assert (tmp_path / "file.txt").read_bytes() == content


# where Windows and network file systems differ


@pytest.fixture
def on_windows(monkeypatch):
    """As Windows does it: folders cannot be opened. Returns the seconds that were waited."""
    waited = []

    def no_folders(path, *flags):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(whole, "_WINDOWS", True)
    monkeypatch.setattr(whole, "sleep", waited.append)
    monkeypatch.setattr("aum_core.files.whole.os.open", no_folders)
    return waited


def refuse_to_replace(monkeypatch, times):
    """A program that has the file open for so many attempts to rename over it."""
    replace, attempts = Path.replace, []

    def refusing(self, target):
        attempts.append(target)
        if len(attempts) <= times:
            raise PermissionError(errno.EACCES, "Access is denied", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refusing)
    return attempts


@pytest.mark.usefixtures("on_windows")
def test_folders_that_cannot_be_opened_are_not_synced(tmp_path):
    with write_whole(tmp_path / "file.txt") as file:
        file.write("whole")
    with write_whole_folder(tmp_path / "folder") as folder:
        (folder / "inside").write_text("whole")
    assert (tmp_path / "file.txt").read_text() == (tmp_path / "folder/inside").read_text() == "whole"


@pytest.mark.parametrize("writer", [write_whole, write_whole_folder])
def test_a_file_that_a_virus_scanner_has_open_is_replaced_a_moment_later(tmp_path, monkeypatch, on_windows, writer):
    refuse_to_replace(monkeypatch, times=3)
    with writer(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert on_windows == [0.05, 0.1, 0.2]


def test_a_file_that_stays_open_in_another_program_is_named_and_stays(tmp_path, monkeypatch, on_windows):
    path = tmp_path / "aum_values.csv"
    path.write_text("old")
    refuse_to_replace(monkeypatch, times=100)
    with pytest.raises(PermissionError, match=r"open in another program; want it closed there.*aum_values\.csv'$"):
        write_json(path, {})
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]
    assert sum(on_windows) < 2


def test_elsewhere_a_file_that_may_not_be_replaced_is_an_error_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(whole, "_WINDOWS", False)
    attempts = refuse_to_replace(monkeypatch, times=1)
    with pytest.raises(PermissionError, match="Access is denied"):
        write_json(tmp_path / "run.json", {})
    assert len(attempts) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="no folder is synced there")
@pytest.mark.parametrize(("answer", "is_error"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_sync_folders_is_as_good(tmp_path, monkeypatch, answer, is_error):
    sync, path = os.fsync, tmp_path / "run.json"

    def refusing(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(answer, os.strerror(answer))
        sync(handle)

    monkeypatch.setattr("aum_core.files.whole.os.fsync", refusing)
    if is_error:
        with pytest.raises(OSError, match=os.strerror(answer)):
            write_json(path, {"one": 1})
    else:
        write_json(path, {"one": 1})
    assert json.loads(path.read_text()) == {"one": 1}


def test_json_without_nan(tmp_path):
    write_json(tmp_path / "a.json", {"one": [1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"one": [1.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"one": float("nan")})
    assert not (tmp_path / "b.json").exists()
