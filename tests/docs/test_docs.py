"""Every command and snippet of the docs, as a reader would run them."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
]
LEFT_BEHIND = shutil.ignore_patterns(".git", ".venv", ".tox", ".benchmarks", "__pycache__", ".*_cache")


def blocks(language):
    """Fenced blocks of a language, with a name that leads back to their page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    return found


def commands():
    """Lines of console blocks behind their prompts."""
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.values[0].splitlines()]


def run(command, folder):
    """Run a command line in `folder`, with the scripts of this environment on the path.

    AUM_REQUIRE speaks of this environment; one that the command makes has what the command installs.
    """
    environ = {name: value for name, value in os.environ.items() if name != "AUM_REQUIRE"}
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(command, shell=True, cwd=folder, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path):
    """A clean copy of the project."""
    return shutil.copytree(ROOT, tmp_path / "aum", ignore=LEFT_BEHIND)


@pytest.fixture
def data_folder(tmp_path):
    """A folder with the files that the commands name."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    features = (generator.normal(size=(300, 5)) + 3 * np.eye(3, 5)[labels]).astype(np.float32)
    np.savez(tmp_path / "features.npz", X=features, y=labels)
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "labels.npy", labels)
    names = np.array(["iris", "rose", "tulip"])[labels]
    lines = [
        f"plant {i},{name},{','.join(map(str, row))}" for i, (name, row) in enumerate(zip(names, features, strict=True))
    ]
    (tmp_path / "flowers.csv").write_text("plant,species,a,b,c,d,e\n" + "\n".join(lines) + "\n")
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(tmp_path / "flowers.csv"), tmp_path / "flowers.parquet")
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"))
def test_snippet_runs(code, tmp_path):
    (tmp_path / "snippet.py").write_text(code, encoding="utf-8")
    done = run("python -W error snippet.py", tmp_path)
    assert done.returncode == 0, done.stderr


def test_first_snippet_leaves_a_ranking(tmp_path):
    (tmp_path / "snippet.py").write_text(blocks("python")[0].values[0], encoding="utf-8")
    run("python -W error snippet.py", tmp_path)
    assert len((tmp_path / "aum_run/aum_values.csv").read_text().splitlines()) == 1 + 1000


def test_first_snippet_needs_nothing_but_torch(tmp_path):
    """In a process where nothing else that `aum[torch]` lacks can be imported."""
    absent = "import sys\nfor name in ('sklearn', 'scipy', 'matplotlib', 'jax', 'tensorflow', 'keras'):\n"
    code = blocks("python")[0].values[0]
    (tmp_path / "snippet.py").write_text(f"{absent}    sys.modules[name] = None\n{code}", encoding="utf-8")
    done = run("python -W error snippet.py", tmp_path)
    assert done.returncode == 0, done.stderr


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_extras_of_the_docs_exist():
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for page in PAGES:
        for found in re.findall(r"pip install '?\.\[([\w,]+)\]", page.read_text(encoding="utf-8")):
            assert set(found.split(",")) <= set(extras), f"{page.name}: {found}"
    install = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert all(f"[{each}]" in install for each in extras)


# Sources and folders; those in `save_dir` are of a run.
PATHS = re.compile(r"`((?!save_dir)(?:\.?\w[\w.-]*/)*[\w.-]+(?:\.(?:py|toml|ini|cff|yml|yaml)|/))`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name + page.name)
def test_paths_that_are_named_exist(page):
    """Whole paths from the root, or from the page's own folder."""
    named = PATHS.findall(page.read_text(encoding="utf-8"))
    assert [path for path in named if not ((ROOT / path).exists() or (page.parent / path).exists())] == []


def test_contributing_names_paths():
    assert len(PATHS.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))) > 15


def test_every_benchmark_is_named():
    page = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "benchmarks").glob("*.py") if path.name not in page] == []


def imported_by(room):
    """What a module or a folder of the engine imports of it."""
    folder = ROOT / "aum_core" / room
    sources = sorted(folder.glob("*.py")) or [folder.with_suffix(".py")]
    return {name for path in sources for name in re.findall(r"\n *from aum_core\.(\w+)", path.read_text())} - {room}


def test_arrows_of_contributing_are_those_of_the_engine():
    """Each arrow is an import, and each import goes along arrows, or to what stands alone."""
    block = re.findall(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    drawn = {room: others.split(", ") for room, others in (re.split(r" +-> ", line) for line in block.splitlines())}
    assert len(drawn) > 8

    def reached(room):
        return {each for other in drawn.get(room, []) for each in (other, *reached(other))}

    for room, others in drawn.items():
        assert set(others) <= imported_by(room), room
        assert imported_by(room) - reached(room) <= {"_version", "ids", "margins", "growable", "softmax", "dataset"}, (
            room
        )


INSTALLS = [command for command in commands() if "venv" in command and "tox" not in command]
FINDS = [command for command in commands() if command.startswith("aum find")]
WITH_TOX = [command for command in commands() if "tox" in command]
ON_RUNS = re.compile(r"aum (?!find)|python examples/big_data/")
OF_RUNS = [command for command in commands() if ON_RUNS.match(command)]
# test_paper_examples.py runs these, on small data
EXAMPLES = [each for each in commands() if each.startswith("python examples/") and not ON_RUNS.match(each)]


def test_no_command_of_the_docs_is_left_out():
    assert sorted(INSTALLS + FINDS + OF_RUNS + WITH_TOX + EXAMPLES) == sorted(commands())
    assert (len(INSTALLS), len(WITH_TOX)) == (2, 1)


@pytest.mark.parametrize("command", INSTALLS)
def test_install_commands_run_on_a_clean_checkout(command, checkout):
    done = run(command, checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    if "aum find" in command:
        assert "recall" in done.stdout
        assert (checkout / "aum_run/flagged.csv").exists()


@pytest.mark.parametrize("command", FINDS)
def test_find_commands_run(command, data_folder):
    done = run(command, data_folder)
    assert done.returncode == 0, done.stderr
    out = data_folder / (re.search(r"--out (\S+)", command) or ["", "aum_run"])[1]
    assert (out / "flagged.csv").exists()


@pytest.fixture
def job_folder(tmp_path):
    """A folder with what a job of two ranks leaves in `job`, and the examples."""
    from aum.parquet import RecordsOnDisk
    from aum_core import AUMCalculator

    for rank in range(2):
        log = partial(RecordsOnDisk, save_dir=tmp_path / "job", rank=rank, num_ranks=2)
        calculator = AUMCalculator(tmp_path / "job", compressed=False, log=log)
        for _ in range(3):
            logits = np.random.default_rng(rank).normal(size=(30, 3)).astype(np.float32)
            calculator.accumulate(logits, np.arange(30) % 3, np.arange(30))
        calculator.records.flush()
        calculator.totals.save(tmp_path / f"job/totals_rank{rank}.npz")
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name + page.name)
def test_commands_on_runs_run_as_they_follow_each_other(page, job_folder):
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"^\$ (.*)", text, re.MULTILINE):
        if ON_RUNS.match(command):
            done = run(command, job_folder)
            assert done.returncode == 0, done.stderr
            assert done.stdout


def test_ci_runs_the_test_command_of_the_readme():
    words = (ROOT / ".ci/run").read_text().replace("\n", " && ")
    assert WITH_TOX[0] in words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target
