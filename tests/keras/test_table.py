"""docs/keras.md has a row for every feature that is tested, and no other."""

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("tensorflow", "jax", "torch")


def rows():
    """The table's lines, as the marks of the tests tell them."""
    tree: Any = ast.parse((ROOT / "tests/keras/test_features.py").read_text(encoding="utf-8"))
    for test in tree.body:
        marks: list[Any] = [each for each in getattr(test, "decorator_list", []) if isinstance(each, ast.Call)]
        for mark in marks:
            if mark.func.attr == "feature":
                why_not = {each.arg: each.value.value for each in mark.keywords}
                cells = [f"no: {why_not[backend]}" if backend in why_not else "yes" for backend in BACKENDS]
                yield f"| {mark.args[0].value} | {' | '.join(cells)} | `{test.name}` |"


def test_the_table_is_that_of_the_tests():
    page = (ROOT / "docs/keras.md").read_text(encoding="utf-8")
    told = [line for line in page.splitlines() if line.startswith("| ") and line.endswith("` |")]
    assert told == list(rows())
