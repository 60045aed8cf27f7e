"""What is in the wheel and in the sdist that AUM_DIST holds: `tox run -e package` builds them."""

import os
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import aum_core

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STEM = f"{PROJECT['name'].replace('-', '_')}-{aum_core.__version__}"
LARGEST = 1_000_000
pytestmark = pytest.mark.skipif("AUM_DIST" not in os.environ, reason="nothing was built: tox run -e package")


def sources(folder):
    """The files of a package as the wheel names them."""
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix == ".py" or path.name == "py.typed"]
    return {path.relative_to((ROOT / folder).parent).as_posix() for path in files}


@pytest.fixture(scope="module")
def built():
    """The one wheel and the one sdist."""
    wheel, sdist = sorted(Path(os.environ["AUM_DIST"]).iterdir(), key=lambda path: path.suffix != ".whl")
    return wheel, sdist


def test_names_and_sizes(built):
    assert [path.name for path in built] == [f"{STEM}-py3-none-any.whl", f"{STEM}.tar.gz"]
    assert all(path.stat().st_size < LARGEST for path in built)


def test_the_wheel_has_both_packages_and_nothing_else(built):
    about = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"]
    expected = sources("aum_core") | sources("adapters/aum") | {f"{STEM}.dist-info/{name}" for name in about}
    assert {"aum_core/py.typed", "aum/py.typed", "aum/command/cli.py"} < expected
    assert set(zipfile.ZipFile(built[0]).namelist()) == expected


def test_the_sdist_has_what_builds_the_wheel(built):
    packages = sources("aum_core") | {f"adapters/{name}" for name in sources("adapters/aum")}
    about = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore"}
    with tarfile.open(built[1]) as archive:
        assert set(archive.getnames()) == {f"{STEM}/{name}" for name in packages | about}


def test_what_the_index_is_told(built):
    told = message_from_bytes(zipfile.ZipFile(built[0]).read(f"{STEM}.dist-info/METADATA"))
    assert (told["Name"], told["Version"]) == (PROJECT["name"], aum_core.__version__)
    assert told["Requires-Python"] == PROJECT["requires-python"]
    assert set(told.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert told["License-Expression"] == "MIT"
