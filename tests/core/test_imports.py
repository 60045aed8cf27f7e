"""What an import brings with it, seen from interpreters that are made for it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aum_core

FRAMEWORKS = ["torch", "jax", "tensorflow", "keras", "sklearn", "pandas", "pyarrow", "scipy", "matplotlib", "rich"]

USE_THE_ENGINE = """
import sys, tempfile
import numpy as np
import aum_core
folder = tempfile.mkdtemp()
calculator = aum_core.AUMCalculator(folder, compressed=False)
calculator.update(np.eye(3), [0, 1, 2], ["a", "b", 3])
calculator.accumulate(np.eye(3), [0, 1, 2], ["a", "b", 3])
calculator.finalize()
aum_core.read_aum_values(folder + "/aum_values.csv")
aum_core.Totals.load(folder + "/totals.npz")
def train(targets, num_classes, calculator):
    calculator.accumulate(np.eye(num_classes)[targets], targets, np.arange(len(targets)))
aum_core.find_mislabeled(train, [0, 1] * 10, 2, save_dir=folder)
"""


def modules_after(code, *options):
    """Names of the top-level modules that are loaded once a fresh interpreter has run `code`."""
    tell = "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, *options, "-c", code + tell], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.splitlines()[-1]
    return set(json.loads(done.stdout.splitlines()[-1]))


def foreign(modules):
    """Those of `modules` that are neither Python's nor ours, and do not come with NumPy."""
    return modules - modules_after("import numpy, numpy.random") - sys.stdlib_module_names - {"aum_core", "aum"}


@pytest.fixture
def bare_folder(tmp_path):
    """A folder for sys.path with NumPy and the engine in it, and nothing else."""
    for package in (Path(np.__file__).parent, Path(aum_core.__file__).parent):
        (tmp_path / package.name).symlink_to(package, target_is_directory=True)
    libraries = Path(np.__file__).parent.with_name("numpy.libs")  # where the wheel keeps its BLAS
    if libraries.exists():
        (tmp_path / libraries.name).symlink_to(libraries, target_is_directory=True)
    return tmp_path


def bare(folder, code):
    """Code for an interpreter started with -I -S that finds modules in `folder` and the standard library alone."""
    return f"import sys; sys.path.append({str(folder)!r})\n{code}"


def test_engine_runs_where_only_numpy_is(bare_folder):
    assert foreign(modules_after(bare(bare_folder, USE_THE_ENGINE), "-I", "-S")) == set()


@pytest.mark.parametrize("module", ["pytest", "hypothesis", *FRAMEWORKS])
def test_the_bare_interpreter_really_has_nothing_else(bare_folder, module):
    with pytest.raises(AssertionError, match=f"No module named '{module}'"):
        modules_after(bare(bare_folder, f"import {module}"), "-I", "-S")


def test_engine_imports_nothing_else_where_everything_is():
    assert foreign(modules_after(USE_THE_ENGINE)) == set()


def test_import_aum_loads_no_framework():
    assert foreign(modules_after("import aum; aum.__version__; aum.AUMRecord")) == set()


def test_a_foreign_import_would_be_seen():
    assert "hypothesis" in foreign(modules_after("import aum_core, hypothesis"))


def test_import_aum_tells_what_it_lacks(bare_folder):
    import aum

    (bare_folder / "aum").symlink_to(Path(aum.__file__).parent, target_is_directory=True)
    code = """
try:
    from aum import AUMCalculator
except ModuleNotFoundError as error:
    assert str(error) == "aum.torch needs PyTorch: pip install 'aum[torch]'", error
else:
    raise AssertionError("imported")
"""
    modules_after(bare(bare_folder, code), "-I", "-S")


def test_the_command_tells_what_it_lacks(bare_folder):
    import aum

    (bare_folder / "aum").symlink_to(Path(aum.__file__).parent, target_is_directory=True)
    code = bare(bare_folder, "from aum.command.cli import main; sys.exit(main(sys.argv[1:]))")
    for words, code_wanted, out, err in (
        (["--version"], 0, f"aum {aum_core.__version__}\n", ""),
        (["find", "digits"], 2, "", "aum find: error: needs scikit-learn: pip install 'aum[find]'\n"),
        (["merge", "a", "b", "--out", "c"], 2, "", "aum merge: error: needs rich: pip install rich\n"),
    ):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, *words], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (code_wanted, out, err)


def test_an_import_error_inside_a_framework_passes_untouched(bare_folder):
    import aum

    (bare_folder / "aum").symlink_to(Path(aum.__file__).parent, target_is_directory=True)
    (bare_folder / "torch").mkdir()
    (bare_folder / "torch/__init__.py").write_text("import a_part_that_is_missing")
    with pytest.raises(AssertionError, match=r"^ModuleNotFoundError: No module named 'a_part_that_is_missing'"):
        modules_after(bare(bare_folder, "import aum.torch"), "-I", "-S")


def test_public_names_are_there_and_no_others_are_promised():
    for name in aum_core.__all__:
        assert hasattr(aum_core, name)
    assert len(set(aum_core.__all__)) == len(aum_core.__all__)


def test_an_unknown_name_of_aum_is_an_attribute_error():
    import aum

    with pytest.raises(AttributeError, match="module 'aum' has no attribute 'AUMCalculater'"):
        aum.AUMCalculater  # noqa: B018 # the look-up is the test
