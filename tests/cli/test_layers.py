"""The house keeps its floors, and its files fit a sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "advkit"
FLOORS = (  # top to bottom
    {"commands"},
    {"reports"},
    {"evolution", "adaptation"},
    {"training", "transfer", "distance", "figures"},
    {"attacks"},
    {"tasks"},
    {"metrics", "models", "data", "parallel"},
    {"files"},
)
LEVEL = {part: level for level, floor in enumerate(FLOORS) for part in floor}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Modules of advkit that a file imports anywhere: at its top, inside functions, or for types only."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides the floor"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "advkit"}


def module(path: Path) -> str:
    """The dotted name of a file."""
    names = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which is reached from itself by following imports.

    Args:
        imports: module names to what each imports: modules, or names in them.
    """

    def known(name: str) -> str | None:
        return name if name in imports else known(name.rpartition(".")[0]) if "." in name else None

    edges = {
        one: {found for name in names if (found := known(name)) not in (None, one)} for one, names in imports.items()
    }

    def reached(start: str) -> set[str]:
        found, waiting = set[str](), [start]
        while waiting:
            new = edges[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    reach = {one: reached(one) for one in edges}
    groups = {frozenset({one} | {o for o in reach[one] if one in reach[o]}) for one in edges if one in reach[one]}
    return sorted(sorted(group) for group in groups)


def violations(part: str, names: set[str]) -> list[str]:
    """Imports that climb, or that go round a floor's neighbour without a floor of its own."""
    found = []
    for name in sorted(names):
        other = [*name.split("."), ""][1]
        if other in LEVEL and LEVEL[other] < LEVEL[part]:
            found.append(name)
    return found


def test_every_directory_has_a_floor() -> None:
    parts = {path.relative_to(PACKAGE).parts[0] for path in FILES if len(path.relative_to(PACKAGE).parts) > 1}
    assert parts <= set(LEVEL)
    assert {
        "commands",
        "training",
        "transfer",
        "figures",
        "attacks",
        "models",
        "data",
        "parallel",
        "metrics",
        "files",
    } <= parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_floor_imports_a_higher_one(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    if len(parts) > 1:
        assert violations(parts[0], imported(path)) == []


def test_a_climbing_import_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("import torch\ndef f():\n    from advkit.commands import output\n    import advkit.files.atomic\n")
    assert violations("files", imported(file)) == ["advkit.commands.output"]
    assert violations("commands", imported(file)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_fits_a_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


def test_no_files_import_each_other() -> None:
    """Neither directly nor in a circle, at their top, inside functions, or for types only."""
    assert circles({module(path): imported(path) for path in FILES}) == []


def test_a_circle_would_be_seen() -> None:
    straight = {
        "advkit": set(),
        "advkit.a": {"advkit.b.f"},
        "advkit.b": {"advkit.c"},
        "advkit.c": {"advkit.__version__"},
    }
    assert circles(straight) == []
    assert circles(straight | {"advkit.c": {"advkit.a.g"}}) == [["advkit.a", "advkit.b", "advkit.c"]]
    assert circles({"advkit.a": {"advkit.b"}, "advkit.b": {"advkit.a.f"}}) == [["advkit.a", "advkit.b"]]


def test_no_class_name_exists_twice() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
