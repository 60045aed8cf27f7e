"""The reference, PyPI `aum` 1.0.2, in a virtual environment of its own: it has our name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["aum==1.0.2", "torch", "pandas", "numpy"]


def command() -> list[str | Path]:
    """How to start the reference's interpreter, deaf to variables that would show it our package."""
    return [python(), "-I"]


def python() -> Path:
    """Path of the reference's interpreter; makes the environment the first time, in ``.benchmarks/reference``."""
    folder = Path(os.environ.get("AUM_REFERENCE_ENV", ROOT / ".benchmarks" / "reference"))
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    whole = folder / "whole"
    if not whole.exists():
        print(f"making the reference's environment in {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        constraints = {"PIP_CONSTRAINT": str(ROOT / "constraints.txt")}
        subprocess.run(
            [interpreter, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, env={**os.environ, **constraints}
        )
        whole.touch()
    return interpreter


if __name__ == "__main__":
    print(python())
