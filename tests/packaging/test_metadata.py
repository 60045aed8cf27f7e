"""The name of the distribution stands in one place, and what repeats it or the extras agrees with that place."""

import re
import tomllib
from pathlib import Path

import pytest

import aum_core

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
WRITTEN = [
    *ROOT.glob("*.md"),
    *(path for folder in ("docs", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.md")),
    *(path for folder in ("aum_core", "adapters", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")),
]
NAMED = r"""(?P<name>[\w.-]+)\[(?P<extras>[\w,-]+)\]"""
INSTALLED = re.compile(rf"""pip install (?:-e )?['"]?{NAMED}""")
QUOTED = re.compile(rf"""'{NAMED}'""")  # as in an error that puts "pip install" before it
OTHERS = {"dask"}  # other distributions that are named with an extra


def wanted_by_users(text):
    """The names and extras of each `pip install 'name[extra]'`, and of each quoted name with an extra that we have."""
    found = {(match["name"], extra) for match in INSTALLED.finditer(text) for extra in match["extras"].split(",")}
    found |= {(match["name"], match["extras"]) for match in QUOTED.finditer(text) if match["extras"] in EXTRAS}
    return {(name, extra) for name, extra in found if name not in OTHERS}


def test_what_users_are_told_to_install_is_there():
    told = {path: wanted for path in WRITTEN if (wanted := wanted_by_users(path.read_text(encoding="utf-8")))}
    wrong = {
        f"{path.relative_to(ROOT)}: {name}[{extra}]"
        for path, wanted in told.items()
        for name, extra in wanted
        if name not in (".", PROJECT["name"]) or extra not in EXTRAS
    }
    assert not wrong
    assert len(told) > 5


@pytest.mark.parametrize("words", ["pip install 'other[all]'", "pip install -e other[tf,all]", "is = 'other[all]'"])
def test_another_name_would_be_seen(words):
    assert ("other", "all") in wanted_by_users(f"aum.torch needs PyTorch: {words}\n")


def test_the_extras_do_not_repeat_the_name():
    assert not [each for needs in EXTRAS.values() for each in needs if each.startswith(PROJECT["name"] + "[")]


def test_all_is_all_the_other_extras():
    def names(needs):
        return {re.split(r"[ ;]", each)[0] for each in needs}

    assert names(EXTRAS["all"]) == set().union(*(names(needs) for extra, needs in EXTRAS.items() if extra != "all"))


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {aum_core.__version__}\n" in citation


def test_the_changelog_begins_with_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    number = aum_core.__version__.partition(".dev")[0]
    assert re.findall(r"^## (\S+?),? ", changelog + " ", re.MULTILINE)[:1] == [number]
