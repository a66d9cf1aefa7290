"""The house keeps its floors, and its files fit a sitting."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from advkit.tasks import task

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


ABOVE_TASKS = {part for floor in FLOORS[: FLOORS.index({"tasks"})] for part in floor}
TRUTH = {"label", "labels", "target", "targets", "classes", "truth", "aims"}  # what only a task compares with


def identifier(node: ast.expr) -> str:
    """The last name of ``a.b``, ``a.b[part]``, ``a.b.cpu().numpy()``: ``b``."""
    while isinstance(node, ast.Subscript | ast.Call):
        node = node.value if isinstance(node, ast.Subscript) else node.func
        if isinstance(node, ast.Attribute) and node.attr in ("cpu", "numpy", "to", "long", "unsqueeze"):
            node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def assumptions(path: Path) -> list[str]:
    """Where a file asks which task it is, or judges predictions itself; constants are no truth."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare) and all(isinstance(sign, ast.Eq | ast.NotEq) for sign in node.ops):
            sides = [node.left, *node.comparators]
            names = set(map(identifier, sides))
            constant = any(isinstance(side, ast.Constant) for side in sides) or any(name.isupper() for name in names)
            if TRUTH & names and not constant and "num_classes" not in names:
                found.append(f"{node.lineno}: compares with {ast.unparse(node)}")
        elif isinstance(node, ast.Attribute) and node.attr in ("argmax", "is_classification"):
            found.append(f"{node.lineno}: {node.attr}")
        elif isinstance(node, ast.Constant) and node.value in TASKS:
            found.append(f"{node.lineno}: names {node.value}")
    return found + [name for name in sorted(imported(path)) if name.startswith(MODULES)]


TASKS = set(task.TASKS)
MODULES = (*(place.partition(":")[0] for place in task.TASKS.values()), "advkit.tasks.class_targets")


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(PACKAGE).parts[0] in ABOVE_TASKS],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_nothing_above_tasks_asks_which_task_it_is(path: Path) -> None:
    assert assumptions(path) == []


def test_an_assumption_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    for text in (
        "correct = predictions == labels",
        "fooled = predict(x).cpu() != done.targets[part]",
        "correct = (data.targets.numpy() == found)",
        "hit = logits.argmax(1)",
        "if spec.task == 'classification': pass",
        "from advkit.tasks.classification import class_margin",
        "def f():\n    import advkit.tasks.class_targets",
    ):
        file.write_text(text)
        assert len(assumptions(file)) == 1, text
    for text in (
        "if target == 'next': pass",
        "hit = task.correct(predictions, targets)",
        "from advkit.tasks import task",
    ):
        file.write_text(text)
        assert assumptions(file) == [], text
