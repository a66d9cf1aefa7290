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
