"""What `import aum.tf` brings with it, seen from interpreters that are made for it."""

import subprocess
import sys
from pathlib import Path

import pytest

import aum

pytestmark = pytest.mark.slow  # starts processes

OTHERS = ("torch", "jax", "flax", "keras", "sklearn", "pandas", "pyarrow", "rich")
# TensorFlow itself imports some of these where it finds them: what counts is what comes on top
TELL_NEW_MODULES = """
import sys
import numpy, tensorflow
before = set(sys.modules)
{code}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(new - set(sys.stdlib_module_names)))
"""
WITHOUT_OTHERS = """
import sys
sys.modules.update(dict.fromkeys({others!r}))
{code}
"""


def run(code, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )


def test_aum_tf_loads_nothing_but_tensorflow():
    done = run(TELL_NEW_MODULES.format(code="import aum.tf"))
    assert done.stdout == "['aum', 'aum_core']\n", done.stderr


def test_a_foreign_import_would_be_seen():
    done = run(TELL_NEW_MODULES.format(code="import aum.tf, hypothesis"))
    assert "hypothesis" in done.stdout, done.stderr


def test_aum_tf_does_without_the_other_frameworks():
    done = run(WITHOUT_OTHERS.format(others=[each for each in OTHERS if each != "keras"], code="import aum.tf"))
    assert done.returncode == 0, done.stderr


def test_the_other_frameworks_are_really_away():
    done = run(WITHOUT_OTHERS.format(others=OTHERS, code="import torch"))
    assert "ModuleNotFoundError: import of torch halted" in done.stderr


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (None, "ModuleNotFoundError: aum.tf needs TensorFlow: pip install 'aum[tf]'"),
        ("import a_part_that_is_missing", "ModuleNotFoundError: No module named 'a_part_that_is_missing'"),
    ],
)
def test_what_tensorflow_lacks_is_told(tmp_path, content, wanted):
    import numpy as np

    import aum_core

    for package in (np, aum, aum_core):
        folder = Path(package.__file__).parent
        (tmp_path / folder.name).symlink_to(folder, target_is_directory=True)
    libraries = Path(np.__file__).parent.with_name("numpy.libs")
    if libraries.exists():
        (tmp_path / libraries.name).symlink_to(libraries, target_is_directory=True)
    if content is not None:
        (tmp_path / "tensorflow").mkdir()
        (tmp_path / "tensorflow/__init__.py").write_text(content)
    done = run(f"import sys; sys.path.append({str(tmp_path)!r}); import aum.tf", "-I", "-S")
    assert done.stderr.splitlines()[-1] == wanted


def test_the_callback_is_that_of_aum_keras():
    code = """
import sys, types
import aum.tf
assert "aum.keras" not in sys.modules
sys.modules["aum.keras"] = types.SimpleNamespace(AUMCallback="the callback")
assert aum.tf.AUMCallback == "the callback"
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
