"""The shape of the house: how long a module and a function may be, and which way imports go."""

import ast
from pathlib import Path

import pytest

import aum_core

ENGINE = Path(aum_core.__file__).parent
MODULE, FUNCTION = 400, 40
NO_NAMES = {"utils", "util", "helpers", "common", "misc", "manager"}


def modules_of(folder, package):
    """Paths of all modules of a package by their dotted names."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def body_length(function):
    """Lines of a function without its docstring."""
    documented = ast.get_docstring(function, clean=False)
    return function.end_lineno - function.lineno + 1 - (documented.count("\n") + 1 if documented else 0)


def too_long(modules):
    """Modules and functions that have more lines than they may."""
    found = []
    for name, path in modules.items():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MODULE:
            found.append(name)
        functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
        found += [f"{name}.{each.name}" for each in functions if body_length(each) > FUNCTION]
    return found


def imports_of(modules):
    """The modules, of these, that each imports; those for the type checker among them."""
    graph = {}
    for name, path in modules.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                found |= {str(node.module), *(f"{node.module}.{each.name}" for each in node.names)}
            elif isinstance(node, ast.Import):
                found |= {each.name for each in node.names}
        graph[name] = sorted((found & set(modules)) - {name})
    return graph


def circle_in(graph):
    """A way from a node back to itself; None where there is none."""
    done = set()

    def visit(node, way):
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return None
        circles = (visit(each, [*way, node]) for each in graph[node])
        circle = next(filter(None, circles), None)
        done.add(node)
        return circle

    return next(filter(None, (visit(node, []) for node in graph)), None)


def rooms_of(graph):
    """The same between folders: what lies in none is a room of its own."""
    names = {name: ".".join(name.split(".")[:2]) for name in graph}
    rooms = {}
    for name, found in graph.items():
        if name.count("."):  # the package's own table of contents has everything
            rooms.setdefault(names[name], set()).update(names[each] for each in found if each.count("."))
    return {room: sorted(found - {room}) for room, found in rooms.items()}


@pytest.fixture(scope="module")
def modules():
    adapters = pytest.importorskip("aum")
    return modules_of(ENGINE, "aum_core") | modules_of(Path(adapters.__file__).parent, "aum")


def test_modules_and_functions_are_read_at_one_look(modules):
    assert too_long(modules) == []


def test_no_module_imports_one_that_imports_it(modules):
    assert circle_in(imports_of(modules)) is None


def test_rooms_of_the_engine_import_each_other_in_one_direction():
    assert circle_in(rooms_of(imports_of(modules_of(ENGINE, "aum_core")))) is None


def test_no_module_is_named_after_nothing(modules):
    assert not NO_NAMES & {part for name in modules for part in name.split(".")}


def test_every_room_says_what_it_is(modules):
    for name, path in modules.items():
        if path.name == "__init__.py":
            assert len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") > 100, name


def test_what_is_wrong_would_be_seen(tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room/one.py").write_text("from pack.two import b\ndef long():\n" + "    pass\n" * (FUNCTION + 1))
    (tmp_path / "two.py").write_text("import pack.room.one\n" + "b = 1\n" * MODULE)
    found = modules_of(tmp_path, "pack")
    assert too_long(found) == ["pack.room.one.long", "pack.two"]
    assert circle_in(imports_of(found)) == ["pack.room.one", "pack.two", "pack.room.one"]
    assert circle_in(rooms_of(imports_of(found))) == ["pack.room", "pack.two", "pack.room"]
