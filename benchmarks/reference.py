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
    """Path of the reference's interpreter; makes the environment the first time.

    It is made in ``.benchmarks/reference``, or in the folder that AUM_REFERENCE_ENV names.
    """
    folder = Path(os.environ.get("AUM_REFERENCE_ENV", ROOT / ".benchmarks" / "reference")).absolute()
    if not (folder / "whole").exists():
        _make(folder)
    return _interpreter(folder)


def _make(folder: Path) -> None:
    """Make the environment; `whole` is written last, so that one whose making was cut short is made anew."""
    unfinished = folder / "unfinished"
    if unfinished.exists():
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):  # AUM_REFERENCE_ENV may name a folder that is not ours to empty
        raise SystemExit(f"{folder} is no environment of the reference, and not empty: name another, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    print(f"making the reference's environment in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True)
    subprocess.run(
        [_interpreter(folder), "-m", "pip", "install", *PACKAGES],
        check=True,
        stdout=sys.stderr,  # the standard output is for tables
        env={**os.environ, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")},
    )
    unfinished.rename(folder / "whole")


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


if __name__ == "__main__":
    print(python())
