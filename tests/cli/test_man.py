"""Manual pages say what the tools take, both ways, and are sound mdoc; schemas are what the models say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from advkit.commands.app import app
from advkit.files.report import TOOLS, schema_text

REPOSITORY = Path(__file__).resolve().parents[2]
MAN = REPOSITORY / "man"
HELP = {
    "advkit-train": ["train"],
    "advkit-attack": ["attack"],
    "advkit-transfer-matrix": ["transfer-matrix"],
    "advkit-evolve": ["evolve"],
    "advkit-evaluate": ["evaluate"],
    "advkit-visualize": ["visualize", "attention"],
    "advkit": [],
}


def offered(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> set[str]:
    app([*arguments, "--help"], standalone_mode=False)
    text = capsys.readouterr().out
    options = [line for line in text.splitlines() if re.match(r"  -", line)]
    assert options
    return {name for line in options for name in re.findall(r"--[a-z][a-z0-9-]*", line.split("   ")[0])}


def documented(page: str) -> set[str]:
    lines = [line for line in (MAN / f"{page}.1").read_text().splitlines() if line.startswith(".It Fl")]
    return {f"--{name}" for line in lines for name in re.findall(r"(?:Fl|,) -([a-z][a-z0-9-]*)", line)}


@pytest.mark.parametrize("page", HELP)
def test_every_option_stands_in_the_page_and_every_one_there_exists(
    page: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert documented(page) == offered(HELP[page], capsys)


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
def test_pages_are_sound_mdoc() -> None:
    found = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *sorted(MAN.iterdir())], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""


def test_every_page_goes_into_the_wheel() -> None:
    listed = re.findall(r'^"(man/[^"]+)" = "share/man/man([15])/', (REPOSITORY / "pyproject.toml").read_text(), re.M)
    assert {name for name, _ in listed} == {f"man/{page.name}" for page in MAN.iterdir()}
    assert all(name.endswith(section) for name, section in listed)


@pytest.mark.parametrize("tool", TOOLS)
def test_schemas_have_not_drifted(tool: str) -> None:
    kept = (REPOSITORY / "advkit/files/schemas" / f"{tool}.json").read_text()
    assert kept == schema_text(tool), "the report changed: write the schema anew, and raise its number if meaning did"


def test_help_is_fast_and_imports_no_torch() -> None:
    code = "import sys; from advkit.commands.app import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=REPOSITORY).returncode == 0
    )
