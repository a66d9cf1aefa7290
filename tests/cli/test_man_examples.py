"""The examples of every manual page, run word for word and in order, in a directory that is empty at first."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import scripted
from executable import REPOSITORY, TIMEOUT, Run, environment

from advkit.commands.app import TOOLS
from advkit.evolution import run_search

PAGES = ["advkit", *(f"advkit-{tool}" for tool in TOOLS)]
WRITTEN = ("-o", "--out", "--report", "--figure", "--figure-architecture")  # options that promise a file
WIDTH = 75  # of 80 columns; pages are indented
ESCAPES = {r"\e": "\\", r"\-": "-", r"\(aq": "'", r"\(dq": '"', r"\&": ""}


def text_of(page: str) -> str:
    return (REPOSITORY / "man" / f"{page}.1").read_text()


def sections(text: str) -> list[str]:
    """Bodies of the sections called EXAMPLES."""
    return re.findall(r"^\.Sh EXAMPLES\n(.*?)(?=^\.Sh |\Z)", text, re.M | re.S)


def commands(text: str) -> list[str]:
    """What stands behind each prompt in the examples of a page, and in the indented lines below it."""
    (body,) = sections(text)
    for escape, meant in ESCAPES.items():
        body = body.replace(escape, meant)
    return re.findall(r"^(?:\.Dl )?\$ (.+(?:\n +.+)*)", body, re.M)


def words_of(command: str) -> list[str]:
    """As a shell splits them."""
    return shlex.split(command.replace("\\\n", ""))


def promised(words: Sequence[str]) -> list[str]:
    """Files that the words of a command say it writes."""
    return [value for option, value in itertools.pairwise(words) if option in (*WRITTEN, ">") and value != "-"]


def status_of(out: str, words: Sequence[str]) -> str:
    """What a report, on stdout or in its file, says under ``status``."""
    text = Path(words[words.index("--report") + 1]).read_text() if "--report" in words else out
    return str(json.loads(text)["status"]) if text.startswith("{") else "done"


@pytest.fixture
def shell(tmp_path: Path) -> Run:
    """``bash``, for which ``advkit`` is the real executable; a pipe fails where any part of it does."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "advkit"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m advkit "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join((str(program.parent), os.environ["PATH"]))

    def call(command: str | Path) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-o", "pipefail", "-c", str(command)]
        return subprocess.run(
            words, env=environment(PATH=path), capture_output=True, text=True, check=False, timeout=TIMEOUT
        )

    return call


PAGE = r"""
.Sh NAME
$ no
.Sh EXAMPLES
Text:
.Dl $ a -o "R'=x"
.Bd -literal
$ b \e
      c | d 'e
      f'
$ g
.Ed
.Sh SEE ALSO
$ no
"""


def test_commands_are_read_as_a_shell_would() -> None:
    assert [words_of(command) for command in commands(PAGE)] == [
        ["a", "-o", "R'=x"],
        ["b", "c", "|", "d", "e\n      f"],
        ["g"],
    ]
    assert promised(["a", "-o", "x", "--report", "-", "--figure", "y", ">", "z"]) == ["x", "y", "z"]


LONG = (  # five to ten seconds each
    *("advkit-adapt", "advkit-adv-pretrain", "advkit-domain-distance", "advkit-evaluate", "advkit-evolve"),
    *("advkit-transfer-matrix", "advkit-visualize"),
)


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page in LONG else page for page in PAGES]
)
def test_examples_do_what_they_say(
    page: str, inside: Run, shell: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(sections(text_of(page))) == 1
    wanted = commands(text_of(page))
    assert [line for command in wanted for line in f"$ {command}".splitlines() if len(line) > WIDTH] == []
    assert any(command.startswith(page.replace("-", " ", 1)) for command in wanted)
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(run_search, "open_executor", scripted.open_inline)  # the same work, without another process
    for command in wanted:
        words = words_of(command)
        missing = [name for name in promised(words) if not Path(name).exists()]
        if words[0] == "advkit" and not {"|", ">", "&&"} & set(words):
            found = inside(*words[1:])
            gated = "--fail-above" in words or "--fail-below" in words
            failed = gated and status_of(found.stdout, words) == "gate-failed"
            assert found.returncode == int(failed), f"{command}\n{found.stderr}"
        elif "jq" in words and shutil.which("jq") is None:
            continue
        else:
            found = shell(command)
            assert (found.returncode, bool(found.stdout)) == (0, ">" not in words), f"{command}\n{found.stderr}"
        assert [name for name in missing if not Path(name).exists()] == [], command
