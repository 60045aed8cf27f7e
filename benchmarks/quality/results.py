"""The file of results: one line of JSON for each finished experiment, found again by its settings."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from experiments import Experiment

if TYPE_CHECKING:
    from pathlib import Path


_MEASURED = ("figures", "seconds", "versions")
_PACKAGES = ("torch", "cleanlab", "scikit-learn", "numpy")


def read(path: Path) -> dict[Experiment, dict[str, Any]]:
    """Each experiment with its figures, seconds and versions; a last line that a crash cut off does not count."""
    if not path.exists():
        return {}
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            row = json.loads(line)
            found[Experiment(**row["settings"])] = {name: row[name] for name in _MEASURED}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise SystemExit(
                f"{path}, line {number}: not a result of this benchmark ({error}); give another file"
            ) from error
    return found


def append(path: Path, experiment: Experiment, figures: dict[str, Any], seconds: float) -> None:
    """Add a line, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in _PACKAGES}
    row = {"figures": _rounded(figures), "seconds": round(seconds, 1), "versions": versions}
    line = json.dumps({"settings": asdict(experiment), **row})
    with open(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)  # what a crash left of a line
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 5) if isinstance(value, float) else value
